"""A learner as one of several processes that train it together: its gradients are the means over all of them.

Batch norm. On GPUs the statistics of a batch are those of the global batch (SyncBatchNorm), as with one process. On
CPUs, where SyncBatchNorm does not run, every process normalises by the statistics of its own images, and the running
statistics are the means over the processes, taken after every update: so all processes hold the same state at any
moment, and it does not matter to a single bit when it is stored. Networks without batch norm and dropout learn what one
process learns, up to the rounding of sums.

A training that lost a process and was started again by torchrun goes on from the last checkpoint: with two processes to
the same bits as if nothing had happened; with more up to rounding, for DDP orders its sums anew after its first update.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from sslprune import ranks
from sslprune.errors import MaskError
from sslprune.masks import Mask

Module = TypeVar("Module", bound=nn.Module)


def together(learner: nn.Module, device: torch.device) -> nn.Module:
    """What to call instead of the learner, so that `backward` leaves mean gradients in the learner's parameters.

    Every parameter must take part in every update. The learner itself stays as it is; with one process it is what is
    called.
    """
    if ranks.world() == 1:
        return learner
    accelerated = device.type == "cuda"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the new name of `broadcast_buffers` is too new for torch 2.9
        return DistributedDataParallel(
            _synchronised(learner) if accelerated else learner,
            device_ids=[device] if accelerated else None,
            broadcast_buffers=False,  # they are alike without: see `average_statistics`, and npid's memory
        )


def average_statistics(learner: nn.Module, device: torch.device) -> None:
    """After an update: running statistics of batch norm to their means over all processes, where they differ."""
    if ranks.world() > 1 and device.type != "cuda":
        norms = [module for module in learner.modules() if isinstance(module, _BatchNorm)]
        running = [tensor for norm in norms for tensor in (norm.running_mean, norm.running_var)]
        ranks.average_([tensor for tensor in running if tensor is not None])


def check_same(mask: Mask, number: int) -> None:
    """Refuse to train a round under masks that differ between processes.

    Raises:
        MaskError: They do; on all processes.
    """
    if ranks.world() > 1 and not ranks.agree(_fingerprint(mask)):
        raise MaskError(
            f"the processes found different masks for round {number}.",
            "Train on machines of one kind, with one version of torch.",
        )


def _fingerprint(mask: Mask) -> str:
    digest = hashlib.sha256()
    for name, kept in mask.items():
        digest.update(f"{name} {tuple(kept.shape)} ".encode())
        digest.update(np.packbits(kept.cpu().numpy()).tobytes())
    return digest.hexdigest()


def _synchronised(learner: Module) -> Module:
    """A twin that shares all tensors, so that what is stored and pruned keeps its plain batch norm."""
    from timm.layers import convert_sync_batchnorm  # torch's own would lose the activation of BatchNormAct2d

    shared: list[Tensor] = [*learner.parameters(), *learner.buffers()]
    twin = copy.deepcopy(learner, {id(tensor): tensor for tensor in shared})
    converted: Module = convert_sync_batchnorm(twin)
    return converted
