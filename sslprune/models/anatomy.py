"""What pruning and probing ask of a network: its prunable weights, and its feature maps stage by stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from torch import Tensor, nn

from sslprune.errors import ArchitectureError

_WEIGHTED = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)
# How timm names the tap behind the first convolution: ResNet, MobileNetV3, DenseNet.
_STEM_ENDS = ("act1", "bn1", "norm0")


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that pruning may remove: every convolution's and hidden linear layer's.

    Normalisation layers, biases, layer scales and the last classifier (timm's `get_classifier()`) are left out: Caron
    et al. 2020 (arXiv 2001.03554) never prune batch norm and the last fully connected layer. The names are the same
    with a classifier of any size and without one.

    Args:
        model: A network with timm's `get_classifier`.

    Returns:
        State-dict key to parameter, in state-dict order; a shared weight stands once, under its first name.

    Raises:
        ArchitectureError: The network does not tell its classifier, or has nothing to prune.

    >>> from sslprune.models import build
    >>> list(prunable(build("resnet20_cifar", num_classes=10)))[:2]
    ['conv1.weight', 'layer1.0.conv1.weight']
    """
    taken = {id(parameter) for parameter in _classifier_parameters(model)}
    weights = {}
    for name, module in model.named_modules():
        if isinstance(module, _WEIGHTED) and isinstance(module.weight, nn.Parameter) and id(module.weight) not in taken:
            taken.add(id(module.weight))
            weights[f"{name}.weight" if name else "weight"] = module.weight
    if not weights:
        raise ArchitectureError(
            f"{type(model).__name__} has no convolution and no hidden linear layer to prune.",
            'Take a network with some, for example sslprune.models.build("resnet20_cifar").',
        )
    return weights


def stages(model: nn.Module) -> tuple[str, ...]:
    """The names of the places where a network is probed, shallow to deep: timm's feature taps without the stem.

    Args:
        model: A network with timm's `feature_info`.

    Returns:
        Module names (`layer1` ... `layer4` for a ResNet), or the tap's own name where it has one.

    Raises:
        ArchitectureError: The network has no `feature_info`.

    >>> from sslprune.models import build
    >>> stages(build("resnet20_cifar"))
    ('layer1', 'layer2', 'layer3')
    """
    return tuple(str(tap.get("name") or tap["module"]) for _, tap in _taps(model))


def forward_stages(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Run a network and keep the map at every stage.

    Args:
        model: A network with timm's `feature_info`; its mode (train or eval) is the caller's.
        x: Float [N,C,H,W], pre-processed.

    Returns:
        One float [N,C',H',W'] a stage, in the order of `stages`.

    Raises:
        ArchitectureError: The network has no `feature_info`, or no map with these four dimensions at a stage.
    """
    taps = _taps(model)
    net: Any = model
    if hasattr(net, "forward_intermediates"):
        indices = [index for index, _ in taps]
        maps = net.forward_intermediates(
            x, indices=indices, stop_early=True, output_fmt="NCHW", intermediates_only=True
        )
    else:
        maps = _hooked(model, x, [tap for _, tap in taps])
    if len(maps) != len(taps) or any(map_.ndim != 4 for map_ in maps):
        raise ArchitectureError(
            f"{type(model).__name__} gives no [N,C,H,W] map at some of its stages.",
            "Probe its pooled features instead, or take a convnet.",
        )
    return list(maps)


def _taps(model: nn.Module) -> list[tuple[int, dict[str, Any]]]:
    """Index in `feature_info` and entry of every stage."""
    if not (info := getattr(model, "feature_info", None)):
        raise ArchitectureError(
            f"{type(model).__name__} has no feature_info, so its stages are unknown.",
            "Take one of timm's convnets, or give the network timm's feature_info list.",
        )
    taps = [(index, info[index]) for index in range(len(info))]
    return taps[1:] if len(taps) > 1 and _is_stem(model, [tap["module"] for _, tap in taps]) else taps


def _is_stem(model: nn.Module, modules: list[str]) -> bool:
    """Whether the first tap lies before the first stage: it is named so, or it alone holds no weights to learn.

    Taps behind single activations (VGG, AlexNet) hold no weights anywhere, and all of them are stages.
    """
    parts = modules[0].split(".")
    if parts[0] == "stem" or parts[-1] in _STEM_ENDS:
        return True
    weighted = [any(isinstance(part, _WEIGHTED) for part in model.get_submodule(name).modules()) for name in modules]
    return not weighted[0] and all(weighted[1:])


def _hooked(model: nn.Module, x: Tensor, taps: list[dict[str, Any]]) -> list[Tensor]:
    maps: dict[int, Tensor] = {}

    def keep(index: int, _module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor):
            # A later in-place activation must not change what was seen here.
            maps[index] = output.clone()

    with ExitStack() as stack:
        for index, tap in enumerate(taps):
            handle = model.get_submodule(tap["module"]).register_forward_hook(partial(keep, index))
            stack.callback(handle.remove)
        getattr(model, "forward_features", model)(x)
    return [maps[index] for index in range(len(taps)) if index in maps]


def _classifier_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    if not hasattr(model, "get_classifier"):
        raise ArchitectureError(
            f"{type(model).__name__} does not tell which layer is its classifier.",
            "Give it a get_classifier() method as timm's networks have; nn.Identity() stands for none.",
        )
    net: Any = model
    for module in _modules(net.get_classifier()):
        yield from module.parameters()


def _modules(classifier: Any) -> Iterator[nn.Module]:
    """The classifier's modules; some of timm's networks have more than one."""
    if isinstance(classifier, nn.Module):
        yield classifier
    elif isinstance(classifier, (list, tuple)):
        for part in classifier:
            yield from _modules(part)
