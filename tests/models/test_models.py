"""The room's door: what it offers, and what it does not load."""

import subprocess
import sys

import pytest

import sslprune.models


def test_preprocessing_and_names_need_neither_torch_nor_numpy():
    code = (
        "import sys; from sslprune.models import Preprocessing, registered_name\n"
        "Preprocessing((0, 0, 0), (1, 1, 1), 32); registered_name('resnet20', 32)\n"
        "assert not {'torch', 'numpy', 'timm', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_name_on_the_door_is_there():
    assert set(sslprune.models.__all__) <= set(dir(sslprune.models))
    assert all(callable(getattr(sslprune.models, name)) for name in sslprune.models.__all__)


def test_no_other_name_is():
    with pytest.raises(AttributeError, match="no attribute 'resnet20'"):
        _ = sslprune.models.resnet20
