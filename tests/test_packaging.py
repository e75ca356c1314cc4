"""A wheel must carry what the package reads at run time, and nothing that only a checkout needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = ("*.toml", "*.json", "*.md", "py.typed", "zoo/bundled/**/*")


@pytest.mark.slow
@pytest.mark.parametrize("compiler", [True, False])
def test_the_wheel_holds_the_package_and_its_data(tmp_path: Path, compiler: bool) -> None:
    source = tmp_path / "source"
    # A copy: a build leaves files, and the checkout may hold kernels that another compiler made.
    shutil.copytree(ROOT / "sslprune", source / "sslprune", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("pyproject.toml", "CMakeLists.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    environment = dict(os.environ)
    if not compiler:
        if os.name == "nt":
            pytest.skip("compilers are not found by PATH here")
        (tmp_path / "bin").mkdir()
        environment = {name: value for name, value in environment.items() if name not in ("CC", "CXX", "CMAKE_ARGS")}
        environment["PATH"] = str(tmp_path / "bin")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, timeout=280, env=environment)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    kernels = {name for name in packed if name.startswith("sslprune/runtime/_kernels.")}

    package = ROOT / "sslprune"
    wanted = {path for pattern in ("*.py", *DATA) for path in package.rglob(pattern) if path.is_file()}
    wanted = {path for path in wanted if "__pycache__" not in path.parts}
    assert {path.relative_to(ROOT).as_posix() for path in wanted} <= packed
    assert all(name.startswith("sslprune/") and not name.endswith((".pyc", ".cpp", ".h")) for name in packed)
    # Without a compiler the package is whole but for its kernels, and fits any machine.
    assert wheel.name.endswith("-py3-none-any.whl") != compiler
    assert len(kernels) == compiler
    if not compiler:
        _runs_dense(wheel, tmp_path / "installed", environment)


def _runs_dense(wheel: Path, folder: Path, environment: dict[str, str]) -> None:
    """Install it where no compiler is found, ask the doctor, and run the tests of what needs no kernels."""
    venv.create(folder, with_pip=False)
    (site,) = folder.rglob("site-packages")
    # What it needs is here already; a path's own .pth files, such as an editable sslprune's, are not read.
    (site / "here.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True, timeout=100, env=environment)

    # -P: not the checkout's package.
    python = [str(folder / "bin/python"), "-P", "-m"]
    environment = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    doctor = subprocess.run(
        [*python, "sslprune", "doctor"], check=True, timeout=100, env=environment, capture_output=True, text=True
    )
    assert "not compiled: sslprune.compile runs networks dense" in doctor.stdout
    tests = [str(ROOT / "tests/runtime" / name) for name in ("test_engine.py", "test_lower.py", "test_hard_use.py")]
    done = subprocess.run(
        [*python, "pytest", "-q", "-p", "no:cacheprovider", *tests],
        check=False,
        timeout=200,
        env=environment,
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" in done.stdout
