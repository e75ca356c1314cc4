"""`sslprune.compact`: a pruned network as a smaller ordinary one, still knowing what it is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from sslprune.errors import ArchitectureError
from sslprune.graph.surgery import Kept
from sslprune.masks import Mask
from sslprune.models import prunable
from sslprune.models.head import HeadedBackbone
from sslprune.prune.compact import Compaction, compact_exactly
from sslprune.zoo.info import ModelInfo

_LOG = logging.getLogger(__name__)


def compact(model: nn.Module, *, size: int | None = None) -> nn.Module:
    """Remove every channel that the outputs do not depend on: same outputs, fewer parameters and MACs, for any runtime.

    Args:
        model: A pruned float32 network of one output, from `sslprune.load` or any other. Not changed.
        size: Height and width of its images, in pixels; by default what the network itself says.

    Returns:
        A smaller copy in eval mode: the same classes and state-dict keys with fewer channels (a convolution without a
        bias may get one). It trains, exports and, if it came from `sslprune.load`, saves like any other. Its attribute
        `compaction` says what went and how the outputs compare; if nothing could be removed, it also says why, and the
        network is a plain copy. Intermediate maps have fewer channels too: a probe that sits on them must be there
        before (`sslprune.load(NAME, head=TASK)`).

    Raises:
        ArchitectureError: The size of the images is not known.

    >>> import sslprune
    >>> model = sslprune.load("rotnet-resnet20-keep1%")
    >>> smaller = sslprune.compact(model)
    >>> smaller.compaction.after.parameters < smaller.compaction.before.parameters
    True
    """
    smaller, done = compact_exactly(model, _size(model) if size is None else size)
    if done.reason is not None:
        _LOG.warning("not compacted: %s", done.reason)
    smaller.compaction = done  # type: ignore[assignment]
    if isinstance(info := getattr(model, "sslprune", None), ModelInfo):
        smaller.sslprune = replace(info, **_changed(smaller, info, done))  # type: ignore[assignment]
    return smaller


def _changed(smaller: nn.Module, info: ModelInfo, done: Compaction) -> dict[str, Any]:
    """What is different about a network once channels are gone."""
    if done.reason is not None:
        return {}
    inside = "backbone." if isinstance(smaller, HeadedBackbone) else ""
    backbone = smaller.backbone if isinstance(smaller, HeadedBackbone) else smaller
    kept = {name.removeprefix(inside): kept for name, kept in done.channels.items() if name.startswith(inside)}
    mask = Mask({f"{inside}{name}": weight.detach() != 0 for name, weight in prunable(backbone).items()})
    return {"mask": mask, "keep": mask.keep, "channels": _since_the_first(info.channels, kept)}


def _since_the_first(before: Mapping[str, Kept], now: Mapping[str, Kept]) -> dict[str, Kept]:
    """Two removals as one: what is left after the second, numbered as before the first."""
    return dict(before) | {
        name: Kept(_spread(before[name].inputs, kept.inputs), _spread(before[name].outputs, kept.outputs))
        if name in before
        else kept
        for name, kept in now.items()
    }


def _spread(before: torch.Tensor, now: torch.Tensor) -> torch.Tensor:
    both = before.clone()
    both[before] = now
    return both


def _size(model: Any) -> int:
    if isinstance(info := getattr(model, "sslprune", None), ModelInfo):
        return info.preprocessing.size
    config = getattr(model, "pretrained_cfg", None) or {}
    if size := config.get("input_size"):
        return int(size[-1])
    raise ArchitectureError(
        f"the image size of this {type(model).__name__} is not known.", "Say it: sslprune.compact(model, size=224)."
    )
