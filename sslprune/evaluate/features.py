"""Frozen features: run a backbone over images once and leave no trace in it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from sslprune.errors import ArchitectureError, DatasetError
from sslprune.evaluate.labelled import Images
from sslprune.models.anatomy import forward_stages, stages
from sslprune.models.head import POOLED, check_stage, pool_flat, stage_features


def extract(
    model: nn.Module,
    images: Images,
    *,
    stage: int | str = -1,
    pool: int = 1,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    preprocessing: Callable[[Tensor], Tensor] | None = None,
    progress: bool = False,
) -> Tensor:
    """The features of one stage of a frozen network.

    The network runs in eval mode without gradients; its weights, buffers and training flags are as before afterwards.

    Args:
        model: A backbone with timm's API.
        images: uint8 [N,H,W,3], or already pre-processed float [N,3,H,W].
        stage: A name of `sslprune.models.stages(model)`, a position in it, or "pooled" for the network's own pooled
            features (`num_features` of them).
        pool: Each map is average-pooled to `pool` x `pool` cells, a smaller map is left as it is. Not for "pooled".
        batch_size: Images at a time.
        device: Where to compute; None stays where the model is. A model that had to move is moved back.
        preprocessing: uint8 [N,H,W,3] to float32 [N,3,H,W]; None takes the model's own, `model.sslprune.preprocessing`.
        progress: Whether to draw a bar on stderr.

    Returns:
        Float32 [N,D] on the CPU; D is channels * cells.

    Raises:
        ArchitectureError: The network has no such stage.
        DatasetError: The images have another form, or are uint8 and nothing says how to pre-process them.
    """
    name = stage_name(model, stage)
    _check_pool(pool)
    prepare = _preparation(model, images, preprocessing)

    def features(batch: Tensor) -> dict[str, Tensor]:
        return {name: stage_features(model, prepare(batch), name, pool)}

    with _frozen(model, device) as here:
        return _gather(features, images, batch_size, here, progress)[name]


def extract_stages(
    model: nn.Module,
    images: Images,
    *,
    pool: int = 4,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    preprocessing: Callable[[Tensor], Tensor] | None = None,
    progress: bool = False,
) -> dict[str, Tensor]:
    """The features of all stages of a frozen network, from a single pass.

    Args, errors: see `extract`.

    Returns:
        Stage name to float32 [N,D] on the CPU, shallow to deep.
    """
    names = stages(model)
    _check_pool(pool)
    prepare = _preparation(model, images, preprocessing)

    def features(batch: Tensor) -> dict[str, Tensor]:
        maps = forward_stages(model, prepare(batch))
        return {name: pool_flat(each, pool) for name, each in zip(names, maps, strict=True)}

    with _frozen(model, device) as here:
        return _gather(features, images, batch_size, here, progress)


def stage_name(model: nn.Module, stage: int | str) -> str:
    """The name of a stage given by name or position; see `extract`.

    Raises:
        ArchitectureError: The network has no such stage.
    """
    if stage == POOLED:
        return POOLED
    names = stages(model)
    if isinstance(stage, str):
        return names[check_stage(model, stage)]
    if not -len(names) <= stage < len(names):
        raise ArchitectureError(
            f"{type(model).__name__} has {len(names)} stages, so none at position {stage}.",
            f"It has: {', '.join(names)}; or {POOLED!r}.",
        )
    return names[stage]


def _gather(
    features: Callable[[Tensor], dict[str, Tensor]],
    images: Images,
    batch_size: int,
    device: torch.device,
    progress: bool,
) -> dict[str, Tensor]:
    from tqdm import tqdm

    count = len(images)
    gathered: dict[str, Tensor] = {}
    with tqdm(total=count, desc="features", unit="img", disable=not progress, file=sys.stderr) as bar:
        for start in range(0, count, batch_size):
            batch = _rows(images, start, start + batch_size).to(device)
            with torch.inference_mode():
                found = features(batch)
            # Kept outside inference mode: a tensor made inside could never take part in training.
            for name, rows in found.items():
                if name not in gathered:
                    gathered[name] = torch.empty(count, rows.shape[1])
                gathered[name][start : start + len(rows)].copy_(rows)
            bar.update(len(batch))
    return gathered


@contextmanager
def _frozen(model: nn.Module, device: torch.device | str | None) -> Iterator[torch.device]:
    home = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    here = home if device is None else torch.device(device)
    flags = [(module, module.training) for module in model.modules()]
    try:
        model.to(here).eval()
        yield here
    finally:
        for module, training in flags:
            module.training = training
        model.to(home)


def _preparation(
    model: nn.Module, images: Images, preprocessing: Callable[[Tensor], Tensor] | None
) -> Callable[[Tensor], Tensor]:
    dtype, shape = str(images.dtype).removeprefix("torch."), tuple(images.shape)
    pictures = dtype == "uint8" and len(shape) == 4 and shape[3] == 3
    prepared = dtype.startswith("float") and len(shape) == 4 and shape[1] == 3
    if not (pictures or prepared) or 0 in shape:
        raise DatasetError(
            f"images are {dtype} {shape}.",
            "Give uint8 [N,H,W,3], or pre-processed float32 [N,3,H,W]; at least one.",
        )
    chosen: Callable[[Tensor], Tensor] | None = Tensor.float
    if pictures:
        chosen = preprocessing or getattr(getattr(model, "sslprune", None), "preprocessing", None)
    if chosen is None:
        raise DatasetError(
            f"nothing says how {type(model).__name__} wants its uint8 images pre-processed.",
            "Give preprocessing=sslprune.models.Preprocessing(mean, std, size), or pre-processed float images.",
        )
    # The faster layout on a CPU; the maps, pooled and flattened, come out in the same order.
    return lambda batch: chosen(batch).contiguous(memory_format=torch.channels_last)


def _rows(images: Images, start: int, stop: int) -> Tensor:
    if isinstance(images, Tensor):
        return images[start:stop]
    return torch.from_numpy(np.array(images[start:stop]))  # a copy: the array may be read-only or strided backwards


def _check_pool(pool: int) -> None:
    if pool < 1:
        raise ArchitectureError(f"maps cannot be pooled to {pool} x {pool} cells.", "Give a pool size of 1 or more.")
