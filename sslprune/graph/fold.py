"""Fold batch norm into the convolutions before it: the same function in eval mode with fewer numbers."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from sslprune.graph.nodes import Graph, Node
from sslprune.graph.trace import trace
from sslprune.graph.weights import layer_of, norm_map, use_counts


def fold_batch_norm(model: nn.Module, size: int | tuple[int, int]) -> nn.Module:
    """A copy in eval mode whose convolutions and linear layers have absorbed the batch norms that follow them.

    Computed in float64 and rounded once; a weight that is 0 stays 0. A batch norm that does not follow a convolution
    alone (behind a concatenation, say) is left as it is.

    Args:
        model: A float32 network on the CPU that `trace` accepts.
        size: Height and width of its images, in pixels; one number if they are equal.

    Raises:
        ArchitectureError: The network cannot be traced.

    >>> from sslprune.models import build
    >>> folded = fold_batch_norm(build("resnet20_cifar"), 32)
    >>> sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    0
    """
    folded = deepcopy(model).eval()
    for conv, norm in foldable(folded, trace(folded, size)):
        _absorb(layer_of(folded, conv), *norm_map(folded, norm))
        _replace(folded, norm.layer, _remainder(layer_of(folded, norm)))
    return folded


def foldable(model: nn.Module, graph: Graph) -> list[tuple[Node, Node]]:
    """Convolutions (or linear layers) and the batch norms that can be folded into them, in order."""
    once = {layer for layer, count in use_counts(graph).items() if count == 1}
    pairs = []
    for norm in graph.of("norm"):
        conv = graph[norm.inputs[0]]
        alone = conv.op in ("conv", "linear") and len(graph.readers(conv.name)) == 1 and conv.name != graph.output
        if alone and {conv.layer, norm.layer} <= once and _remainder(layer_of(model, norm)) is not None:
            pairs.append((conv, norm))
    return pairs


@torch.no_grad()
def _absorb(conv: Any, scale: Tensor, shift: Tensor) -> None:
    weight = conv.weight
    if conv.bias is not None:
        shift = shift + conv.bias.double() * scale
    weight.copy_((weight.double() * scale.view(-1, *[1] * (weight.ndim - 1))).to(weight.dtype))
    conv.bias = nn.Parameter(shift.to(weight.dtype))


def _remainder(norm: Any) -> nn.Module | None:
    """What a batch norm module does beside normalising: nothing, or timm's dropout and activation."""
    if type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d):
        return nn.Identity()
    if isinstance(getattr(norm, "act", None), nn.Module) and isinstance(getattr(norm, "drop", None), nn.Module):
        return nn.Sequential(norm.drop, norm.act)
    return None


def _replace(model: nn.Module, name: str, module: nn.Module | None) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)
