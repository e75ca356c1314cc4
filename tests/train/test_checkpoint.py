"""A checkpoint comes back whole, or says why it does not; no code of it ever runs."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from sslprune.errors import CheckpointError
from sslprune.train import checkpoint

SHA = "a" * 64


def payload() -> dict:
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "recipe_sha256": SHA,
        "learner": layer.state_dict(),
        "optimizer": optimizer.state_dict(),
        "snapshot": {"conv": torch.randn(2, 3, 3, 3).to(memory_format=torch.channels_last)},
        "round": 3,
        "update": 7,
    }


def test_what_is_saved_is_loaded_bit_for_bit_with_its_layout(tmp_path: Path) -> None:
    saved = payload()
    checkpoint.save(tmp_path / "rounds" / "a.pt", saved)
    loaded = checkpoint.load(tmp_path / "rounds" / "a.pt", recipe_sha256=SHA)
    assert loaded.keys() == saved.keys()
    assert (loaded["round"], loaded["update"]) == (3, 7)
    assert torch.equal(loaded["learner"]["weight"], saved["learner"]["weight"])
    assert torch.equal(loaded["snapshot"]["conv"], saved["snapshot"]["conv"])
    assert loaded["snapshot"]["conv"].stride() == saved["snapshot"]["conv"].stride()
    for name, tensor in saved["optimizer"]["state"][0].items():
        assert torch.equal(loaded["optimizer"]["state"][0][name], tensor)
    assert [path.name for path in (tmp_path / "rounds").iterdir()] == ["a.pt"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(path, payload())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CheckpointError, match=r"a\.pt"):
        checkpoint.load(path, recipe_sha256=SHA)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a\.pt"):
        checkpoint.load(tmp_path / "a.pt", recipe_sha256=SHA)


@pytest.mark.parametrize("other", [{"recipe_sha256": "b" * 64}, {}, [1, 2]])
def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path, other: object) -> None:
    checkpoint.save(tmp_path / "a.pt", other)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="another recipe"):
        checkpoint.load(tmp_path / "a.pt", recipe_sha256=SHA)


class Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_a_pickle_with_code_is_refused_and_the_code_does_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    torch.save({"recipe_sha256": SHA, "learner": Hostile(trap)}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps({"recipe_sha256": SHA, "learner": Hostile(trap)}, protocol=2))
    assert zipfile.is_zipfile(tmp_path / "a.pt")
    for name in ("a.pt", "b.pt"):
        with pytest.raises(CheckpointError):
            checkpoint.load(tmp_path / name, recipe_sha256=SHA)
    assert not trap.exists()
    torch.load(tmp_path / "a.pt", weights_only=False)
    assert trap.exists()  # it would have


def test_a_full_disk_is_a_storage_error_and_the_old_checkpoint_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(path, payload())
    before = path.read_bytes()
    program = (
        "import resource, sys, torch; from pathlib import Path\n"
        "from sslprune.errors import StorageError; from sslprune.train import checkpoint\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))\n"
        "try: checkpoint.save(Path(sys.argv[1]), {'weights': torch.zeros(1 << 20)})\n"
        "except StorageError: sys.exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == 7
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
