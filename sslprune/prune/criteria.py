"""Which weights stay, by any score and scope: one door to all of them, and the options that all of them obey."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, Protocol, get_args

from torch import Tensor, nn

from sslprune.errors import ArchitectureError, KeepError
from sslprune.masks import Mask
from sslprune.prune import scopes, scores
from sslprune.prune.select import Scores, check_count, count_kept, top, top_of_each
from sslprune.prune.synflow import steps, synflow

Score = Literal["magnitude", "lamp", "synflow", "random", "channels-l1", "channels-l2"]
Scope = Literal["global", "layer", "erk"]


class Prune(Protocol):
    """Makes the next mask of a ladder from the weights of now: a subset of `within`, at `keep` of all weights."""

    def __call__(self, weights: Mapping[str, Tensor], keep: float, *, within: Mask | None = None) -> Mask: ...


@dataclass(frozen=True)
class Criterion:
    """How masks are found.

    Args:
        score: What a weight is worth. "magnitude" (the paper), "lamp", "synflow" (without data), "random"; or whole
            channels by the L1 or L2 norm of their group ("channels-l1", "channels-l2": see `structured`).
        scope: "global" ranks all weights together; "layer" keeps the same fraction of every layer; "erk" gives layers
            Erdos-Renyi-kernel densities. LAMP, SynFlow and channels rank globally by their nature.
        guard: Every layer keeps at least so many weights (all of them, if it has fewer). 0: a layer may be emptied.
        stem_keep: The keep rate of the first convolution at every rung; 1.0: it is never pruned. None: like any other.
        first_convs: Prune only the first so many convolutions, in the order of the state dict; the keep rate is then of
            their weights, and all others stay (Caron et al. 2020, Fig. 4). None: prune every layer.
        seed: Of the random score.

    Raises:
        KeepError: An option is out of range, or does not go with the score.
    """

    score: Score = "magnitude"
    scope: Scope = "global"
    guard: int = 0
    stem_keep: float | None = None
    first_convs: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        plain = self.guard == 0 and self.stem_keep is None and self.first_convs is None
        laws = [
            (self.score in get_args(Score), f"score is one of {', '.join(get_args(Score))}"),
            (self.scope in get_args(Scope), f"scope is one of {', '.join(get_args(Scope))}"),
            (self.score in ("magnitude", "random") or self.scope == "global", f"{self.score} goes with scope global"),
            (plain or self.norm is None, f"{self.score} goes without guard, stem_keep and first_convs"),
            (self.guard >= 0, "guard is not negative"),
            (self.stem_keep is None or 0 < self.stem_keep <= 1, "stem_keep is a fraction in (0, 1]"),
            (self.first_convs is None or self.first_convs > 0, "first_convs is positive"),
            (self.first_convs != 1 or self.stem_keep is None, "first_convs = 1 goes without stem_keep"),
        ]
        for holds, law in laws:
            if not holds:
                raise KeepError(f"{law}, which does not hold for {self}.", "Correct the criterion.")

    @property
    def norm(self) -> int | None:
        """Of channels, where whole ones go: 1 or 2."""
        return {"channels-l1": 1, "channels-l2": 2}.get(self.score)

    def to_json(self) -> dict[str, Any]:
        """All options, for the mask's report."""
        return asdict(self)


