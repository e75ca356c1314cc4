"""Ladders are drawn: a picture that opens, with every curve in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslprune.errors import StorageError
from sslprune.figures import BYTES, GREY, KNN, LINEAR, Curve, draw

pytest.importorskip("matplotlib")

CURVE = Curve(
    title="rednet-resnet20-toy",
    data="digits",
    keeps=[1.0, 0.2, 0.05, 0.01],
    linear=[97.5, 97.0, 96.0, 93.0],
    knn=[94.0, 94.5, 93.0, 90.0],
    bytes=[1_100_000, 270_000, 70_000, 16_000],
    floor=(92.0, 88.0),
    dense_bytes=1_090_000,
)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize("many", [1, 2])
def test_a_row_is_drawn_for_each_ladder(tmp_path: Path, many: int) -> None:
    draw(tmp_path / "deep" / "picture.png", [replace(CURVE, title=f"ladder {number}") for number in range(many)])
    picture = pixels(tmp_path / "deep" / "picture.png")
    assert picture.shape == (many * 510, 1500, 3)
    for row in np.split(picture, many):
        for colour in (LINEAR, KNN, BYTES, GREY):
            wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
            assert (row == wanted).all(axis=2).sum() > 100


def test_a_ladder_of_one_rung_is_drawn(tmp_path: Path) -> None:
    one = replace(CURVE, keeps=[0.05], linear=[96.0], knn=[93.0], bytes=[70_000])
    draw(tmp_path / "picture.png", [one])
    assert pixels(tmp_path / "picture.png").std() > 1


def test_a_picture_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        draw(tmp_path / "file" / "picture.png", [CURVE])


def test_drawing_leaves_no_trace_in_matplotlib(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw(tmp_path / "picture.png", [CURVE])
    assert dict(matplotlib.rcParams) == before
