"""What a network costs to run: multiply-accumulates (MACs) of its prunable weights, dense and with zeros left out."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sslprune.models.anatomy import prunable


def uses(model: nn.Module, size: int | tuple[int, int]) -> dict[str, int]:
    """How many times each prunable weight is used for one image: the positions of its layer's output.

    A tensor of n weights costs n x uses MACs, and with k of them kept k x uses, the zeros left out. Measured by one
    forward pass of zeros in eval mode; the model's mode and state are as before.

    Args:
        model: A network that `prunable` accepts, with three input channels.
        size: Height and width of the image, in pixels; one number if they are equal.

    Returns:
        State-dict name of the weight -> uses, 0 for a layer that the forward pass does not reach.

    >>> from sslprune.models import build
    >>> uses(build("resnet20_cifar"), 32)["layer3.2.conv2.weight"]
    64
    """
    weights = prunable(model)
    counts = dict.fromkeys(weights, 0)
    height, width = (size, size) if isinstance(size, int) else size
    parameter = next(model.parameters())
    with ExitStack() as stack:
        for module in model.modules():
            stack.callback(setattr, module, "training", module.training)
        for name in weights:
            module = model.get_submodule(name.rpartition(".")[0])
            stack.callback(module.register_forward_hook(partial(_count, counts, name)).remove)
        model.eval()
        with torch.inference_mode():
            model(torch.zeros(1, 3, height, width, device=parameter.device, dtype=parameter.dtype))
    return counts


def share_left(model: nn.Module, size: int | tuple[int, int]) -> float:
    """The share of a network's MACs, in [0, 1], that is left once those with zeros are left out.

    Args:
        model, size: See `uses`.

    >>> from sslprune.models import build
    >>> share_left(build("resnet20_cifar", seed=0), 32)
    1.0
    """
    counts, weights = uses(model, size), prunable(model)
    left = sum(count * int(weights[name].count_nonzero()) for name, count in counts.items())
    return left / max(1, sum(count * weights[name].numel() for name, count in counts.items()))


def _count(counts: dict[str, int], name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
    spread = output[0].numel() // (output.shape[-1] if isinstance(module, nn.Linear) else output.shape[1])
    # A transposed convolution uses each weight once for each position of its input instead.
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        spread = inputs[0][0, 0].numel()
    counts[name] += spread
