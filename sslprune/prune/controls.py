"""What a pruned network is compared with: the same mask from fresh weights, the same counts at random places."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sslprune.masks import Mask


def reinitialise(build: Callable[[int], nn.Module], mask: Mask, *, seed: int) -> nn.Module:
    """A freshly drawn network under a given mask: "Random Reinit" (Caron et al. 2020, section 4.2).

    Args:
        build: Draws a network from a seed.
        mask: The mask to keep.
        seed: The seed of the draw; use another than the one the mask was found from.
    """
    network = build(seed)
    mask.apply_(network)
    return network


def permute(mask: Mask, *, seed: int) -> Mask:
    """A mask with as many kept weights at uniformly random places of the whole network.

    The permutation is global, over all tensors together (the paper's "Random", section 4.3), so the counts of single
    layers change; the total is exact.
    """
    order = torch.randperm(mask.prunable, generator=torch.Generator().manual_seed(seed))
    flat = torch.cat([kept.flatten().cpu() for kept in mask.values()])[order]
    return _unflatten(flat, mask)


def permute_within_layers(mask: Mask, *, seed: int) -> Mask:
    """A mask with as many kept weights in every layer, at uniformly random places of it."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = [kept.flatten().cpu()[torch.randperm(kept.numel(), generator=generator)] for kept in mask.values()]
    return _unflatten(torch.cat(shuffled), mask)


def _unflatten(flat: Tensor, like: Mask) -> Mask:
    pieces = flat.split([kept.numel() for kept in like.values()])
    return Mask({name: piece.view(kept.shape) for (name, kept), piece in zip(like.items(), pieces, strict=True)})
