"""The differences that each claim is about, taken from the tables: pure functions, one for each kind of claim."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from sslprune.report.sample import Contrast, Sample, Term, difference, pooled
from sslprune.report.tables import Frozen, Retrained, Tables, Tuned, Zeros, distinct
from sslprune.report.words import criterion, depth, optimiser, percent, pretext, task

LEARNED = ("rotnet", "exemplar")
"""The pretexts whose masks the paper re-trains on labels."""

RARE = 0.055
"""Up to this keep rate a claim about few weights is tested: 5 % as masks really come out."""

MODERATE = 0.2
"""From this keep rate up pruning is moderate."""

COUNTS_AS_ZERO = 1e-8
"""Our largest threshold below the machine precision of float32, 1.2e-7."""

Keeps = Callable[[float], bool]


def pruned_features(tables: Tables, pretexts: tuple[str, ...], keeps: Keeps, *, sign: float = 1.0) -> list[Contrast]:
    """Frozen features of pruned networks minus those of their unpruned parent (times `sign`).

    Of linear classifiers. The last stage, which is the paper's, is decisive; the best stage is shown beside.
    """
    found = []
    for stage in ("last", "best"):
        for parent, rungs in _ladders(tables, pretexts, stage):
            for rung in rungs:
                if not keeps(rung.keep):
                    continue
                cells = [(percent(key.keep), tables.frozen[key]) for key in (rung, parent)]
                what = f"{_where(rung)}: {percent(rung.keep)} minus unpruned"
                if sign < 0:
                    cells.reverse()
                    what = f"{_where(rung)}: unpruned minus {percent(rung.keep)}"
                like = _like_features(tables, rung, {rung.keep, 1.0})
                found.append(difference(what, cells[0], cells[1], like, decisive=stage == "last"))
    return found


def mean_of_pruned_features(tables: Tables, pretexts: tuple[str, ...], keeps: Keeps) -> list[Contrast]:
    """The mean over several rungs minus the parent: one comparison, so that no lucky rung is picked."""
    found = []
    for stage in ("last", "best"):
        for parent, ladder in _ladders(tables, pretexts, stage):
            rungs = [rung for rung in ladder if keeps(rung.keep)]
            if not rungs:
                continue
            terms = [Term(1 / len(rungs), percent(rung.keep), tables.frozen[rung]) for rung in rungs]
            spread, freedom = pooled(_like_features(tables, parent, {1.0, *(rung.keep for rung in rungs)}))
            what = f"{_where(parent)}: mean of {', '.join(percent(rung.keep) for rung in rungs)} minus unpruned"
            minus = Term(-1.0, "100 %", tables.frozen[parent])
            found.append(Contrast(what, (*terms, minus), spread, freedom, decisive=stage == "last"))
    return found


def before_minus_during(tables: Tables) -> list[Contrast]:
    """Fine-tuned accuracy: pruned before the transfer minus pruned during it, at the same keep rate."""
    found: list[Contrast] = []
    for key, before in tables.tuned.items():
        during = tables.tuned.get(key._replace(pruned="during"))
        if key.pruned != "before" or during is None:
            continue
        like = [sample for other, sample in tables.tuned.items() if _setting(other) == _setting(key)]
        what = f"{key.arch}, {pretext(key.pretext, key.variant)}, {key.tested}, {percent(key.keep)}"
        found.append(difference(what, ("before", before), ("during", during), like))
    return found


@dataclass(frozen=True)
class Retraining:
    """The cells of one network, data set, training and rewind point: what may be compared.

    Attributes:
        where: What the comparisons are called by.
        cells: The cells.
    """

    where: str
    cells: Mapping[Retrained, Sample]

    def keeps(self, wanted: Keeps) -> list[float]:
        """The keep rates that are there, descending."""
        return sorted({key.keep for key in self.cells if wanted(key.keep)}, reverse=True)

    def cell(
        self,
        criterion: str,
        keep: float,
        init: str = "reinit",
        *,
        control: str = "",
        subset: str = "",
        first_convs: int | None = None,
    ) -> Sample | None:
        """A cell, None where it was not measured."""
        if criterion == "random":
            control = "permuted"
        for key, sample in self.cells.items():
            if key[4:] == (criterion, subset, init, control, first_convs, keep):
                return sample
        return None

    def like(self, keep: float, *, controls: bool) -> list[Sample]:
        """The samples at a keep rate, from which chance is estimated; random masks vary more than found ones."""
        return [sample for key, sample in self.cells.items() if key.keep == keep and (controls or not key.control)]


def retrainings(tables: Tables) -> list[Retraining]:
    """All settings in which masks were re-trained."""
    found = []
    for setting in distinct(tables.retrained, lambda key: key[:4]):
        cells = {key: sample for key, sample in tables.retrained.items() if key[:4] == setting}
        found.append(Retraining(f"{setting[0]}, {setting[1]}", cells))
    return found


def masks_against_labels(tables: Tables, init: str) -> list[Contrast]:
    """Label-free minus supervised, both from the same initialisation, where few weights are kept."""
    return [
        contrast
        for group in retrainings(tables)
        for keep in group.keeps(lambda keep: keep <= RARE)
        for name in LEARNED
        for contrast in _pair(group, keep, (name, init, ""), ("labels", init, ""))
    ]


def labels_against_masks(tables: Tables, init: str) -> list[Contrast]:
    """Supervised minus label-free, both from the same initialisation, where few weights are kept."""
    return [
        contrast
        for group in retrainings(tables)
        for keep in group.keeps(lambda keep: keep <= RARE)
        for name in LEARNED
        for contrast in _pair(group, keep, ("labels", init, ""), (name, init, ""))
    ]


def ticket_minus_reinit(tables: Tables, criteria: tuple[str, ...]) -> list[Contrast]:
    """Winning tickets minus random re-initialisation of the same mask, where few weights are kept."""
    return [
        contrast
        for group in retrainings(tables)
        for keep in group.keeps(lambda keep: keep <= RARE)
        for name in criteria
        for contrast in _pair(group, keep, (name, "ticket", ""), (name, "reinit", ""))
    ]


def above_random(tables: Tables, criteria: tuple[str, ...], init: str) -> list[Contrast]:
    """Found masks minus permuted ones, where few weights are kept; beside it minus the corrected random masks."""
    found: list[Contrast] = []
    for group in retrainings(tables):
        for keep in group.keeps(lambda keep: keep <= RARE):
            for name in criteria:
                found += _pair(group, keep, (name, init, ""), ("random", "reinit", "permuted"))
                for corrected in _corrected(group, keep):
                    found += _pair(group, keep, (name, init, ""), (corrected, "reinit", "nonzero"), decisive=False)
    return found


def gap_to_random_grows(tables: Tables, criteria: tuple[str, ...]) -> list[Contrast]:
    """(Ticket minus random) at the lowest keep rate, minus the same at the highest."""
    found = []
    for group in retrainings(tables):
        for name in criteria:
            both = [
                (keep, ticket, random)
                for keep in group.keeps(lambda keep: keep < 1)
                if (ticket := group.cell(name, keep, "ticket")) and (random := group.cell("random", keep))
            ]
            if len(both) < 2:
                continue
            (high, *first), (low, *last) = both[0], both[-1]
            labels = (pretext(name), "random")
            terms = [Term(1.0, labels[0], last[0]), Term(-1.0, labels[1], last[1])]
            terms += [Term(-1.0, labels[0], first[0]), Term(1.0, labels[1], first[1])]
            spread, freedom = pooled([*group.like(low, controls=True), *group.like(high, controls=True)])
            what = f"{group.where}, {pretext(name)}: gap at {percent(low)} minus gap at {percent(high)}"
            found.append(Contrast(what, tuple(terms), spread, freedom))
    return found


def random_against_labels(tables: Tables) -> list[Contrast]:
    """Permuted minus supervised masks, both re-initialised, at moderate keep rates."""
    return [
        contrast
        for group in retrainings(tables)
        for keep in group.keeps(lambda keep: MODERATE <= keep < 1)
        for contrast in _pair(group, keep, ("random", "reinit", "permuted"), ("labels", "reinit", ""))
    ]


def corrected_minus_random(tables: Tables) -> list[Contrast]:
    """Random among what did not converge to zero, minus random among all."""
    return [
        contrast
        for group in retrainings(tables)
        for keep in group.keeps(lambda keep: keep < 1)
        for corrected in _corrected(group, keep)
        for contrast in _pair(group, keep, (corrected, "reinit", "nonzero"), ("random", "reinit", "permuted"))
    ]


def gap_grows_with_depth(tables: Tables) -> list[Contrast]:
    """(Supervised minus RotNet tickets) with the most convolutions pruned, minus the same with the fewest."""
    found = []
    for group in retrainings(tables):
        for keep in group.keeps(lambda keep: keep < 1):
            depths = sorted({key.first_convs for key in group.cells if key.keep == keep}, key=_depth_order)
            both = [
                (convs, labels, rotnet)
                for convs in depths
                if (labels := group.cell("labels", keep, "ticket", first_convs=convs))
                and (rotnet := group.cell("rotnet", keep, "ticket", first_convs=convs))
            ]
            if len(both) < 2:
                continue
            (few, *shallow), (many, *deep) = both[0], both[-1]
            terms = [Term(1.0, "Labels", deep[0]), Term(-1.0, "RotNet", deep[1])]
            terms += [Term(-1.0, "Labels", shallow[0]), Term(1.0, "RotNet", shallow[1])]
            spread, freedom = pooled(group.like(keep, controls=False))
            what = f"{group.where}, {percent(keep)}: gap with {depth(many)} minus gap with {depth(few)} pruned"
            found.append(Contrast(what, tuple(terms), spread, freedom))
    return found


def subset_tickets(tables: Tables, left: tuple[str, str], right: tuple[str, str]) -> list[Contrast]:
    """Winning tickets of one (criterion, subset) minus those of another, at every keep rate."""
    found = []
    for group in retrainings(tables):
        for keep in group.keeps(lambda keep: keep < 1):
            cells = [group.cell(name, keep, "ticket", subset=subset) for name, subset in (left, right)]
            if cells[0] is None or cells[1] is None:
                continue
            names = criterion(*left), criterion(*right)
            what = f"{group.where}, {percent(keep)}: {names[0]} minus {names[1]}"
            like = group.like(keep, controls=False)
            found.append(difference(what, (names[0], cells[0]), (names[1], cells[1]), like))
    return found


def mostly_zeros(tables: Tables) -> list[Contrast]:
    """The share of zeros of supervised networks trained with Adam, minus one half; the longest training decides."""
    wanted = [
        key for key in tables.zeros if (key.pretext, key.optimizer, key.threshold) == ("labels", "adam", COUNTS_AS_ZERO)
    ]
    found = []
    for key in wanted:
        longest = max(other.updates for other in wanted if other[:2] == key[:2])
        spread, freedom = pooled([tables.zeros[key]])
        what = f"{key.arch}, {key.data}, {key.updates:,} updates: share of zeros minus 50"
        term = Term(1.0, f"up to {COUNTS_AS_ZERO:g}", tables.zeros[key])
        found.append(
            Contrast(what, (term,), spread, freedom, decisive=key.updates == longest, against=50.0),
        )
    return found


def adam_minus_sgd(tables: Tables) -> list[Contrast]:
    """Exact zeros with Adam minus those with SGD, for as many updates of the same pretext."""
    found = []
    for key, adam in tables.zeros.items():
        if key.optimizer != "adam" or key.threshold != 0:
            continue
        for other, sgd in tables.zeros.items():
            if other.optimizer == "sgd" and _same_training(key, other):
                what = f"{key.arch}, {key.data}, {pretext(key.pretext)}, {key.updates:,} updates"
                names = [
                    f"{optimiser(each.optimizer)}, lr {each.lr:g}, decay {each.weight_decay:g}" for each in (key, other)
                ]
                found.append(difference(what, (names[0], adam), (names[1], sgd), [adam, sgd]))
    return found


def rewind_points(tables: Tables) -> list[Contrast]:
    """Supervised tickets: the best rewind point minus the worst, at the same keep rate."""
    found = []
    for setting in distinct(tables.retrained, lambda key: (key.arch, key.tested, key.training, key.keep)):
        cells = {
            key.rewind: sample
            for key, sample in tables.retrained.items()
            if (key.arch, key.tested, key.training, key.keep) == setting
            and (key.criterion, key.subset, key.init, key.first_convs) == ("labels", "", "ticket", None)
        }
        if len(cells) < 2:
            continue
        ranked = sorted(cells.items(), key=lambda item: (item[1].mean, item[0]))
        what = f"{setting[0]}, {setting[1]}, {percent(setting[3])}: best minus worst of {len(cells)} rewind points"
        found.append(difference(what, ranked[-1], ranked[0], list(cells.values())))
    return found


def _pair(
    group: Retraining, keep: float, left: tuple[str, str, str], right: tuple[str, str, str], *, decisive: bool = True
) -> Iterator[Contrast]:
    """The difference of two cells (criterion, initialisation, control), if both are there."""
    one, other = (group.cell(name, keep, init, control=control) for name, init, control in (left, right))
    if one is None or other is None:
        return
    same_init = left[1] == right[1]
    names = [_cell_name(*cell, init_shown=not same_init or left[0] == right[0]) for cell in (left, right)]
    like = group.like(keep, controls=bool(left[2] or right[2]))
    what = f"{group.where}, {percent(keep)}: {names[0]} minus {names[1]}"
    yield difference(what, (names[0], one), (names[1], other), like, decisive=decisive)


def _cell_name(name: str, init: str, control: str, *, init_shown: bool) -> str:
    if control == "permuted":
        return "random"
    if control == "nonzero":
        return f"corrected random ({pretext(name)})"
    return f"{pretext(name)} {init}" if init_shown else pretext(name)


def _corrected(group: Retraining, keep: float) -> list[str]:
    found = {key.criterion for key in group.cells if key.control == "nonzero" and key.keep == keep}
    return sorted(found)


def _ladders(tables: Tables, pretexts: tuple[str, ...], stage: str) -> Iterator[tuple[Frozen, list[Frozen]]]:
    """Unpruned networks and their rungs, descending; of a pretext with several variants the plain one."""
    parents = [
        key
        for key in tables.frozen
        if key.stage == stage and key.task != "knn" and key.pretext in pretexts and key.keep == 1.0
    ]
    for parent in parents:
        variants = sorted(other.variant for other in parents if other[:6] == parent[:6])  # "" sorts first
        if parent.variant != variants[0]:
            continue
        rungs = [key for key in tables.frozen if key[:7] == parent[:7] and key.keep < 1]
        yield parent, sorted(rungs, key=lambda key: -key.keep)


def _like_features(tables: Tables, cell: Frozen, keeps: set[float]) -> list[Sample]:
    return [sample for key, sample in tables.frozen.items() if key[:5] == cell[:5] and key.keep in keeps]


def _where(key: Frozen) -> str:
    return f"{key.arch}, {pretext(key.pretext, key.variant)}, {task(key.task)} on {key.tested}, {key.stage} stage"


def _setting(key: Tuned) -> tuple[str, str, str, float]:
    return key.arch, key.trained, key.tested, key.keep


def _same_training(one: Zeros, other: Zeros) -> bool:
    return all(
        getattr(one, field) == getattr(other, field) for field in ("arch", "data", "pretext", "updates", "threshold")
    )


def _depth_order(first_convs: int | None) -> float:
    return float("inf") if first_convs is None else first_convs