def find(
    weights: Mapping[str, Tensor],
    keep: float,
    criterion: Criterion = Criterion(),
    *,
    within: Mask | None = None,
    model: nn.Module | None = None,
    size: int | None = None,
) -> Mask:
    """The mask that a criterion finds.

    Exactly round(keep x prunable) weights are kept of all layers that may be pruned (scope "layer": of each of them,
    or its guard); whole channels keep at most so many. Ties go to the earlier position.

    Args:
        weights: Name -> weight tensor, finite.
        keep: Fraction of the weights that may be pruned to keep, in (0, 1].
        criterion: Score, scope and options.
        within: Weights that are kept already; the new mask is a subset of it. None: all.
        model: The network that the weights are of; SynFlow and channels run it.
        size: Height and width of its images, in pixels; likewise.

    Raises:
        KeepError: `keep` is not in (0, 1], more than `within` still keeps, or less than the options promise.
        ArchitectureError: The criterion needs the network and has none, or the network has no convolution.
        MissingExtraError: torch-pruning is needed and missing.
    """
    within = Mask.full(weights) if within is None else within
    if criterion.norm is not None:
        from sslprune.prune.structured import channel_mask

        network, pixels = _network(criterion, model, size)
        return channel_mask(network, keep, pixels, within=within, norm=criterion.norm)
    free, stem = _layers(weights, criterion)
    least = {name: min(criterion.guard, weight.numel()) for name, weight in weights.items()}
    if stem is not None and criterion.stem_keep is not None:
        least[stem] = max(least[stem], count_kept(criterion.stem_keep, weights[stem].numel()))
    least = {name: min(number, int(within[name].sum())) for name, number in least.items()}
    rank = partial(_rank, weights, criterion, model, size)

    if criterion.scope == "layer":
        counts = {name: max(least[name], count_kept(keep, weight.numel())) for name, weight in free.items()}
        if stem is not None:
            counts[stem] = least[stem]
        return _with(within, top_of_each(_of(counts, rank(within)), counts, within=within))
    count = count_kept(keep, sum(weight.numel() for weight in free.values()))
    found = within
    if stem is not None:
        found = _with(found, top(_of([stem], rank(within)), least[stem], within=within))
        del free[stem]
        count -= least[stem]
    if not free:
        check_count(count, 0)
        return found
    if criterion.scope == "erk":
        counts = scopes.erk(free, count, within=within, least=least)
        return _with(found, top_of_each(_of(free, rank(found)), counts, within=found))
    left = sum(int(found[name].sum()) for name in free)
    for fewer in steps(left, count) if criterion.score == "synflow" and count < left else [count]:
        found = _with(found, top(_of(free, rank(found)), fewer, within=found, least=least))
    return found


def pruner(criterion: Criterion, *, model: nn.Module, size: int) -> Prune:
    """A criterion as the function that `lottery.descend` asks for its masks."""
    return partial(find, criterion=criterion, model=model, size=size)


def convolutions(weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The names of the convolutions' weights, in order: those with more than two axes."""
    return tuple(name for name, weight in weights.items() if weight.ndim > 2)


def _layers(weights: Mapping[str, Tensor], criterion: Criterion) -> tuple[dict[str, Tensor], str | None]:
    """The layers that may be pruned, and the stem where it has a keep rate of its own."""
    if criterion.first_convs is None and criterion.stem_keep is None:
        return dict(weights), None
    if not (convs := convolutions(weights)):
        raise ArchitectureError(
            "the network has no convolution, so it has no first ones.", "Leave out stem_keep and first_convs."
        )
    free = weights if criterion.first_convs is None else convs[: criterion.first_convs]
    return {name: weights[name] for name in free}, None if criterion.stem_keep is None else convs[0]


def _rank(
    weights: Mapping[str, Tensor], criterion: Criterion, model: nn.Module | None, size: int | None, mask: Mask
) -> Scores:
    """The scores of all weights, where `mask` is what is left of them."""
    match criterion.score:
        case "lamp":
            return scores.lamp(weights, mask)
        case "random":
            return scores.random(weights, seed=criterion.seed)
        case "synflow":
            network, pixels = _network(criterion, model, size)
            return synflow(network, mask, pixels)
        case _:
            return scores.magnitude(weights)


def _of(names: Iterable[str], ranked: Scores) -> Scores:
    return {name: ranked[name] for name in names}


def _with(mask: Mask, part: Mask) -> Mask:
    """A mask with some of its layers replaced, in its own order."""
    return Mask({name: part.get(name, kept) for name, kept in mask.items()})


def _network(criterion: Criterion, model: nn.Module | None, size: int | None) -> tuple[nn.Module, int]:
    if model is None or size is None:
        raise ArchitectureError(
            f"the score {criterion.score!r} needs the network and the size of its images.", "Give model= and size=."
        )
    return model, size
