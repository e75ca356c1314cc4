"""Whole channels: as one more criterion of the same ladder, and as a network that is really smaller.

Which channels matter is torch-pruning's word (Fang et al. 2023, arXiv 2301.12900: the norm of everything that would go
with a channel, over the mean of its group). What hangs together is checked against our own graph, and where the two
differ, as behind zero-padded shortcuts, the channels are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sslprune.errors import ArchitectureError, KeepError
from sslprune.extras import require
from sslprune.graph.coupling import Coupling, coupling
from sslprune.graph.nodes import Graph
from sslprune.graph.surgery import Kept, shrink_
from sslprune.graph.trace import trace
from sslprune.masks import Mask
from sslprune.models import prunable
from sslprune.prune.select import count_kept


@dataclass(frozen=True)
class Slim:
    """What `slim` did.

    Attributes:
        mask: Over the weights of the network that was given: whole channels.
        channels: By layer that lost some, the channels that stayed, as they were numbered before.
    """

    mask: Mask
    channels: Mapping[str, Kept]


def channel_mask(model: nn.Module, keep: float, size: int, *, within: Mask | None = None, norm: int = 2) -> Mask:
    """The mask of whole channels that keeps the most weights, but at most round(keep x prunable).

    Channels go in the order of their importance over all layers together; channels that `within` has none of go first,
    so the masks of a ladder are nested. No layer loses its last channel, and the features stay as wide as they are.

    Args:
        model: Its present weights decide. Not changed.
        keep: Fraction of the prunable weights that may stay, in (0, 1].
        size: Height and width of its images, in pixels.
        within: Weights that are kept already. None: all.
        norm: 1 or 2: the L1 or L2 norm of a channel's group.

    Returns:
        The mask: rows of a channel and the columns that read it.

    Raises:
        KeepError: Even the smallest network of whole channels keeps more.
        ArchitectureError: The network cannot be traced.
        MissingExtraError: torch-pruning is not installed.
    """
    return _choose(model, keep, size, within, norm)[0]


def slim(
    model: nn.Module, keep: float, size: int, *, within: Mask | None = None, norm: int = 2
) -> tuple[nn.Module, Slim]:
    """Remove the channels that `channel_mask` does not keep.

    Args:
        model: Not changed. Its classifier, if any, keeps all of its outputs.
        keep: Fraction of the prunable weights that may stay, in (0, 1].
        size: Height and width of its images, in pixels.
        within: The weights that are not pruned already. None: all.
        norm: 1 or 2: the L1 or L2 norm of a channel's group.

    Returns:
        A smaller copy with the same classes and state-dict keys, which computes what the model does under the mask; and
        what was done.

    Raises:
        KeepError: Even the smallest network of whole channels keeps more.
        ArchitectureError: The network cannot be traced.
        MissingExtraError: torch-pruning is not installed.
    """
    mask, channels = _choose(model, keep, size, within, norm)
    smaller = deepcopy(model)
    shrink_(smaller, channels)
    return smaller, Slim(mask, channels)


def _choose(model: nn.Module, keep: float, size: int, within: Mask | None, norm: int) -> tuple[Mask, dict[str, Kept]]:
    network = deepcopy(model).cpu().float().eval()
    weights = prunable(network)
    within = Mask.full(weights) if within is None else within.to("cpu")
    graph = trace(network, size)
    coupled = coupling(network, graph)
    worth = _importance(network, graph, coupled, size, norm)
    worth[_gone(graph, coupled, within)] = -1.0
    removable = (
        ~coupled.pinned & ~_read_by_classifier(graph, coupled, weights) & ~worth.isnan() & ~_last(graph, coupled, worth)
    )
    order = torch.sort(torch.where(removable, worth, torch.inf), stable=True).indices[: int(removable.sum())]

    def mask_without(number: int) -> Mask:
        stays = torch.ones_like(coupled.pinned)
        stays[order[:number]] = False
        return _mask(weights, _kept(graph, coupled, stays))

    count = count_kept(keep, within.prunable)
    if (least := mask_without(len(order)).kept) > count:
        raise KeepError(
            f"keep = {keep:g} asks for {count} weights, but whole channels keep at least {least}.",
            "Give a larger keep rate, or prune single weights.",
        )
    few, many = -1, len(order)  # without `few` channels there are still too many weights, without `many` not
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if mask_without(middle).kept <= count else (middle, many)
    stays = torch.ones_like(coupled.pinned)
    stays[order[:many]] = False
    kept = _kept(graph, coupled, stays)
    whole = _mask(weights, kept)
    device = next(model.parameters()).device
    mask = Mask({name: whole[name] & within[name] for name in whole}).to(device)
    return mask, _lost(kept)


def _importance(network: nn.Module, graph: Graph, coupled: Coupling, size: int, norm: int) -> Tensor:
    """By class of channels, torch-pruning's importance of its group; NaN where it is not known. float64 [classes]."""
    tp = _torch_pruning()
    copy: Any = deepcopy(network)  # the dependency graph hooks into the modules
    for parameter in copy.parameters():
        parameter.requires_grad_(True)
    named = {module: name for name, module in copy.named_modules()}
    classifier = copy.get_classifier() if hasattr(copy, "get_classifier") else None
    dependencies = tp.DependencyGraph().build_dependency(copy, torch.zeros(1, 3, size, size))
    measure = tp.importance.GroupMagnitudeImportance(p=norm)
    nodes = {node.layer: node for node in graph.of("conv", "linear", "norm")}
    worth = torch.full(coupled.pinned.shape, torch.nan, dtype=torch.float64)
    groups = dependencies.get_all_groups(
        ignored_layers=[classifier] if isinstance(classifier, nn.Module) else [],
        root_module_types=[nn.Conv2d, nn.Linear],
    )
    for group in groups:
        members = [_classes(coupled, nodes, named, dependency) for dependency, _ in group]
        indices = [list(each) for _, each in group]
        known = [
            classes[torch.tensor(each)]
            for classes, each in zip(members, indices, strict=True)
            if classes is not None and len(each) == len(indices[0]) and max(each) < len(classes)
        ]
        if not known or any(not torch.equal(classes, known[0]) for classes in known):
            continue
        if (found := measure(group)) is not None:
            worth[known[0]] = found.detach().double()
    return worth


