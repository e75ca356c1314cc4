"""Mask: which weights of a network are kept. A mapping beside an ordinary module, never a reparametrisation of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from sslprune.errors import MaskError


@dataclass(frozen=True)
class LayerCount:
    """One line of a mask's table: a prunable weight tensor's name, kept and prunable counts."""

    name: str
    kept: int
    prunable: int

    @property
    def keep(self) -> float:
        """Kept / prunable, in [0, 1]."""
        return self.kept / self.prunable if self.prunable else 1.0


class Mask(Mapping[str, Tensor]):
    """Name of a prunable weight -> boolean tensor of its shape, True where the weight is kept.

    Names are state-dict keys of the module that the mask goes with. A mask never changes after it is made.

    Args:
        kept: One boolean tensor for each prunable weight.

    Raises:
        MaskError: A tensor is not boolean.

    >>> mask = Mask({"conv.weight": torch.tensor([[True, False], [False, False]])})
    >>> mask.keep, mask.kept, mask.prunable
    (0.25, 1, 4)
    """

    def __init__(self, kept: Mapping[str, Tensor]) -> None:
        for name, tensor in kept.items():
            if tensor.dtype != torch.bool:
                raise MaskError(
                    f"the mask of {name} is {tensor.dtype}, not bool.", "Give boolean tensors, True = kept."
                )
        self._kept = {name: tensor.detach() for name, tensor in kept.items()}

    @classmethod
    def full(cls, weights: Mapping[str, Tensor]) -> Self:
        """The mask that keeps every one of these weights."""
        return cls({name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()})

    @classmethod
    def nonzero(cls, weights: Mapping[str, Tensor]) -> Self:
        """The mask that keeps exactly the weights that are not zero."""
        return cls({name: weight != 0 for name, weight in weights.items()})

    def __getitem__(self, name: str) -> Tensor:
        return self._kept[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        return self.keys() == other.keys() and all(torch.equal(self[name], other[name]) for name in self)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Mask(keep={self.keep:.4g}, kept={self.kept}, prunable={self.prunable})"

    @property
    def kept(self) -> int:
        """How many weights are kept."""
        return sum(int(tensor.count_nonzero()) for tensor in self.values())

    @property
    def prunable(self) -> int:
        """How many weights the mask covers, kept or not."""
        return sum(tensor.numel() for tensor in self.values())

    @property
    def keep(self) -> float:
        """Kept / prunable, in [0, 1]."""
        return self.kept / self.prunable if self.prunable else 1.0

    def table(self) -> list[LayerCount]:
        """The counts of every weight tensor, in the network's order."""
        return [LayerCount(name, int(tensor.count_nonzero()), tensor.numel()) for name, tensor in self.items()]

    def is_subset_of(self, other: Mask) -> bool:
        """Whether every weight kept here is kept there: the masks of a ladder are nested so."""
        self._same_weights_as(other)
        return all(not bool((self[name] & ~other[name]).any()) for name in self)

    def overlap(self, other: Mask) -> float:
        """Intersection over union of the kept weights, in [0, 1]; 1 where both keep nothing."""
        self._same_weights_as(other)
        both = sum(int((self[name] & other[name]).count_nonzero()) for name in self)
        either = sum(int((self[name] | other[name]).count_nonzero()) for name in self)
        return both / either if either else 1.0

    def apply_(self, module: nn.Module) -> None:
        """Set the pruned weights of `module` to +0.0, in place.

        Raises:
            MaskError: The module lacks a masked weight, or its shape is another.
        """
        self.hold_(self.weights_of(module))

    @torch.no_grad()
    def hold_(self, weights: Mapping[str, Tensor]) -> None:
        """Set the pruned ones of these tensors to +0.0, in place; names that the mask does not cover are left alone."""
        for name in self.keys() & weights.keys():
            weights[name].masked_fill_(~self[name].to(weights[name].device), 0.0)

    def weights_of(self, module: nn.Module) -> dict[str, nn.Parameter]:
        """The parameters of `module` that this mask covers, checked for name and shape.

        Raises:
            MaskError: The module lacks a masked weight, or its shape is another.
        """
        parameters = dict(module.named_parameters())
        for name, kept in self.items():
            if name not in parameters:
                raise MaskError(
                    f"the network has no weight {name!r}.", "Use the mask of a network of this architecture."
                )
            if parameters[name].shape != kept.shape:
                raise MaskError(
                    f"{name} has shape {tuple(parameters[name].shape)}, its mask {tuple(kept.shape)}.",
                    "Use the mask of a network of this architecture.",
                )
        return {name: parameters[name] for name in self}

    def to(self, device: torch.device | str) -> Mask:
        """The same mask on another device."""
        return Mask({name: tensor.to(device) for name, tensor in self.items()})

    def _same_weights_as(self, other: Mask) -> None:
        if {name: tensor.shape for name, tensor in self.items()} != {
            name: tensor.shape for name, tensor in other.items()
        }:
            raise MaskError("the two masks cover different weights.", "Compare masks of one architecture.")
