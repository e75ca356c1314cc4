"""What the figures show: panels, lines and bars, taken from the tables and not drawn yet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sslprune.report import style
from sslprune.report.sample import Sample
from sslprune.report.tables import FROZEN, Floor, Frozen, Retrained, Tables, Tuned, Zeros, distinct
from sslprune.report.words import criterion, depth, optimiser, percent, pretext, task

Point = tuple[float, Sample]


@dataclass(frozen=True)
class Line:
    """A curve: figures with their errors at places of the horizontal axis.

    Attributes:
        label: Written at its end.
        look: How it is drawn.
        points: (place, sample), in order of the places.
    """

    label: str
    look: style.Look
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Level:
    """A horizontal line: what is reached without what the panel varies.

    Attributes:
        label: Written at its end; empty for none.
        look: How it is drawn.
        sample: Where it lies.
    """

    label: str
    look: style.Look
    sample: Sample


@dataclass(frozen=True)
class Panel:
    """One pair of axes with curves.

    Attributes:
        title: Above it.
        up: The vertical axis with its unit.
        lines: Its curves.
        levels: Its horizontal lines.
        ticks: Names of the places, where these are no keep rates.
    """

    title: str
    up: str
    lines: tuple[Line, ...]
    levels: tuple[Level, ...] = ()
    ticks: Mapping[float, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Bars:
    """One pair of axes with groups of bars.

    Attributes:
        title: Above it.
        up: The vertical axis with its unit.
        groups: Name of each group to its bars: name to sample.
    """

    title: str
    up: str
    groups: Mapping[str, Mapping[str, Sample]]


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        name: Of its files, without suffix.
        figure: Which of the paper's it stands for, "fig1" to "fig6".
        caption: What it shows, in words.
        panels: Rows of panels.
    """

    name: str
    figure: str
    caption: str
    panels: tuple[tuple[Panel | Bars, ...], ...]

    def samples(self) -> list[Sample]:
        """All figures with an error bar."""
        found: list[Sample] = []
        for panel in (panel for row in self.panels for panel in row):
            if isinstance(panel, Bars):
                found += [sample for group in panel.groups.values() for sample in group.values()]
            else:
                found += [sample for line in panel.lines for _, sample in line.points]
        return found


def pictures(tables: Tables) -> list[Picture]:
    """Every figure that has rows, in the paper's order."""
    drawn = [*frozen(tables), *tuned(tables), *masks(tables), *depths(tables), *few_labels(tables), *zeros(tables)]
    seen: dict[str, int] = {}
    found = []
    for picture in drawn:
        seen[picture.name] = seen.get(picture.name, 0) + 1
        number = "" if seen[picture.name] == 1 else f"-{seen[picture.name]}"
        found.append(Picture(picture.name + number, picture.figure, picture.caption, picture.panels))
    return found


def frozen(tables: Tables) -> list[Picture]:
    """Fig. 1: frozen features against keep; a row a task, best stage and last stage side by side."""
    found = []
    for arch, trained, tested in distinct(tables.frozen, lambda key: key[:3]):
        here = {key: sample for key, sample in tables.frozen.items() if key[:3] == (arch, trained, tested)}
        rows = [row for name in FROZEN if (row := _frozen_panels(tables, here, name, arch, tested))]
        if rows:
            caption = (
                f"Frozen features of {arch} pre-trained on {trained}, measured on {tested}, against the weights kept. "
                "The best stage is chosen on held-out training images; the paper measures the last one. The thin line "
                "is the unpruned parent's level, the dotted one that of untrained networks."
            )
            found.append(Picture(f"fig1-{_slug(arch, trained, tested)}", "fig1", caption, tuple(rows)))
    return found


