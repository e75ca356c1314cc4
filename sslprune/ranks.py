"""The processes of one training, started by torchrun: who is who, and all that they tell each other.

Without torchrun there is one process, and every function here gives back what it was given.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from sslprune.errors import DeviceError, RanksError, SslpruneError

MEETING = timedelta(minutes=3)
"""How long a process waits for the others at the start, before it gives up for torchrun to start all again."""
PATIENCE = timedelta(hours=12)
"""How long a process waits for another: rank 0 fits probes while the rest wait."""

_ROWS = 1 << 14
"""Sent at a time, since not every transport takes messages of more than 2 GiB."""

Made = TypeVar("Made")


@contextmanager
def joined(device: str = "cpu") -> Iterator[str]:
    """In the body this process is one of those that torchrun started, if it did; "cuda" is then a GPU of its own.

    Messages between CPUs go through gloo, between GPUs through NCCL.

    Args:
        device: What was asked for.

    Yields:
        The device of this process.

    Raises:
        DeviceError: There is no GPU for this process.
        RanksError: There shall be several processes, but torchrun's variables are incomplete, or they do not meet.
    """
    environment = os.environ
    if device == "cuda" and "LOCAL_RANK" in environment:
        device = f"cuda:{environment['LOCAL_RANK']}"
    if int(environment.get("WORLD_SIZE") or 1) == 1 or dist.is_initialized():
        yield device
        return
    if missing := [name for name in _VARIABLES if name not in environment]:
        raise RanksError(
            f"WORLD_SIZE is {environment['WORLD_SIZE']}, but {', '.join(missing)} is not set.",
            "Start the processes with torchrun, or unset WORLD_SIZE to train in one.",
        )
    accelerated = torch.device(device).type == "cuda"
    try:
        if accelerated:
            torch.cuda.set_device(device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(
            f"there is no device {device!r} here: {str(error).partition(chr(10))[0]}",
            "Let --nproc-per-node be at most the number of GPUs; see `sslprune doctor`.",
        ) from error
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if accelerated else "gloo", timeout=MEETING)
    except (RuntimeError, ValueError) as error:
        raise RanksError(
            f"the processes do not meet: {str(error).partition(chr(10))[0]}",
            "Check torchrun's --rdzv-endpoint (--master-addr, --master-port) and the network between the nodes.",
        ) from error
    dist.distributed_c10d._set_pg_timeout(PATIENCE)
    # Not in a `finally`: with an error on the way out, the others may be gone, and taking leave would wait for them.
    yield device
    dist.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if _several() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _several() else 1


def is_first() -> bool:
    """Whether this is the process that reads what was stored, writes, and talks."""
    return rank() == 0


def on_first(make: Callable[[], Made]) -> Made:
    """Do something on rank 0 alone and give its result to all; an error of it is raised on all."""
    if not _several():
        return make()
    told: list[Any] = [None, None]
    if is_first():
        try:
            told[0] = make()
        except SslpruneError as error:
            told[1] = error
        except Exception as error:
            dist.broadcast_object_list([None, RanksError(f"rank 0 failed: {error!r}.", "See its own message.")])
            raise
    dist.broadcast_object_list(told)
    if told[1] is not None:
        raise told[1]
    made: Made = told[0]
    return made


def agree(mine: str) -> bool:
    """Whether all processes say the same."""
    if not _several():
        return True
    said: list[Any] = [None] * world()
    dist.all_gather_object(said, mine)
    return len(set(said)) == 1


def gather(tensor: Tensor) -> Tensor:
    """The tensors of all processes, equally shaped, one after the other along the first dimension; no gradients."""
    if not _several():
        return tensor
    parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(world())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def gather_learning(tensor: Tensor) -> Tensor:
    """`gather` with gradients: of what every process computes from the whole, for its own part.

    Where all processes compute the same loss from what was gathered, the mean of their parameters' gradients, which is
    what DDP takes, is the gradient of that loss.
    """
    if not _several():
        return tensor
    gathered: Tensor = _Gather.apply(tensor)  # type: ignore[no-untyped-call]
    return gathered


def mean(tensor: Tensor) -> Tensor:
    """The mean over all processes."""
    if not _several():
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total / world()


@torch.no_grad()
def average_(tensors: Sequence[Tensor]) -> None:
    """Set each of these tensors to its mean over all processes, in place, by one message."""
    if not _several() or not tensors:
        return
    averaged = mean(torch.cat([tensor.flatten() for tensor in tensors]))
    for tensor, values in zip(tensors, averaged.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(values.view_as(tensor))


def collect(tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Rows of all processes on rank 0, in order; None on the others.

    Args:
        tensors: Name -> [n, ...] on the CPU; processes may differ in n, and those with no rows may have no names.
    """
    shapes: list[Any] = [{name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}]
    if _several():
        mine, shapes = shapes[0], [None] * world()
        dist.all_gather_object(shapes, mine)
    if not is_first():
        for tensor in tensors.values():
            for piece in tensor.contiguous().split(_ROWS):
                dist.send(piece, 0)
        return None
    rows: dict[str, list[Tensor]] = {name: [] for shape in shapes for name in shape}
    for sender, shape in enumerate(shapes):
        for name, (size, dtype) in shape.items():
            part = tensors[name] if sender == 0 else torch.empty(size, dtype=dtype)
            for piece in part.split(_ROWS) if sender else ():
                dist.recv(piece, sender)
            rows[name].append(part)
    # Popped, so that no more than one is in memory twice.
    return {name: torch.cat(rows.pop(name)) for name in list(rows)}


_VARIABLES = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.rows = len(tensor)
        return gather(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total.narrow(0, rank() * ctx.rows, ctx.rows)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
