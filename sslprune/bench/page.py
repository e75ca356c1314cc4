"""A bench's document as tables: times and ratios a setting, then what each engine takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sslprune.bench.contest import DENSE, OURS

Document = Mapping[str, Any]
RowJson = Mapping[str, Any]


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        title: Above it.
        header: One cell a column.
        rows: Cells as text, the first of each a name.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def heats(document: Document) -> list[tuple[str, dict[float, dict[str, RowJson]]]]:
    """Rows by title of what was run (all but the keep rate), by keep in falling order, by engine.

    >>> row = {"name": "a", "arch": "a", "mask": "erk", "size": 8, "batch": 1, "threads": 1, "engine": "ort"}
    >>> found = heats({"rows": [{**row, "keep": 0.1}, {**row, "keep": 0.2}]})
    >>> [(title, list(keeps)) for title, keeps in found]
    [('a, erk mask, 8 x 8, 1 image, 1 thread', [0.2, 0.1])]
    """
    found: dict[str, dict[float, dict[str, RowJson]]] = {}
    for row in document["rows"]:
        found.setdefault(_title(row), {}).setdefault(row["keep"], {})[row["engine"]] = row
    return [(title, dict(sorted(keeps.items(), reverse=True))) for title, keeps in found.items()]


def times(document: Document) -> list[Grid]:
    """One table a setting, one line a keep rate: milliseconds as median (minimum), and ratios."""
    return [_times(title, keeps) for title, keeps in heats(document)]


def costs(document: Document) -> list[Grid]:
    """One table a setting, one line an engine: error, seconds and memory."""
    return [_costs(title, keeps) for title, keeps in heats(document)]


def about(document: Document) -> str:
    """Machine and versions in one line."""
    machine = document["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    load = "" if machine["load"] is None else f", load {machine['load']:g} at the start"
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['isa']}, {machine['system']}{load}; {versions}"


def rounds(document: Document) -> str:
    """How often each engine ran."""
    untimed = f", after {document['settle']} that are not timed" if document["settle"] else ""
    return f"{document['repeat']} rounds of one timed call each{untimed}"


def markdown(document: Document) -> str:
    """The tables of a document, its command, and what it ran on."""
    parts = [f"`{document['command']}`", f"{about(document)}. {rounds(document)}."]
    for time, cost in zip(times(document), costs(document), strict=True):
        parts += [f"### {time.title}", _markdown(time), _markdown(cost)]
    return "\n\n".join(parts) + "\n"


LEGEND = """\
*Times* are milliseconds a call, median and in brackets minimum. Engines took turns, each in a process
of its own; a different one began each round. *x dense* is the faster of ONNX Runtime and OpenVINO over
sslprune, by medians and by minima, *x torch* torch eager over sslprune. *MACs left* are the multiplications of weights
that are not zero, *sparse* the share of the engine's that it runs on non-zeros alone. *Error* is the largest difference
to torch in float64, over the largest output. *Peak* is memory at its highest from reading the network to the third
call, *running* in further calls: resident megabytes of the engine's process beyond what it had when all was imported
and the images were there; sslprune and torch read a sparse file, the others ONNX with dense weights, batch norm folded.
Where there are several *ways* to run a batch, the fastest counts: ONNX Runtime and OpenVINO may take it whole, or give
each thread a part. *int8* is of another accuracy class: the dense network, quantised with ranges from random images.
"""


def _title(row: RowJson) -> str:
    family = str(row["name"]).partition("-keep")[0]
    name = family if row["mask"] == "zoo" else f"{row['arch']}, {row['mask']} mask"
    many = "image" if row["batch"] == 1 else "images"
    several = "thread" if row["threads"] == 1 else "threads"
    return f"{name}, {row['size']} x {row['size']}, {row['batch']} {many}, {row['threads']} {several}"


def _times(title: str, keeps: Mapping[float, Mapping[str, RowJson]]) -> Grid:
    engines = list(next(iter(keeps.values())))
    others = [engine for engine in engines if engine not in (OURS, *DENSE)]
    dense = [("x dense", "ratio_to_best_dense"), ("by minima", "ratio_to_best_dense_min")]
    if not set(DENSE) & set(engines):
        dense = []
    header = ["keep", "MACs left", "sparse", *engines, *(name for name, _ in dense), *(f"x {name}" for name in others)]
    rows = []
    for keep, found in keeps.items():
        ours = found[OURS]
        rows.append(
            [
                f"{100 * keep:.3g}%",
                _percent(ours["macs_left"], ours["macs"]),
                sparse_share(ours),
                *(_milliseconds(found[engine]) for engine in engines),
                *(_number(ours[key]) for _, key in dense),
                *(_number(_over(found[engine]["median_ms"], ours["median_ms"])) for engine in others),
            ]
        )
    return Grid(title, header, rows)


def _costs(title: str, keeps: Mapping[float, Mapping[str, RowJson]]) -> Grid:
    header = ["keep, engine", "way", "error", "compile, s", "first call, s", "peak, MB", "running, MB"]
    rows = []
    for keep, found in keeps.items():
        for engine, row in found.items():
            name = f"{100 * keep:.3g}% {engine}"
            if row["failed"]:
                rows.append([name, "failed", *["-"] * (len(header) - 2)])
                continue
            rows.append(
                [
                    name,
                    row["variant"] or "-",
                    f"{row['max_rel_err']:.1e}",
                    f"{row['compile_s']:.2f}",
                    f"{row['first_call_s']:.2f}",
                    "-" if row["peak_mb"] is None else f"{row['peak_mb']:.0f}",
                    "-" if row["running_mb"] is None else f"{row['running_mb']:.0f}",
                ]
            )
    return Grid(title, header, rows)


def sparse_share(ours: RowJson) -> str:
    """How much of the engine's multiplications skip zeros; "dense" where the whole network runs in torch."""
    paths: Mapping[str, int] = ours["paths"]
    if ours["reason"]:
        return "dense"
    return _percent(sum(macs for path, macs in paths.items() if not path.startswith("dense")), sum(paths.values()))


def _milliseconds(row: RowJson) -> str:
    if row["median_ms"] is None:
        return "failed"
    return f"{_number(row['median_ms'])} ({_number(row['min_ms'])})"


def _number(value: float | None) -> str:
    """Three digits that count.

    >>> _number(0.4567), _number(12.345), _number(1234.5)
    ('0.457', '12.3', '1234')
    """
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.3g}%" if whole else "-"


def _over(other: float | None, own: float | None) -> float | None:
    return None if other is None or own is None else other / own


def _markdown(grid: Grid) -> str:
    lines = [grid.header, ["---", *["---:"] * (len(grid.header) - 1)], *grid.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
