"""Data sets by name."""

import subprocess
import sys

import pytest

from sslprune.data import sources
from sslprune.errors import DatasetError


@pytest.mark.parametrize("spec", ["cifra10", "", "folder", "folder:", "digits:x", "CIFAR10", "../cifar10"])
def test_an_unknown_name_lists_the_known(spec):
    with pytest.raises(DatasetError) as caught:
        sources.open(spec)
    assert repr(spec) in caught.value.problem
    for name in sources.NAMES:
        assert name in caught.value.hint


def test_the_likeliest_name_comes_first():
    with pytest.raises(DatasetError, match=r"Choose one of: cifar10\b"):
        sources.open("cifra10")


def test_a_folder_below_home(own_places, monkeypatch, pictures, encode):
    monkeypatch.setenv("HOME", str(own_places))
    (own_places / "images").mkdir()
    (own_places / "images" / "a.png").write_bytes(encode(pictures(1)[0]))
    assert (sources.open("folder:~/images").split("train").images == pictures(1)).all()


def test_optional_packages_are_not_imported_before_they_are_needed():
    code = "import sys, sslprune.data.sources; print({'torch', 'torchvision', 'pyarrow', 'sklearn'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
