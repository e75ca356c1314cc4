"""Figures: labels kept apart, every line in the picture, the same bytes each time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from result_rows import floor_rows, frozen_rows, retrain_rows, tuned_rows, zero_rows

from sslprune.errors import MissingExtraError
from sslprune.report.drawing import draw, spread
from sslprune.report.pictures import Bars, Picture, pictures
from sslprune.report.tables import tables

pytest.importorskip("matplotlib")

LADDER = [row for keep in (1.0, 0.1, 0.05) for row in frozen_rows("rotnet", keep, [60.0, 61.0])]
MASKS = [
    row
    for keep in (0.1, 0.05)
    for row in [
        *retrain_rows("labels", keep, [70.0, 71.0]),
        *retrain_rows("labels", keep, [72.0, 73.0], "ticket"),
        *retrain_rows("rotnet", keep, [69.0, 70.0]),
        *retrain_rows("labels", keep, [60.0, 61.0], control="permuted"),
        *retrain_rows("labels", keep, [64.0, 66.0], control="nonzero"),
    ]
]


def only(rows: list) -> Picture:
    (picture,) = pictures(tables(rows))
    return picture


@given(st.lists(st.floats(0, 100), max_size=9))
def test_labels_keep_their_distance_and_their_order(heights):
    placed = spread(heights, gap=5.0, within=(0.0, 100.0))
    assert len(placed) == len(heights)
    ranked = [place for _, place in sorted(zip(heights, placed, strict=True))]
    assert all(above - below >= 5.0 - 1e-6 for below, above in pairwise(ranked))
    assert all(-1e-6 <= place <= 100 + 1e-6 for place in placed)
    if all(abs(one - other) >= 5.0 for one, other in pairwise(sorted(heights))):
        assert placed == pytest.approx(heights)  # none was moved without need


def test_a_ladder_falls_from_the_parent_with_the_floor_beneath():
    picture = only([*LADDER, *floor_rows([30.0])])
    assert picture.figure == "fig1"
    ((best, last),) = picture.panels
    (line,) = last.lines
    assert [place for place, _ in line.points] == [100.0, 10.0, 5.0]
    assert [level.sample.mean for level in last.levels] == [30.0]
    assert [sample.mean for _, sample in best.lines[0].points] == [65.5] * 3


def test_a_network_that_was_never_pruned_is_no_ladder():
    assert pictures(tables(frozen_rows("labels", 1.0, [60.0, 61.0]))) == []


def test_masks_are_drawn_by_initialisation_and_by_criterion():
    criteria, tickets = pictures(tables(MASKS))
    assert [[line.label for line in panel.lines] for row in criteria.panels for panel in row] == [
        ["Labels", "RotNet", "random", "corrected"],
        ["Labels", "random", "corrected"],
    ]
    assert [[line.label for line in panel.lines] for row in tickets.panels for panel in row] == [
        ["ticket", "re-init", "random", "corrected"],
        ["re-init", "random", "corrected"],
    ]
    corrected = criteria.panels[0][0].lines[-1]
    assert corrected.look.line == "--"


def test_depths_and_few_labels_have_figures_of_their_own():
    cut = [row for first in (1, 3) for row in retrain_rows("labels", 0.05, [70.0], "ticket", first_convs=first)]
    few = retrain_rows("s4l", 0.05, [71.0], "ticket", subset="images:0.1")
    found = {picture.figure: picture for picture in pictures(tables([*MASKS, *cut, *few]))}
    assert sorted(found) == ["fig3", "fig4", "fig5"]
    assert list(found["fig4"].panels[0][0].ticks.values()) == ["1", "3", "all"]
    assert found["fig5"].panels[0][0].title == "labels on 10 % of the images"


def test_zeros_are_bars_and_before_and_during_are_lines():
    rows = [*zero_rows("adam", [40.0, 41.0]), *zero_rows("adam", [50.0], threshold=1e-8), *zero_rows("sgd", [0.0])]
    (bars,) = only(rows).panels[0]
    assert isinstance(bars, Bars)
    assert {name: list(group) for name, group in bars.groups.items()} == {
        "Labels\nAdam, 1,000 updates": ["exactly 0", "up to 1e-08"],
        "Labels\nSGD, 1,000 updates": ["exactly 0"],
    }
    tuned = [row for during in (True, False) for row in tuned_rows("rotnet", 0.1, [30.0], during=during)]
    (panel,) = only([*tuned, *tuned_rows("rotnet", 1.0, [35.0], during=False)]).panels[0]
    assert [line.label for line in panel.lines] == ["pruned before", "pruned during"]
    assert [level.sample.mean for level in panel.levels] == [35.0]


def test_the_same_rows_give_the_same_bytes_and_every_line_is_there(tmp_path: Path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    picture = only(LADDER)
    png, svg = draw(picture, tmp_path / "one")
    assert [path.read_bytes() for path in draw(picture, tmp_path / "two")] == [png.read_bytes(), svg.read_bytes()]
    assert dict(matplotlib.rcParams) == before
    text = svg.read_text()
    assert "RotNet" in text
    assert "<dc:date>" not in text
    with Image.open(png) as image:
        pixels = np.asarray(image.convert("RGB"))
    blue = [0x00, 0x72, 0xB2]
    assert (pixels == blue).all(axis=2).sum() > 500
    assert (pixels[:, 0] == 255).all()  # a white page, also where the reader's is dark


def test_what_the_user_set_up_for_matplotlib_changes_nothing(tmp_path: Path):
    import matplotlib

    picture = only(zero_rows("adam", [40.0, 41.0]))
    _, plain = draw(picture, tmp_path / "plain")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "svg.hashsalt": "mine"}):
        _, other = draw(picture, tmp_path / "other")
    assert plain.read_bytes() == other.read_bytes()


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"sslprune\[plot\]"):
        draw(only(LADDER), tmp_path)
    assert list(tmp_path.iterdir()) == []
