"""Frozen features: run a backbone over images once and leave no trace in it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sslprune import ranks
from sslprune.errors import ArchitectureError, DatasetError
from sslprune.evaluate.batches import Data, batches, is_indexed, is_pair, length, preparation, to_device
from sslprune.evaluate.labelled import Images, label_shape, label_tensor
from sslprune.evaluate.reader import Reader
from sslprune.models.anatomy import stages
from sslprune.models.head import POOLED, check_stage


def extract(
    model: nn.Module,
    images: Data | Images,
    *,
    stage: int | str = -1,
    pool: int | None = 1,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    preprocessing: Callable[[Tensor], Tensor] | None = None,
    progress: bool = False,
    runtime: str = "torch",
) -> Tensor:
    """The features of one stage of a frozen network.

    The network runs in eval mode without gradients; its weights, buffers and training flags are as before afterwards.

    Args:
        model: A backbone with timm's API.
        images: uint8 [N,H,W,3], or already pre-processed float [N,3,H,W]; or a Dataset or DataLoader of such images
            (or PIL images), with labels or without.
        stage: A name of `sslprune.models.stages(model)`, a position in it, or "pooled" for the network's own pooled
            features (`num_features` of them).
        pool: Each map is average-pooled to `pool` x `pool` cells, a smaller map is left as it is. None: as many cells
            as keep it within `sslprune.evaluate.reader.MAX_DIMS` features. Not for "pooled".
        batch_size: Images at a time.
        device: Where to compute; None stays where the model is. A model that had to move is moved back.
        preprocessing: uint8 [N,H,W,3] to float32 [N,3,H,W]; None takes the model's own, `model.sslprune.preprocessing`.
        progress: Whether to draw a bar on stderr.
        runtime: "torch"; "sparse" for the sparse engine, which runs what it does not know in torch; or "auto", which
            takes the engine where it is faster (`sslprune.evaluate.reader.Reader` has the rule).

    Returns:
        Float32 [N,D] on the CPU; D is channels * cells.

    Raises:
        ArchitectureError: The network has no such stage.
        UnknownRuntimeError: There is no such runtime.
        DeviceError: The sparse engine was asked for elsewhere than on the CPU.
        DatasetError: The images have another form, or are uint8 and nothing says how to pre-process them.
    """
    name = stage_name(model, stage)
    reader = Reader(model, name, pool, runtime=runtime, expected=length(images))
    return _gather(model, reader, images, batch_size, device, preprocessing, progress)[0][name]


def extract_stages(
    model: nn.Module,
    images: Data | Images,
    *,
    pool: int | None = 4,
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
    return _gather(model, Reader(model, None, pool), images, batch_size, device, preprocessing, progress)[0]


def extract_labelled(
    model: nn.Module,
    data: Data,
    *,
    stage: int | str | None = None,
    what: str = "train",
    multi: bool = False,
    pool: int | None = 4,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    preprocessing: Callable[[Tensor], Tensor] | None = None,
    progress: bool = False,
    shared: bool = False,
) -> tuple[dict[str, Tensor], Tensor]:
    """Features and labels of labelled images, from a single pass.

    Args:
        data: (images, labels), or a Dataset or DataLoader of such pairs.
        stage: As for `extract`; None takes all stages.
        what: "train" or "test", for messages.
        multi: Whether labels are -1, 0 and 1 for each class, [N,C], and not a class number, [N].
        model, pool, batch_size, device, preprocessing, progress: See `extract`.
        shared: Whether all processes of a training make this call together: each extracts its part of the batches, and
            rank 0 gets what one process would, bit for bit; the others nothing. What can only be read from its start,
            such as a DataLoader, rank 0 extracts alone.

    Returns:
        Stage name to float32 [N,D], and the labels int64 [N] or int8 [N,C], all on the CPU.

    Raises:
        ArchitectureError, DatasetError: See `extract`; or labels and images do not fit.
    """
    name = None if stage is None else stage_name(model, stage)
    return read_labelled(
        model,
        Reader(model, name, pool),
        data,
        what=what,
        multi=multi,
        batch_size=batch_size,
        device=device,
        preprocessing=preprocessing,
        progress=progress,
        shared=shared,
    )


def read_labelled(
    model: nn.Module,
    reader: Reader,
    data: Data,
    *,
    what: str = "train",
    multi: bool = False,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    preprocessing: Callable[[Tensor], Tensor] | None = None,
    progress: bool = False,
    shared: bool = False,
) -> tuple[dict[str, Tensor], Tensor]:
    """`extract_labelled` by a reader of the model's stages that several data sets share."""
    check = label_shape if multi else label_tensor
    if is_pair(data):  # refused before the network has run, and not after
        check(data[1], len(data[0]), what=what)  # type: ignore[index]
    features, labels = _gather(model, reader, data, batch_size, device, preprocessing, progress, shared)
    if shared and not ranks.is_first():
        return {}, torch.empty(0)
    if labels is None:
        raise DatasetError(f"the {what} images have no labels.", "Give (images, labels), or items (image, label).")
    return features, check(labels, len(labels), what=what)


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


