"""Which engines there are, and what is missed before any work is done."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslprune.bench.contest import PEERS, check_engines, variants
from sslprune.errors import BenchError, MissingExtraError


@given(st.sampled_from(PEERS), st.integers(1, 64), st.integers(1, 8))
def test_every_engine_has_a_way_and_none_twice(engine, batch, threads):
    ways = variants(engine, batch, threads)
    assert len(set(ways)) == len(ways) > 0
    if "a part a thread" in ways:
        assert batch % threads == 0


def test_one_image_cannot_be_shared_out():
    assert variants("ort", 1, 2) == ("whole batch",)
    assert variants("openvino", 1, 2) == ("latency",)
    assert variants("openvino", 16, 2) == ("latency", "throughput")


@pytest.mark.parametrize(
    ("engine", "module"),
    [("openvino", "openvino"), ("ort", "onnxruntime"), ("int8", "onnxruntime"), ("ort", "onnxscript")],
)
def test_a_missing_package_is_missed_by_its_extra(engine, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match="bench") as caught:
        check_engines([engine], None)
    assert "sslprune[bench]" in caught.value.hint
    check_engines(["torch"], None)


def test_unknown_and_doubled_engines_are_named():
    with pytest.raises(BenchError, match="openvno") as caught:
        check_engines(["openvno"], None)
    assert "openvino" in caught.value.hint
    with pytest.raises(BenchError, match="twice"):
        check_engines(["torch", "torch"], None)
    with pytest.raises(BenchError, match="another environment") as caught:
        check_engines(["deepsparse"], None)
    assert "--deepsparse-python" in caught.value.hint
    pytest.importorskip("onnxscript")
    check_engines(["deepsparse"], Path(sys.executable))
