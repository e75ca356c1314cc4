"""The handwritten digits that scikit-learn brings along: small, free, always there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sslprune.data.holdout import held_out
from sslprune.data.source import Source, Split
from sslprune.extras import require

SIZE = 32
_BRIGHTEST = 16
_TEST_IMAGES = 500


def open_digits() -> Source:
    """1,797 grey digits of 8x8 pixels with values 0..16, as RGB of 32x32 with values 0..255.

    Enlarged bilinearly (a smooth stroke, where repeating pixels would draw staircases). The test split, 500 images
    with every class in proportion, is fixed once and for all; train is the other 1,297.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    datasets = require("sklearn.datasets", extra="eval", purpose="the digits data set")

    def read(test: bool) -> Split:
        bunch = datasets.load_digits()
        labels = np.asarray(bunch.target, np.int64)
        chosen = held_out(labels, [str(i) for i in range(len(labels))], _TEST_IMAGES) == test
        return Split(_enlarge(bunch.images[chosen]), labels[chosen])

    return Source(
        name="digits",
        classes=tuple("0123456789"),
        terms="CC BY 4.0 (UCI Machine Learning Repository)",
        citation="E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI, 1998, doi:10.24432/C50P49",
        size=SIZE,
        readers={"train": lambda: read(test=False), "test": lambda: read(test=True)},
    )


def _enlarge(digits: NDArray[np.float64]) -> NDArray[np.uint8]:
    grey = np.rint(digits * (255 / _BRIGHTEST)).astype(np.uint8)
    large = [Image.fromarray(digit).resize((SIZE, SIZE), Image.Resampling.BILINEAR) for digit in grey]
    return np.repeat(np.stack([np.asarray(digit) for digit in large])[..., None], 3, axis=-1)