@contextmanager
def frozen(model: nn.Module, device: torch.device | str | None) -> Iterator[torch.device]:
    """In the body the model is in eval mode on a device; afterwards it is where and as it was, bit for bit."""
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


def _gather(
    model: nn.Module,
    reader: Reader,
    data: Data | Images,
    batch_size: int,
    device: torch.device | str | None,
    preprocessing: Callable[[Tensor], Tensor] | None,
    progress: bool,
    shared: bool = False,
) -> tuple[dict[str, Tensor], Tensor | None]:
    from tqdm import tqdm

    shared = shared and ranks.world() > 1
    own = _own_part(data, batch_size) if shared else None
    prepare = preparation(model, preprocessing)
    gathered: dict[str, list[Tensor]] = {}
    labels: list[Tensor] = []
    total = length(data) if own is None else len(own)
    bar = tqdm(total=total, desc="features", unit="img", disable=not progress, file=sys.stderr)
    with bar, frozen(model, device) as here:
        for images, some in batches(data, batch_size, own) if own is None or own else ():
            with torch.inference_mode():
                # The faster layout on a CPU; the maps, pooled and flattened, come out in the same order.
                found = reader(prepare(to_device(images, here)).contiguous(memory_format=torch.channels_last))
            # Copied outside inference mode: a tensor made inside could never take part in training.
            for name, rows in found.items():
                gathered.setdefault(name, []).append(torch.empty(rows.shape).copy_(rows))
            labels += [] if some is None else [some.cpu()]
            bar.update(len(images))
    if shared:
        return _on_first(gathered, labels)
    if not gathered:
        raise DatasetError("images are none at all.", "Give at least one image.")
    return _whole(gathered), torch.cat(labels) if labels else None


def _whole(parts: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    # Popped, so that no more than one stage is in memory twice.
    return {name: torch.cat(parts.pop(name)) for name in list(parts)}


def _own_part(data: Data | Images, batch_size: int) -> Sequence[int] | None:
    """This process's images: whole batches, so that each is computed as one process computes it."""
    if not is_indexed(data):
        return None if ranks.is_first() else ()
    count = length(data) or 0
    total, world = math.ceil(count / batch_size), ranks.world()
    first, last = (total * each // world * batch_size for each in (ranks.rank(), ranks.rank() + 1))
    return range(first, min(last, count))


def _on_first(features: dict[str, list[Tensor]], labels: list[Tensor]) -> tuple[dict[str, Tensor], Tensor | None]:
    """The parts of all processes on rank 0."""
    found = ranks.collect(_whole(features)) or {}
    listed = ranks.collect({"labels": torch.cat(labels)} if labels else {}) or {}
    if ranks.is_first() and not found:
        raise DatasetError("images are none at all.", "Give at least one image.")
    return found, listed.get("labels")
