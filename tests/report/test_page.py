"""The page: every claim with statement, figure, numbers and verdict, and nothing but what the rows say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from result_rows import floor_rows, frozen_rows, retrain_rows

from sslprune.evaluate.results import append
from sslprune.report import write_report
from sslprune.report.claims import CLAIMS

pytest.importorskip("matplotlib")

ROWS = [row for keep in (1.0, 0.1, 0.02) for row in frozen_rows("rotnet", keep, [60.0, 61.0])]
ROWS += [*floor_rows([30.0]), *retrain_rows("labels", 0.05, [70.0])]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("report")
    append(folder / "rows.jsonl", [*ROWS, ROWS[0]])
    return write_report([folder / "rows.jsonl"], folder / "docs", command="sslprune report rows.jsonl")


@pytest.fixture(scope="module")
def text(report) -> str:
    return report.page.read_text(encoding="utf-8")


def test_every_claim_has_statement_rule_and_verdict(report, text):
    for claim, finding in zip(CLAIMS, report.findings, strict=True):
        start = text.index(f"### {claim.name} ")
        part = text[start : text.find("\n### ", start)]
        said = "The paper" if claim.by == "paper" else "Ours"
        assert f"> {said}: {claim.statement}" in part
        assert f"Expected: {claim.expectation}" in part
        assert str(finding.verdict) in part
        assert finding.why in part


def test_links_lead_to_headings_and_figures(report, text):
    anchors = re.findall(r"\]\(#([^)]+)\)", text)
    headings = [
        re.sub(r"[^\w -]", "", line[4:].lower()).replace(" ", "-") for line in text.split("\n") if line[:4] == "### "
    ]
    assert sorted(anchors) == sorted(headings)
    pictures = re.findall(r"\]\((figures/[^)]+)\)", text)
    assert pictures
    assert all((report.page.parent / path).is_file() for path in pictures)


def test_tables_are_whole_and_numbers_are_those_of_the_rows(text):
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in block.strip().split("\n")}) == 1
    assert "10 % 60.50 ± 0.50 (n = 2); 100 % 60.50 ± 0.50 (n = 2)" in text
    assert "| linear | 21 | 0 |" in text
    assert "22 rows of 1 file; duplicates left out: 1." in text


def test_what_has_no_rows_is_said(report, text):
    missing = report.to_json()["missing"]
    assert len(missing) == 4
    for title in missing:
        assert f"## {title}\n\nNo figure: there are no rows for it." in text
    assert "A single seed has no error bar." in text


def test_the_document_has_it_all_and_is_json(report):
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert [claim["claim"] for claim in document["claims"]] == [claim.name for claim in CLAIMS]
    assert {figure["figure"] for figure in document["figures"]} == {"fig1", "fig3"}
    assert all(Path(figure["svg"]).is_file() and Path(figure["png"]).is_file() for figure in document["figures"])
    term = document["claims"][0]["comparisons"][0]["terms"][0]
    assert term == {"sign": 1.0, "label": "10 %", "mean": 60.5, "standard_error": pytest.approx(0.5), "n": 2}
    assert document["rows"]["duplicates"] == 1


def test_nothing_of_the_machine_is_on_the_page(report, text):
    assert str(report.page.parent.parent) not in text
    assert text.endswith("```sh\nsslprune report rows.jsonl\n```\n")