def tuned(tables: Tables) -> list[Picture]:
    """Fig. 2: fine-tuned accuracy, pruned before against pruned during the transfer; a panel a pretext."""
    found = []
    for arch, trained, tested in distinct(tables.tuned, lambda key: key[:3]):
        here = {key: sample for key, sample in tables.tuned.items() if key[:3] == (arch, trained, tested)}
        panels = [
            _tuned_panel({key: sample for key, sample in here.items() if key[3:5] == family}, family, tested)
            for family in distinct(here, lambda key: key[3:5])
        ]
        panels = [panel for panel in panels if panel.lines]
        if panels:
            caption = (
                f"{arch} pre-trained on {trained} and fine-tuned as a whole on {tested}: pruned before the transfer, "
                "or while it goes on. The dashed line is the unpruned network, fine-tuned."
            )
            found.append(Picture(f"fig2-{_slug(arch, trained, tested)}", "fig2", caption, _wrapped(panels)))
    return found


def masks(tables: Tables) -> list[Picture]:
    """Fig. 3, twice: all criteria from one initialisation, and both initialisations of one criterion."""
    found = []
    for setting, cells in _retrainings(tables):
        whole = {key: sample for key, sample in cells.items() if key.first_convs is None and not key.subset}
        names = [name for name in _criteria(whole) if name != "random"]
        if not names:
            continue
        controls = _controls(whole)
        by_init = []
        for init, title in (("reinit", "random re-initialisation"), ("ticket", "winning tickets")):
            lines = [line for name in names if (line := _retrained_line(whole, name, init, pretext(name)))]
            if lines:
                by_init.append(Panel(title, f"top-1 on {setting[1]}, %", (*lines, *controls)))
        by_criterion = []
        for name in names:
            lines = [
                line
                for init, label in (("ticket", "ticket"), ("reinit", "re-init"))
                if (line := _retrained_line(whole, name, init, label))
            ]
            by_criterion.append(Panel(f"masks of {pretext(name)}", f"top-1 on {setting[1]}, %", (*lines, *controls)))
        trained = f"{setting[0]} re-trained on the labels of {setting[1]} ({_length(setting[2])})"
        random = (
            "Random: as many weights at random places of the whole network; corrected (dashed): at random places among "
            "what did not converge to zero by itself."
        )
        slug = f"{setting[0]}-{setting[1]}"
        found.append(
            Picture(
                f"fig3-criteria-{slug}",
                "fig3",
                f"{trained} under masks of several criteria, from fresh or from rewound weights. {random}",
                (tuple(by_init),),
            )
        )
        found.append(
            Picture(
                f"fig3-tickets-{slug}",
                "fig3",
                f"{trained}: winning tickets against random re-initialisation, criterion by criterion. {random}",
                _wrapped(by_criterion),
            )
        )
    return found


def depths(tables: Tables) -> list[Picture]:
    """Fig. 4: winning tickets with only the first convolutions pruned; a panel a keep rate."""
    found = []
    for setting, cells in _retrainings(tables):
        cut = {key.keep for key in cells if key.first_convs is not None}
        panels = []
        for keep in sorted(cut, reverse=True):
            here = {key: sample for key, sample in cells.items() if key.keep == keep and not key.subset}
            order = sorted({key.first_convs for key in here}, key=lambda convs: convs if convs is not None else 10**6)
            ticks = {float(place): depth(convs) for place, convs in enumerate(order)}
            lines = []
            for name in _criteria(here):
                init = "reinit" if name == "random" else "ticket"
                points = tuple(
                    (float(order.index(key.first_convs)), sample)
                    for key, sample in sorted(here.items(), key=lambda item: order.index(item[0].first_convs))
                    if (key.criterion, key.init) == (name, init) and key.control in ("", "permuted")
                )
                if len(points) > 1:
                    lines.append(Line(pretext(name), style.look(name), points))
            if lines:
                panels.append(Panel(f"{percent(keep)} kept", f"top-1 on {setting[1]}, %", tuple(lines), ticks=ticks))
        if panels:
            caption = (
                f"{setting[0]} re-trained on the labels of {setting[1]} ({_length(setting[2])}) from winning tickets "
                "with only the first convolutions pruned."
            )
            found.append(Picture(f"fig4-{setting[0]}-{setting[1]}", "fig4", caption, _wrapped(panels)))
    return found


