"""Rewinding: put a network's whole state (weights, biases, norm buffers) back to an earlier moment, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sslprune.errors import MaskError

State = dict[str, Tensor]


def snapshot(module: nn.Module) -> State:
    """A copy, on the CPU, of everything in the module's state dict; later training does not change it."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in module.state_dict().items()}


@torch.no_grad()
def restore(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy `state` back into the module, in place, so that optimisers and compiled graphs keep their tensors.

    Raises:
        MaskError: A name or shape differs: the state is of another network.
    """
    own = module.state_dict()
    if own.keys() != state.keys() or any(own[name].shape != state[name].shape for name in own):
        different = sorted(own.keys() ^ state.keys()) or [n for n in own if own[n].shape != state[n].shape]
        raise MaskError(f"the state to rewind to does not fit the network at {different[0]!r}.", "Use its own state.")
    for name, tensor in own.items():
        tensor.copy_(state[name])
