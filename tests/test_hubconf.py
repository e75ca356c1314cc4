"""torch.hub sees one entry for all names and one a pretext, from a checkout and from its own cache, offline."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sslprune.errors import KeepError
from sslprune.pretext import PRETEXTS
from sslprune.zoo.index import read_index, shipped

ROOT = Path(__file__).parents[1]
NAME = "rednet-resnet20-toy-keep5%"

NO_NETWORK = """
import sys

def no_network(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise SystemExit(f"the network was asked: {event} {arguments}")

sys.addaudithook(no_network)
import torch
"""


@pytest.fixture(scope="module")
def hubconf() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hubconf", ROOT / "hubconf.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hub(code: str, **environment: str) -> str:
    """What a fresh Python prints that may not use the network and does not stand in the checkout."""
    command = [sys.executable, "-c", NO_NETWORK + code]
    place = environment.get("TORCH_HOME", "/")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=place, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def entries(module: ModuleType) -> set[str]:
    """As torch.hub.list finds them."""
    return {name for name in dir(module) if callable(getattr(module, name)) and not name.startswith("_")}


def test_one_entry_for_all_names_and_one_a_pretext(hubconf: ModuleType) -> None:
    pretexts = entries(hubconf) - {"sslprune"}
    assert pretexts <= set(PRETEXTS)
    assert pretexts >= {entry.name.pretext for entry in read_index(shipped())[0]} | {"rotnet"}


def test_everything_public_is_an_entry_or_the_dependencies(hubconf: ModuleType) -> None:
    public = {name for name in vars(hubconf) if not name.startswith("_")}
    assert public == {*entries(hubconf), "dependencies"}


def test_the_dependencies_are_importable_modules(hubconf: ModuleType) -> None:
    for name in hubconf.dependencies:
        assert importlib.util.find_spec(name) is not None


def test_every_entry_has_help(hubconf: ModuleType) -> None:
    for name in entries(hubconf):
        assert "Returns:" in getattr(hubconf, name).__doc__


def test_an_entry_is_load(hubconf: ModuleType, zoo: Any) -> None:
    import sslprune as package

    model = hubconf.sslprune("rednet", keep=0.05, head="digits")
    expected = package.load(NAME, head="digits")
    assert model.sslprune.name == expected.sslprune.name == NAME
    assert model.state_dict().keys() == expected.state_dict().keys()


def test_from_a_checkout(zoo: Any) -> None:
    code = f"""
model = torch.hub.load({str(ROOT)!r}, "sslprune", {NAME!r}, source="local")
print(model.sslprune.name, tuple(model(torch.zeros(1, 3, 32, 32)).shape))
"""
    assert hub(code).splitlines()[-1] == f"{NAME} (1, 64)"


def test_from_the_cache_of_a_download_offline(zoo: Any, tmp_path: Path, hubconf: ModuleType) -> None:
    checkout = tmp_path / "hub" / "owner_sslprune_main"
    checkout.mkdir(parents=True)
    shutil.copy(ROOT / "hubconf.py", checkout)
    shutil.copytree(ROOT / "sslprune", checkout / "sslprune", ignore=shutil.ignore_patterns("__pycache__"))
    # As where sslprune is not installed: an editable installation's import hook would come before the checkout.
    code = f"""
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "Redirecting" not in type(finder).__name__]
trusted = {{"trust_repo": True, "skip_validation": True}}
print(*torch.hub.list("owner/sslprune:main", **trusted))
model = torch.hub.load("owner/sslprune:main", "sslprune", {NAME!r}, **trusted)
import sslprune
print(model.sslprune.name, sslprune.__file__)
"""
    listed, loaded = hub(code, TORCH_HOME=str(tmp_path)).splitlines()[-2:]
    assert set(listed.split()) == entries(hubconf)
    name, file = loaded.split()
    assert name == NAME
    assert Path(file) == checkout / "sslprune" / "__init__.py"


def test_an_error_of_the_zoo_comes_through(hubconf: ModuleType, zoo: Any) -> None:
    with pytest.raises(KeepError) as caught:
        hubconf.sslprune("rednet-keep50%")
    assert caught.value.hint == "Its rungs: 100%, 20%, 5%, 1%."