def few_labels(tables: Tables) -> list[Picture]:
    """Fig. 5: winning tickets found with a tenth of the labels; a panel for each way of choosing the tenth."""
    found = []
    for setting, cells in _retrainings(tables):
        whole = {key: sample for key, sample in cells.items() if key.first_convs is None}
        panels = []
        for subset in sorted({key.subset for key in whole if key.subset}, reverse=True):
            lines = [
                line
                for name, part in (("labels", ""), ("s4l", subset), ("labels", subset), ("rotnet", ""))
                if (line := _retrained_line(whole, name, "ticket", criterion(name, part), subset=part))
            ]
            kind, _, share = subset.partition(":")
            title = f"labels on {percent(float(share))} of the {kind}"
            panels.append(Panel(title, f"top-1 on {setting[1]}, %", (*lines, *_controls(whole))))
        if panels:
            caption = (
                f"{setting[0]} re-trained on all labels of {setting[1]} ({_length(setting[2])}) from winning tickets "
                "that were found with all, with some and without labels."
            )
            found.append(Picture(f"fig5-{setting[0]}-{setting[1]}", "fig5", caption, (tuple(panels),)))
    return found


def zeros(tables: Tables) -> list[Picture]:
    """Fig. 6 and 10: what converged to zero by itself; a group of bars a training, a bar a threshold."""
    found = []
    for arch, data in distinct(tables.zeros, lambda key: key[:2]):
        here = {key: sample for key, sample in tables.zeros.items() if key[:2] == (arch, data)}
        groups: dict[str, dict[str, Sample]] = {}
        for key, sample in sorted(here.items(), key=lambda item: (item[0].optimizer, item[0].pretext, item[0].updates)):
            groups.setdefault(_training(key, here), {})[_threshold(key.threshold)] = sample
        caption = f"Share of the prunable weights of the unpruned {arch}, trained on {data}, up to a threshold in size."
        bars = Bars(f"{arch}, {data}", "weights that are zero, %", groups)
        found.append(Picture(f"fig6-{arch}-{data}", "fig6", caption, ((bars,),)))
    return found


def _frozen_panels(
    tables: Tables, cells: Mapping[Frozen, Sample], name: str, arch: str, tested: str
) -> tuple[Panel, ...]:
    """The best and the last stage of a task, as far as there are ladders of it."""
    found = []
    for stage in ("best", "last"):
        if lines := _ladders(cells, name, stage):
            up, floor = _accuracy(name, tested), _floor(tables, arch, tested, name, stage)
            found.append(Panel(f"{task(name)}, {stage} stage", up, lines, floor))
    return tuple(found)


def _ladders(cells: Mapping[Frozen, Sample], name: str, stage: str) -> tuple[Line, ...]:
    lines = []
    families = {key[5:7] for key in cells if (key.task, key.stage) == (name, stage)}
    for family, variant in sorted(families, key=lambda family: (style.order(family[0]), family[1])):
        points = {
            key.keep: sample
            for key, sample in cells.items()
            if (key.task, key.stage, key.pretext, key.variant) == (name, stage, family, variant)
        }
        if len(points) > 1:
            look = style.look(family, dashed=bool(variant))
            lines.append(Line(pretext(family, variant), look, _descending(points)))
    return tuple(lines)


def _floor(tables: Tables, arch: str, tested: str, name: str, stage: str) -> tuple[Level, ...]:
    sample = tables.floor.get(Floor(arch, tested, name, stage))
    return () if sample is None else (Level("untrained", style.FLOOR, sample),)


