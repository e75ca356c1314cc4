"""From runs to `paper.md` and its figures: the whole report as one short function."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sslprune.extras import require
from sslprune.files import write_atomic
from sslprune.report.claims import CLAIMS, Finding, examine
from sslprune.report.drawing import draw
from sslprune.report.page import missing, page
from sslprune.report.pictures import Picture, pictures
from sslprune.report.rows import Gathered, gather
from sslprune.report.sample import Contrast, Sample
from sslprune.report.tables import Tables, tables

PAGE = "paper.md"
FIGURES = "figures"


@dataclass(frozen=True)
class Report:
    """What was found and written.

    Attributes:
        page: The Markdown file.
        findings: Every claim with its verdict.
        pictures: Every figure that has rows.
        figures: Their files, (PNG, SVG), in the same order.
        gathered: The rows.
        tables: The rows, sorted.
    """

    page: Path
    findings: tuple[Finding, ...]
    pictures: tuple[Picture, ...]
    figures: tuple[tuple[Path, Path], ...]
    gathered: Gathered
    tables: Tables

    def to_json(self) -> dict[str, Any]:
        """One document: claims, verdicts, numbers, figure paths."""
        return {
            "schema": 1,
            "page": str(self.page),
            "rows": {
                "files": self.gathered.files,
                "duplicates": self.gathered.duplicates,
                "used": dict(self.tables.used),
                "not_used": dict(self.tables.unused),
            },
            "claims": [_finding(finding) for finding in self.findings],
            "figures": [
                {"name": picture.name, "figure": picture.figure, "png": str(png), "svg": str(svg)}
                for picture, (png, svg) in zip(self.pictures, self.figures, strict=True)
            ],
            "missing": missing(self.pictures),
        }


def write_report(runs: Iterable[Path], out: Path, *, command: str) -> Report:
    """Read runs, test every claim, draw every figure that has rows, and write the page.

    Args:
        runs: See `sslprune.report.rows.gather`.
        out: The folder that gets `paper.md` and `figures/`.
        command: What makes the page again, for its last section.

    Raises:
        MissingExtraError: matplotlib is not installed; nothing was written.
        ResultsError: The runs have no rows, broken rows or contradictory ones; nothing was written.
        StorageError: A file cannot be written.
    """
    require("matplotlib", extra="plot", purpose="drawing")
    gathered = gather(runs)
    sorted_rows = tables(gathered.rows)
    findings = tuple(examine(claim, sorted_rows) for claim in CLAIMS)
    drawn = tuple(pictures(sorted_rows))
    text = page(gathered, sorted_rows, findings, drawn, command)
    files = tuple(draw(picture, out / FIGURES) for picture in drawn)
    return Report(write_atomic(out / PAGE, text), findings, drawn, files, gathered, sorted_rows)


def _finding(finding: Finding) -> dict[str, Any]:
    claim = finding.claim
    return {
        "claim": claim.name,
        "letter": claim.letter,
        "title": claim.title,
        "statement": claim.statement,
        "by": claim.by,
        "figure": claim.figure,
        "compared": claim.test,
        "expected": str(claim.expectation),
        "margin": claim.expectation.margin,
        "verdict": str(finding.verdict),
        "why": finding.why,
        "comparisons": [
            _contrast(contrast) | {"outcome": str(claim.expectation.outcome(contrast))}
            for contrast in finding.contrasts
        ],
    }


def _contrast(contrast: Contrast) -> dict[str, Any]:
    return {
        "what": contrast.what,
        "terms": [{"sign": term.sign, "label": term.label, **_sample(term.sample)} for term in contrast.terms],
        "difference": contrast.value,
        "noise": contrast.noise,
        "decisive": contrast.decisive,
    }


def _sample(sample: Sample) -> dict[str, Any]:
    return {"mean": sample.mean, "standard_error": sample.error, "n": sample.n}
