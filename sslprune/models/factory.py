"""Build a network by name, from nothing but its name: no download, no file, no trace in the global random state."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from sslprune.errors import ArchitectureError, nearest
from sslprune.models import backbones
from sslprune.models.timm_api import create_model, is_model, list_models

# What would make timm read weights, or give back something that is no backbone.
_REFUSED = frozenset(
    {
        "cache_dir",
        "checkpoint_path",
        "features_only",
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "pretrained_filter_fn",
        "pretrained_model_args",
        "pretrained_strict",
    }
)


def build(arch: str, *, num_classes: int = 0, seed: int | None = None, **kwargs: Any) -> nn.Module:
    """A freshly initialised network in train mode, with timm's API.

    Args:
        arch: A name registered with timm, ours among them (`resnet20_cifar`, ...), without a weights tag.
        num_classes: Outputs of the classifier; 0 for none, then the network gives pooled features.
        seed: Of the initial weights, 0 to 2**32 - 1 (torch reads no more bits): equal seeds give equal weights, bit for
            bit, on the CPU. None draws them as torch would, from the present global state, on torch's default device.
        **kwargs: The network's own options (`in_chans`, `drop_rate`, ...).

    Returns:
        The network. The global random state is as it was.

    Raises:
        ArchitectureError: timm knows no such name, the name points to a file or a repository, or an option is unknown
            or would load weights.

    >>> build("resnet20_cifar", num_classes=10, seed=0)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    _check_name(arch)
    if refused := sorted(_REFUSED & kwargs.keys()):
        raise ArchitectureError(
            f"{', '.join(refused)} cannot be given to build().",
            "It only makes fresh networks; load trained ones with sslprune.load(NAME).",
        )
    with torch.random.fork_rng(devices=[]), nullcontext() if seed is None else torch.device("cpu"):
        if seed is not None:
            # Not torch.manual_seed: that would also seed every accelerator.
            torch.default_generator.manual_seed(seed)
        try:
            model: nn.Module = create_model(arch, pretrained=False, num_classes=num_classes, **kwargs)
        except TypeError as error:
            raise ArchitectureError(
                f"{arch} cannot be built with {kwargs}: {error}",
                "Leave out the options that the network does not have.",
            ) from error
    return model


def _check_name(arch: str) -> None:
    if isinstance(arch, str) and arch.isidentifier() and is_model(arch):
        return
    bare = str(arch).rpartition(":")[2].replace("\\", "/").rstrip("/").rpartition("/")[2].partition(".")[0]
    near = [name for name in (bare, *backbones.OURS) if bare and name.startswith(bare) and is_model(name)]
    raise ArchitectureError(
        f"no architecture is named {arch!r}.",
        f"Nearest: {', '.join(near) or nearest(bare, list_models())}. All: timm.list_models().",
    )
