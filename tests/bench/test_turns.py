"""Processes that answer a line with a line: turns, and every way in which one can fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sslprune.bench.turns import Child, in_turns
from sslprune.errors import BenchError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the engines here are shell scripts")
JOB = {"threads": 3}


@pytest.fixture
def child(tmp_path: Path):
    """`child(body)`: a process whose program is a shell script, beginning where the job has been read."""
    opened = []

    def make(body: str, label: str = "ort") -> Child:
        script = tmp_path / f"engine{len(opened)}"
        script.write_text(f"#!/bin/sh\nread job\n{body}\n")
        script.chmod(0o755)
        opened.append(Child(JOB, label, tmp_path / "log", script))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def answering(seconds: float, log: Path | None = None) -> str:
    note = f"echo {seconds} >> {log}; " if log else ""
    return f"echo '{{\"at\": {seconds}}}'\nwhile read line; do {note}echo '{{\"seconds\": {seconds}}}'; done"


def test_everyone_has_a_run_a_round_and_each_begins_in_turn(child, tmp_path):
    order = tmp_path / "order"
    children = {str(n): child(answering(n, order)) for n in (1, 2, 3)}
    assert [each.facts for each in children.values()] == [{"at": 1}, {"at": 2}, {"at": 3}]
    seconds, failures = in_turns(children, 4)
    assert seconds == {"1": [1.0] * 4, "2": [2.0] * 4, "3": [3.0] * 4}
    assert failures == {}
    assert order.read_text().split() == list("123231312123")


def test_one_that_dies_is_left_out_and_the_others_go_on(child):
    dying = "echo '{}'\nread line; echo '{\"seconds\": 5}'\nread line; echo out of luck >&2; exit 3"
    seconds, failures = in_turns({"a": child(answering(1)), "b": child(dying, "openvino")}, 5)
    assert seconds == {"a": [1.0] * 5}
    assert failures["b"].problem == "the engine openvino failed: its process ended with 3: out of luck"


def test_one_that_says_why_it_cannot_open_is_quoted(child):
    with pytest.raises(BenchError, match="ort failed: no such operator"):
        child('echo \'{"failed": "no such operator"}\'; exec sleep 60')
    with pytest.raises(BenchError, match="its process ended"):
        child("echo this is no JSON; exec sleep 60")
    with pytest.raises(BenchError, match="ended with 7"):
        child("exit 7")


def test_threads_are_limited_from_outside_and_analytics_are_off(child):
    said = child('echo "{\\"threads\\": $OMP_NUM_THREADS, \\"quiet\\": \\"$NM_DISABLE_ANALYTICS\\"}"').facts
    assert said == {"threads": 3, "quiet": "True"}


def test_an_interpreter_that_is_none_is_named(tmp_path):
    with pytest.raises(BenchError, match="cannot be run") as caught:
        Child(JOB, "deepsparse", tmp_path / "log", tmp_path / "python")
    assert "interpreter" in caught.value.hint
