from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sslprune.runtime import kernels

RUN = Path(__file__).parents[2] / "tools/sanitize/run.py"


def _usable(flag: str, folder: Path) -> bool:
    """Whether the compiler has the sanitizer, and this machine can run what it makes."""
    source, program = folder / "probe.cpp", folder / "probe"
    source.write_text("int main() { return 0; }\n")
    try:
        subprocess.run(["g++", flag, str(source), "-o", str(program)], check=True, capture_output=True)
        return not subprocess.run(["setarch", "-R", str(program)], check=False, capture_output=True).returncode
    except (OSError, subprocess.CalledProcessError):
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or not kernels.isas(), reason="needs Linux and the compiled kernels")
@pytest.mark.parametrize("kind", ["address", "thread"])
def test_the_kernels_are_clean_under_the_sanitizers(kind, tmp_path):
    if not _usable(f"-fsanitize={kind}", tmp_path):
        pytest.skip(f"no {kind} sanitizer here")
    command = [sys.executable, str(RUN), kind, "--short", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "plans right" in done.stdout
    assert "Sanitizer" not in done.stderr
