"""A sweep small enough to run for real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FAMILY = """
pretext = "rotnet"
arch = "test_byobnet"
data = "folder:{pictures}"

[training]
length = "6it"
batch = 8
lr = 0.02

[ladder]
rungs = [0.5, 0.2, 0.1, 0.05]
per_round = 0.6
rewind = "2it"
"""
AGAIN = """
pretext = "labels"
arch = "test_byobnet"
data = "digits"
limit = 40

[training]
length = "4it"
batch = 8
lr = 0.02
"""


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with family.toml (RotNet on 16 pictures), again.toml (digits), and caches of its own."""
    monkeypatch.setenv("SSLPRUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    noise = np.random.default_rng(0)
    for number in range(16):
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), np.uint8)).save(pictures / f"{number}.png")
    (tmp_path / "family.toml").write_text(FAMILY.format(pictures=pictures))
    (tmp_path / "again.toml").write_text(AGAIN)
    return tmp_path
