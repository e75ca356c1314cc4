"""The descent: train, prune by magnitude, rewind, train again (Frankle & Carbin 2019; Caron et al. 2020, section 3).

Training is a callable, so that every law of the descent is tested in milliseconds on a ten-weight net.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from sslprune.masks import Mask
from sslprune.prune.criteria import Prune
from sslprune.prune.magnitude import prune as by_magnitude
from sslprune.prune.rewind import State, restore, snapshot
from sslprune.prune.schedule import Round


class TrainRound(Protocol):
    """Trains `network` in place under `mask`; what it returns in round 0 is the state that later rounds rewind to."""

    def __call__(self, network: nn.Module, mask: Mask, this: Round) -> State: ...


@dataclass(frozen=True)
class Rung:
    """A keep rate that is published; its weights are the network's until the next rung is asked for.

    Attributes:
        round: The round that trained it.
        mask: Which weights are kept.
        died: For every prunable weight the round before which it was pruned (uint8; 0 where it is still kept).
        origin: The state that later rounds rewind to, W_k or the given weights; also where they warm-start instead.
    """

    round: Round
    mask: Mask
    died: Mapping[str, Tensor]
    origin: State


def descend(
    network: nn.Module,
    weights: Mapping[str, nn.Parameter],
    rounds: Iterable[Round],
    train: TrainRound,
    *,
    prune: Prune = by_magnitude,
    mode: Literal["rewind", "warm", "pretrained"] = "rewind",
) -> Iterator[Rung]:
    """Train the unpruned network, then prune and train again round by round, yielding at each rung.

    Args:
        network: Everything that trains and rewinds, heads included.
        weights: Its prunable weights, by the names that the mask uses.
        rounds: From `schedule.rounds`; the first keeps everything.
        train: Trains one round.
        prune: Finds the masks; by magnitude of all weights together, or as `criteria.pruner` makes it.
        mode: "rewind" goes back to the state that round 0 returned; "warm" goes on from the weights of the round above;
            "pretrained" goes back to the state that `network` has when this is called (Chen et al., CVPR 2021, arXiv
            2012.06908), heads included.

    Yields:
        The rungs from the top down.
    """
    mask = Mask.full(weights)
    died = {name: torch.zeros_like(kept, dtype=torch.uint8) for name, kept in mask.items()}
    first, *later = rounds  # all of them now: a ladder that cannot be is refused before anything trains
    given = snapshot(network) if mode == "pretrained" else None
    trained = train(network, mask, first)
    origin = trained if given is None else given
    yield Rung(first, mask, died, origin)
    for this in later:
        pruned = prune(weights, this.keep, within=mask)
        died = {name: died[name].masked_fill(mask[name] & ~pruned[name], this.number) for name in mask}
        mask = pruned
        if mode != "warm":
            restore(network, origin)
        mask.hold_(weights)
        train(network, mask, this)
        if this.is_rung:
            yield Rung(this, mask, died, origin)
