"""Set up for every test: no network, no competing threads, slow tests only when asked for."""

from __future__ import annotations

import os

# Read once, when huggingface_hub and torch are imported: set before either can be.
os.environ["HF_HUB_OFFLINE"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["MKL_NUM_THREADS"] = "1"

import hypothesis
import pytest

# How long an example takes says nothing about right or wrong; on CI the same examples run every time.
hypothesis.settings.register_profile("sslprune", deadline=None, derandomize="CI" in os.environ, print_blob=True)
hypothesis.settings.load_profile("sslprune")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runslow", action="store_true", help="run the tests marked slow, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--runslow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: needs --runslow"))
