"""A short form of `make fuzz`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "fuzz" / "fuzz_sparse_file.py"


@pytest.mark.slow
def test_some_seconds_of_fuzzing_find_nothing(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed; `make fuzz` installs it", exc_type=ImportError)
    command = [sys.executable, str(TOOL), "-max_total_time=12", str(tmp_path / "found")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(re.search(r"number_of_executed_units: (\d+)", done.stderr)[1]) > 1000  # type: ignore[index]
    assert [path.name for path in tmp_path.iterdir()] == ["found"]
