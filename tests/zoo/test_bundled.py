"""The models that ship in the package: small, whole, true to their manifests, and as good as the README says."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import sslprune
from sslprune import jsonl
from sslprune.errors import UnknownHeadError
from sslprune.zoo.index import open_index
from sslprune.zoo.verify import verify_model

FAMILY = "rotnet-resnet20-cifar10"
PACKAGE = Path(sslprune.__file__).parent


@pytest.fixture(autouse=True)
def no_local_zoo(monkeypatch, tmp_path):
    monkeypatch.setenv("SSLPRUNE_ZOO", str(tmp_path))
    monkeypatch.delenv("SSLPRUNE_INDEX", raising=False)


def bundled():
    return {entry.name.keep: entry for entry in open_index().entries if entry.name.family == FAMILY}


def test_the_whole_ladder_is_there():
    assert list(bundled()) == [1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001]


def test_every_model_verifies():
    for entry in open_index().entries:
        verify_model(entry)


def test_all_together_they_are_small():
    assert sum(path.stat().st_size for path in (PACKAGE / "zoo" / "bundled").rglob("*") if path.is_file()) <= 12_000_000


def test_masks_are_nested_and_counts_exact():
    masks = {keep: sslprune.load(str(entry.name)).sslprune.mask for keep, entry in bundled().items()}
    for above, below in zip(list(masks)[:-1], list(masks)[1:], strict=True):
        assert masks[below].is_subset_of(masks[above])
    for keep, mask in masks.items():
        assert mask.kept == round(keep * mask.prunable)


def test_the_short_name_of_the_readme_loads_where_nothing_can_be_written():
    # As root, everything is imported before the rights are given up: the interpreter itself may lie in root's home.
    program = """
import os, sys
import sslprune
sslprune.load("rotnet-resnet20-keep5%")
if os.geteuid() == 0:
    os.setuid(65534)
model = sslprune.load("rotnet-resnet20-keep5%")
print(sum(int(model.state_dict()[name].count_nonzero()) for name in model.sslprune.mask), model.sslprune.manifest.kept)
"""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTHONPATH"] = str(PACKAGE.parent)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    nonzero, kept = done.stdout.split()
    assert nonzero == kept == str(round(0.05 * 267_696))


def test_the_published_probe_classifies_at_once():
    import torch

    model = sslprune.load("rotnet-resnet20-keep5%", head="cifar10")
    assert len(model.classes) == 10
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    with pytest.raises(UnknownHeadError, match="Published: cifar10"):
        sslprune.load("rotnet-resnet20-keep5%", head="imagenet")


def test_learning_without_labels_beats_random_networks_and_survives_pruning():
    rows = jsonl.read(bundled()[1.0].folder / "results.jsonl")
    floor = [
        row["value"]
        for row in rows
        if row["name"] == "random-resnet20" and row["task"] == "linear" and row["protocol"]["best_stage"]
    ]
    linear = {keep: entry.manifest.metrics["cifar10/linear"] for keep, entry in bundled().items()}
    assert len(floor) == 5
    assert linear[1.0] >= statistics.mean(floor) + 10
    assert linear[0.2] >= linear[1.0] - 2


def test_metrics_are_those_of_the_result_rows():
    for entry in bundled().values():
        rows = jsonl.read(entry.folder / "results.jsonl")
        own = {
            f"{row['data']}/{row['task']}": row["value"]
            for row in rows
            if row["name"] == str(entry.name) and row["protocol"]["best_stage"]
        }
        assert own == dict(entry.manifest.metrics)
        assert json.loads((entry.folder / "config.json").read_text())["sslprune"]["name"] == str(entry.name)
