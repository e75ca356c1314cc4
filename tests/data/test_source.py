"""Splits of a data set."""

import numpy as np
import pytest

from sslprune.data.source import Source, Split
from sslprune.errors import DatasetError


def source(**readers):
    return Source(name="mine", classes=("a",), terms="own", citation="", size=2, readers=readers)


def test_nothing_is_read_before_it_is_asked_for():
    def explode():
        raise AssertionError

    split = Split(np.zeros((3, 2, 2, 3), np.uint8))
    mine = source(train=explode, test=lambda: split)
    assert mine.splits() == ("train", "test")
    assert mine.split("test") is split
    assert len(split) == 3


def test_an_unknown_split_names_those_there_are():
    with pytest.raises(DatasetError, match=r"(?s)mine has no split 'val'.*train, test"):
        source(train=None, test=None).split("val")
