"""The picture: one panel a setting, and the numbers of our engine in it."""

from __future__ import annotations

import pytest
from bench_documents import document

from sslprune.bench.plot import can_draw, draw, figure

pytest.importorskip("matplotlib")


def test_a_panel_a_setting_and_a_line_an_engine():
    drawn = figure(document(keeps=(0.2, 0.05, 0.01)))
    first, second = drawn.axes
    assert [axes.get_title(loc="left").rpartition(", ")[0][-8:] for axes in (first, second)] == [" 1 image", "6 images"]
    lines = {line.get_label(): line for line in first.get_lines()}
    assert set(lines) == {"faster of ONNX Runtime, OpenVINO", "sslprune", "by minima", "torch eager"}
    assert list(lines["sslprune"].get_xdata()) == [20, 5, 1]
    assert list(lines["sslprune"].get_ydata()) == pytest.approx([2.5, 10, 50])
    assert first.get_xscale() == first.get_yscale() == "log"
    low, high = first.get_xlim()
    assert low > 20 > 1 > high  # keep falls to the right


@pytest.mark.parametrize("keeps", [(0.05,), (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001)])
def test_it_is_a_png(tmp_path, keeps):
    draw(tmp_path / "speed.png", document(keeps=keeps, against=("ort", "int8")))
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_dense_runtime_there_is_nothing_to_draw():
    assert can_draw(["torch", "ort"])
    assert not can_draw(["torch", "int8"])