def _tuned_panel(cells: Mapping[Tuned, Sample], family: tuple[str, str], tested: str) -> Panel:
    lines, levels = [], []
    for pruned in ("before", "during"):
        points = {key.keep: sample for key, sample in cells.items() if key.pruned == pruned and key.keep < 1}
        if points:
            look = style.look(family[0], hollow=pruned == "during", dashed=pruned == "during")
            lines.append(Line(f"pruned {pruned}", look, _descending(points)))
    for key, sample in cells.items():
        if key.keep == 1.0:
            levels.append(Level("unpruned", style.PARENT, sample))
    return Panel(
        pretext(*family),
        f"mAP on {tested}, %" if "voc" in tested else f"accuracy on {tested}, %",
        tuple(lines),
        tuple(levels),
    )


def _retrainings(tables: Tables) -> Iterable[tuple[tuple[str, str, str, str], Mapping[Retrained, Sample]]]:
    for setting in distinct(tables.retrained, lambda key: key[:4]):
        yield setting, {key: sample for key, sample in tables.retrained.items() if key[:4] == setting}


def _criteria(cells: Mapping[Retrained, Sample]) -> list[str]:
    return sorted({key.criterion for key in cells}, key=style.order)


def _retrained_line(
    cells: Mapping[Retrained, Sample], name: str, init: str, label: str, *, subset: str = "", control: str = ""
) -> Line | None:
    points = {
        key.keep: sample
        for key, sample in cells.items()
        if (key.criterion, key.init, key.subset, key.control) == (name, init, subset, control)
    }
    if not points:
        return None
    look = style.look(
        name, hollow=label == "re-init" or bool(control) or bool(subset), dashed=bool(subset) or control == "nonzero"
    )
    return Line(label, look, _descending(points))


def _controls(cells: Mapping[Retrained, Sample]) -> list[Line]:
    random = _retrained_line(cells, "random", "reinit", "random", control="permuted")
    lines = [] if random is None else [random]
    corrected = sorted({key.criterion for key in cells if key.control == "nonzero"}, key=style.order)
    for name in corrected:
        label = "corrected" if len(corrected) == 1 else f"corrected ({pretext(name)})"
        line = _retrained_line(cells, name, "reinit", label, control="nonzero")
        if line:
            look = style.look("random", hollow=True, dashed=True) if len(corrected) == 1 else line.look
            lines.append(Line(line.label, look, line.points))
    return lines


def _wrapped(panels: Sequence[Panel]) -> tuple[tuple[Panel, ...], ...]:
    """Panels in rows of three at most, which a page has room for."""
    return tuple(tuple(panels[first : first + 3]) for first in range(0, len(panels), 3))


def _descending(points: Mapping[float, Sample]) -> tuple[Point, ...]:
    return tuple((100 * keep, points[keep]) for keep in sorted(points, reverse=True))


def _accuracy(name: str, tested: str) -> str:
    return f"mAP on {tested}, %" if name == "svm" else f"top-1 on {tested}, %"


def _training(key: Zeros, others: Sequence[Zeros] | Mapping[Zeros, Sample]) -> str:
    """A training's name; what tells it from no other of the same pretext, optimiser and length is left out."""
    rates = {
        (other.lr, other.weight_decay) for other in others if other[2:4] == key[2:4] and other.updates == key.updates
    }
    more = f"\nlr {key.lr:g}, decay {key.weight_decay:g}" if len(rates) > 1 else ""
    return f"{pretext(key.pretext)}\n{optimiser(key.optimizer)}, {key.updates:,} updates{more}"


def _threshold(threshold: float) -> str:
    return "exactly 0" if threshold == 0 else f"up to {threshold:g}"


def _length(training: str) -> str:
    return str(json.loads(training).get("length", "length unknown"))


def _slug(arch: str, trained: str, tested: str) -> str:
    text = f"{arch}-{trained}" + (f"-on-{tested}" if tested != trained else "")
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text.lower())
