"""Importing the package and asking the command line for words must not pay for torch: seconds, every time."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "torchvision", "timm", "numpy", "PIL", "sklearn", "matplotlib", "huggingface_hub"}


def imported_by(*arguments: str) -> set[str]:
    """The top-level modules that `python ARGUMENTS` imports in a process of its own, which must end well."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_the_probe_sees_a_heavy_import() -> None:
    assert "numpy" in imported_by("-c", "import numpy")


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert not imported_by("-c", "import sslprune") & HEAVY


def test_public_names_resolve_lazily() -> None:
    assert not imported_by("-c", "import sslprune; assert 'load' in dir(sslprune)") & HEAVY


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "--json"]], ids=" ".join)
def test_the_command_line_answers_without_torch(arguments: list[str]) -> None:
    assert not imported_by("-m", "sslprune", *arguments) & HEAVY
