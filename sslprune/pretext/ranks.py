"""What a pretext needs of the other processes of a training; in a training of one, nothing."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist


def gather(tensor: Tensor) -> Tensor:
    """The tensors of all processes, equally shaped, one after the other along the first dimension; no gradients."""
    if not _several():
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def mean(tensor: Tensor) -> Tensor:
    """The mean over all processes."""
    if not _several():
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