def _classes(coupled: Coupling, nodes: Mapping[str, Any], named: Mapping[Any, str], dependency: Any) -> Tensor | None:
    """The classes of the channels that one member of a torch-pruning group prunes; None for what has no parameters."""
    node = nodes.get(named.get(dependency.target.module, ""))
    if node is None:
        return None
    inputs = "in_channels" in dependency.handler.__name__ and node.op != "norm"
    return coupled.classes[node.inputs[0] if inputs else node.name]


def _gone(graph: Graph, coupled: Coupling, within: Mask) -> Tensor:
    """The classes that `within` keeps no weight of: bool [classes]."""
    there = coupled.pinned.clone()
    for node in graph.of("conv", "linear"):
        if (kept := within.get(f"{node.layer}.weight")) is not None:
            there[coupled.classes[node.name][kept.flatten(1).any(1)]] = True
        else:
            there[coupled.classes[node.name]] = True
    return ~there


def _read_by_classifier(graph: Graph, coupled: Coupling, weights: Mapping[str, Tensor]) -> Tensor:
    """The features, which stay whether or not a classifier reads them: no mask covers its weights. bool [classes]."""
    read = torch.zeros_like(coupled.pinned)
    for node in graph.of("conv", "linear"):
        if f"{node.layer}.weight" not in weights:
            read[coupled.classes[node.inputs[0]]] = True
    return read


def _last(graph: Graph, coupled: Coupling, worth: Tensor) -> Tensor:
    """Of every layer the class of the most important channel, which stays: bool [classes]."""
    last = torch.zeros_like(coupled.pinned)
    for node in graph.of("conv", "linear"):
        classes = coupled.classes[node.name]
        last[classes[worth[classes].nan_to_num(nan=torch.inf).argmax()]] = True
    return last


def _kept(graph: Graph, coupled: Coupling, stays: Tensor) -> dict[str, Kept]:
    return {
        node.layer: Kept(stays[coupled.classes[node.inputs[0]]], stays[coupled.classes[node.name]])
        for node in graph.of("conv", "linear", "norm", "pad_channels")
    }


def _lost(kept: Mapping[str, Kept]) -> dict[str, Kept]:
    return {layer: each for layer, each in kept.items() if not bool(each.inputs.all() and each.outputs.all())}


def _mask(weights: Mapping[str, Tensor], kept: Mapping[str, Kept]) -> Mask:
    found = {}
    for name, weight in weights.items():
        mask = torch.ones(weight.shape, dtype=torch.bool)
        if (each := kept.get(name.removesuffix(".weight"))) is not None:
            mask[~each.outputs] = False
            if weight.shape[1] == len(each.inputs):
                mask[:, ~each.inputs] = False
        found[name] = mask
    return Mask(found)


def _torch_pruning() -> Any:
    torch_pruning = require("torch_pruning", extra="slim", purpose="pruning whole channels")
    if not hasattr(torch_pruning, "DependencyGraph"):
        raise ArchitectureError("this torch_pruning has no DependencyGraph.", "Run: pip install 'sslprune[slim]'")
    return torch_pruning
