"""Optional packages."""

import json

import pytest

from sslprune.errors import MissingExtraError
from sslprune.extras import require


def test_what_is_installed_is_imported():
    assert require("json", extra="any", purpose="this") is json


def test_what_is_not_is_missed_by_the_name_of_its_extra():
    with pytest.raises(MissingExtraError) as caught:
        require("no_such_package.inner", extra="parquet", purpose="reading parquet files")
    assert "reading parquet files needs no_such_package" in caught.value.problem
    assert "pip install 'sslprune[parquet]'" in caught.value.hint
