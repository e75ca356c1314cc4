"""`sslprune report`: runs in, verdicts printed, a page and figures written."""

from __future__ import annotations

import json

import pytest
from result_rows import frozen_rows

from sslprune.cli import main
from sslprune.evaluate.results import append

pytest.importorskip("matplotlib")


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for keep in (1.0, 0.1):
        append(tmp_path / "runs" / f"keep{keep}" / "results.jsonl", frozen_rows("rotnet", keep, [60.0, 60.2]))
    return tmp_path


def test_it_prints_verdicts_and_says_what_it_used(runs, capsys):
    assert main(["report", "runs"]) == 0
    printed = capsys.readouterr()
    lines = {line.split()[0]: line for line in printed.out.splitlines()}
    assert lines["1a"].split()[-1] == "agrees"
    assert lines["2"].endswith("not testable here")
    assert "Rows used: 12;" in printed.err
    assert "No rows for: Zeros at convergence" in printed.err
    page = (runs / "docs" / "paper.md").read_text(encoding="utf-8")
    assert "sslprune report runs --out docs" in page
    assert sorted(path.suffix for path in (runs / "docs" / "figures").iterdir()) == [".png", ".svg"]


def test_json_is_one_document(runs, capsys):
    assert main(["report", "runs/keep1.0", "runs/keep0.1/results.jsonl", "--out", "there", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["claims"][0]["verdict"] == "agrees"
    assert document["page"] == "there/paper.md"


def test_no_rows_are_a_named_error_and_nothing_is_written(runs, capsys):
    (runs / "empty").mkdir()
    assert main(["report", "empty", "--out", "there"]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 2
    assert not (runs / "there").exists()
