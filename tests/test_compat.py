"""The cure for a torchvision whose compiled operators cannot be loaded. Each case needs a fresh interpreter."""

import shutil
import subprocess
import sys

import pytest


def python(code: str, *, path: str = "") -> subprocess.CompletedProcess[str]:
    prefix = f"import sys; sys.path.insert(0, {path!r})\n" if path else ""
    return subprocess.run([sys.executable, "-c", prefix + code], capture_output=True, text=True, check=False)


PATCH = "from sslprune.compat import patch_torchvision as patch\n"


CURE_FIRST = (
    PATCH
    + "from concurrent.futures import ThreadPoolExecutor as Pool\n"
    + "with Pool(8) as pool: answers = set(pool.map(lambda _: patch(), range(32)))\n"
    + "import timm, torchvision; print(*answers)"
)
IMPORT_FIRST = (
    PATCH
    + "failed = False\n"
    + "try:\n    import torchvision\n"
    + "except RuntimeError:\n    failed = True\n"
    + "patch(); import timm; print(failed)"
)


def test_it_acts_once_and_exactly_where_a_plain_import_fails_and_cures_even_after_that():
    patched, plain = python(CURE_FIRST), python(IMPORT_FIRST)
    assert (patched.returncode, plain.returncode) == (0, 0), patched.stderr + plain.stderr
    assert patched.stdout == plain.stdout != ""


def installed(folder, *, compiled: str | None):
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("")
    if compiled is not None:
        shutil.copy(compiled, package / "_C.so")
    return str(folder)


STATE = "import torch; print(patch(), hasattr(torch.ops.torchvision, 'nms'), 'torchvision' in sys.modules)"


def test_a_healthy_install_is_left_alone(tmp_path):
    import _ctypes

    if not hasattr(_ctypes, "__file__"):
        pytest.skip("this Python has no shared library to stand in for a healthy _C.so")
    result = python(PATCH + STATE, path=installed(tmp_path, compiled=_ctypes.__file__))
    assert result.stdout.split() == ["False", "False", "False"], result.stderr


def test_an_unloadable_library_is_replaced_by_declarations_without_importing_torchvision(tmp_path):
    path = installed(tmp_path, compiled=None)
    (tmp_path / "torchvision" / "_C.so").write_bytes(b"not a shared library")
    assert python(PATCH + STATE, path=path).stdout.split() == ["True", "True", "False"]
