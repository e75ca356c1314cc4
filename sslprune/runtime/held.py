"""A network put by without its zeros: as small in memory as in a file, and nobody's later changes reach it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class Held:
    """A copy of a network from which ordinary modules are made when one is needed.

    Args:
        model: On any device. Not changed.

    Attributes:
        name: Its class.

    >>> net = nn.Conv2d(3, 8, 3)
    >>> _ = net.weight.data.mul_(torch.rand(8, 3, 3, 3) < 0.1)
    >>> torch.equal(Held(net).module().weight, net.weight)
    True
    """

    def __init__(self, model: nn.Module) -> None:
        self.name = type(model).__name__
        self._packed = []
        hollow: dict[int, object] = {}
        for parameter in model.parameters():
            # Stands for the parameter wherever the network keeps it.
            placeholder = nn.Parameter(torch.empty(0), requires_grad=False)
            hollow[id(parameter)] = placeholder
            self._packed.append((placeholder, _Packed.of(parameter.detach().cpu())))
        self._hollow = deepcopy(model, hollow)

    def module(self) -> nn.Module:
        """A new module: float32, on the CPU, in eval mode, without gradients."""
        full: dict[int, object] = {
            id(placeholder): nn.Parameter(packed.tensor(), requires_grad=False) for placeholder, packed in self._packed
        }
        return deepcopy(self._hollow, full).cpu().float().eval()


@dataclass(frozen=True)
class _Packed:
    """A tensor as its non-zero numbers and their positions; whole where that is less."""

    shape: torch.Size
    values: Tensor
    positions: Tensor | None

    @staticmethod
    def of(tensor: Tensor) -> _Packed:
        flat = tensor.flatten()
        positions = flat.nonzero().flatten()
        if 2 * len(positions) >= len(flat) or len(flat) >= 2**31:
            return _Packed(tensor.shape, flat.clone(), None)
        return _Packed(tensor.shape, flat[positions], positions.int())

    def tensor(self) -> Tensor:
        if self.positions is None:
            return self.values.clone().view(self.shape)
        flat = torch.zeros(self.shape.numel(), dtype=self.values.dtype)
        flat[self.positions.long()] = self.values
        return flat.view(self.shape)
