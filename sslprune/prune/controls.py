"""What a pruned network is compared with: the same mask from fresh weights, the same counts at random places."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from sslprune.masks import Mask
from sslprune.prune.criteria import convolutions
from sslprune.prune.rewind import State, restore
from sslprune.prune.scores import random
from sslprune.prune.select import count_kept, top


def ticket(network: nn.Module, weights: Mapping[str, nn.Parameter], origin: State, mask: Mask) -> None:
    """Make a network its own "Winning Ticket": back to W_k, under the mask, in place (Caron et al. 2020, section 4.2).

    Args:
        network: All that was rewound in the descent, heads included.
        weights: Its prunable weights, by the names that the mask uses.
        origin: The state W_k, as `lottery.Rung.origin` has it.
        mask: The mask to keep.

    Raises:
        MaskError: The state is of another network.
    """
    restore(network, origin)
    mask.hold_(weights)


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


def random_among_nonzero(
    converged: Mapping[str, Tensor], keep: float, *, seed: int, threshold: float = 0.0, within: Mask | None = None
) -> Mask:
    """The corrected random control of CIFAR-10: first what converged to zero by itself, then at random among the rest.

    A network that is mostly zeros at convergence loses nothing with them; random pruning is a fair control only if they
    go first (Caron et al. 2020, section 4.3 and Fig. 10).

    Args:
        converged: The prunable weights of the unpruned network at the end of its training.
        keep: Fraction of all weights to keep, in (0, 1].
        seed: Of the draw; the same seed gives nested masks.
        threshold: Up to which size a weight counts as zero.
        within: Weights that are kept already; the mask is a subset of it. None: all.

    Returns:
        Exactly round(keep x prunable) weights; or, if fewer are not zero, all of those, so that no zero is kept.
    """
    within = Mask.full(converged) if within is None else within
    alive = Mask({name: within[name] & (weight.detach().abs() > threshold).cpu() for name, weight in converged.items()})
    count = min(count_kept(keep, within.prunable), alive.kept)
    return top({name: score.cpu() for name, score in random(converged, seed=seed).items()}, count, within=alive)


def only_first_convs(mask: Mask, count: int) -> Mask:
    """A mask as it is in the first `count` convolutions, with all later layers dense (Caron et al. 2020, Fig. 4 and 9).

    For a descent that prunes these layers alone see `criteria.Criterion(first_convs=...)`; this takes them out of a
    mask that was found over all layers. The paper does not say which of the two its figures show.
    """
    first = convolutions(mask)[:count]
    return Mask({name: kept if name in first else torch.ones_like(kept) for name, kept in mask.items()})


def _unflatten(flat: Tensor, like: Mask) -> Mask:
    pieces = flat.split([kept.numel() for kept in like.values()])
    return Mask({name: piece.view(kept.shape) for (name, kept), piece in zip(like.items(), pieces, strict=True)})
