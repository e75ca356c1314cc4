"""What was written comes back by name, bit for bit; what was cut, changed or forged raises a named error instead."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sslprune.errors import (
    ArchitectureError,
    IntegrityError,
    KeepError,
    ManifestError,
    SparseFileError,
    SslpruneError,
    UnknownHeadError,
    UnknownModelError,
    UnknownRuntimeError,
)
from sslprune.evaluate.head import write_head
from sslprune.export import container, sparse_file
from sslprune.models import Preprocessing, build, prunable
from sslprune.models.head import HeadedBackbone, read_head, stage_features
from sslprune.models.preprocess import CIFAR_MEAN, CIFAR_STD
from sslprune.zoo.index import open_index
from sslprune.zoo.info import Identity, ModelInfo, info_of
from sslprune.zoo.load import load
from sslprune.zoo.locate import locate
from sslprune.zoo.manifest import MANIFEST, Manifest

Restate = Callable[..., None]

NAMES = [f"rednet-resnet20-toy-keep{percent}%" for percent in (100, 20, 5, 1)] + [
    f"bluenet-resnet20-toy-keep{percent}%" for percent in (100, 5)
]
NAME = "rednet-resnet20-toy-keep5%"
WEIGHTS = "sparse.safetensors"
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
def test_what_was_written_comes_back_bit_for_bit(zoo: Any, name: str) -> None:
    model = load(name)
    expected = zoo.states[name]
    found = model.state_dict()
    assert list(found) == list(expected)
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype
        assert found[key].numpy().tobytes() == tensor.numpy().tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_as_many_weights_are_there_as_the_manifest_says(zoo: Any, name: str) -> None:
    model = load(name)
    manifest = Manifest.load(zoo.folder(name))
    assert sum(int(weight.count_nonzero()) for weight in prunable(model).values()) == manifest.kept
    for layer in manifest.layers:
        assert int(prunable(model)[layer.name].count_nonzero()) == layer.kept


@pytest.mark.parametrize("name", NAMES)
def test_a_model_says_what_it_is(zoo: Any, name: str) -> None:
    model = load(name)
    info = info_of(model)
    assert model.sslprune is info
    assert info.name == name
    assert info.mask == zoo.masks[name]
    assert list(info.mask) == list(prunable(model))
    assert info.keep == zoo.masks[name].keep == info.manifest.kept / info.manifest.prunable
    assert info.preprocessing == Preprocessing(CIFAR_MEAN, CIFAR_STD, 32)
    assert info.manifest == Manifest.load(zoo.folder(name))
    assert (info.folder, info.architecture) == (zoo.folder(name), "resnet20_cifar")


def test_it_is_an_ordinary_network_in_eval_mode(zoo: Any) -> None:
    model = load(NAME)
    assert not any(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    with torch.inference_mode():
        features = model(IMAGES)
        assert features.shape == (2, model.num_features) == (2, 64)
        assert not torch.allclose(features[0], features[1])
        assert torch.equal(features, model.forward_head(model.forward_features(IMAGES), pre_logits=True))
        assert torch.equal(copy.deepcopy(model)(IMAGES), features)
    plain = build("resnet20_cifar").eval()
    plain.load_state_dict(model.state_dict())
    with torch.inference_mode():
        assert torch.equal(plain(IMAGES), features)


def test_a_copy_still_says_what_it_is(zoo: Any) -> None:
    info = info_of(copy.deepcopy(load(NAME)))
    assert info.name == NAME
    assert info.mask == zoo.masks[NAME]


def test_loading_is_not_random(zoo: Any) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    load(NAME)
    load(NAME, head="digits")
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rednet-resnet20-toy-keep5%", {}),
        ("rednet-resnet20-toy-keep5", {}),
        ("rednet-resnet20-keep5%", {}),
        ("rednet-keep5", {}),
        ("rednet", {"keep": 0.05}),
        ("rednet", {"keep": 0.045}),
        ("rednet", {"keep": 0.05, "arch": "resnet20", "data": "toy"}),
        ("rednet-resnet20-toy", {"keep": 0.05}),
    ],
)
def test_a_short_name_is_the_same_model_and_the_log_says_which(
    zoo: Any, name: str, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="sslprune.zoo.locate")
    assert info_of(load(name, **options)).name == NAME
    assert any(NAME in record.getMessage() for record in caplog.records)


def test_a_folder_is_loaded_wherever_it_lies(zoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = zoo.copy(NAME, tmp_path / "mine")
    monkeypatch.setenv("SSLPRUNE_ZOO", str(tmp_path / "nowhere"))
    monkeypatch.chdir(tmp_path)
    for name in (folder, str(folder), "mine", "./mine", "mine/", Path("mine")):
        assert info_of(load(name)).name == NAME


def test_a_folder_is_not_asked_for_another_model(zoo: Any) -> None:
    folder = zoo.folder(NAME)
    assert info_of(load(folder, keep=0.05, arch="resnet20", data="toy")).name == NAME
    with pytest.raises(KeepError, match="no rung near keep 20%") as caught:
        load(folder, keep=0.2)
    assert caught.value.hint == "Its rungs: 5%."
    with pytest.raises(UnknownModelError):
        load(folder, arch="resnet56")
    with pytest.raises(KeepError, match="is not a fraction"):
        load(folder, keep=5)


@pytest.mark.parametrize("name", ["nowhere/model", Path("nowhere"), "a/\0", "/"])
def test_a_folder_without_a_model_is_said(zoo: Any, name: str | Path) -> None:
    with pytest.raises(ManifestError, match="is not a model's folder"):
        load(name)


@pytest.mark.parametrize("name", ["", "x" * 5000, "\0", "~", "rednet\n", ".", "rednet-resnet20-toy-keep5%\n"])
def test_a_name_without_a_model_is_said(zoo: Any, name: str) -> None:
    with pytest.raises(UnknownModelError, match="there is no model"):
        load(name)


def test_a_misspelt_name_is_answered_with_the_nearest(zoo: Any) -> None:
    with pytest.raises(UnknownModelError, match="there is no model 'rednte-resnet20'") as caught:
        load("rednte-resnet20-keep5%")
    assert "rednet-resnet20-toy" in caught.value.hint


def test_the_device_and_the_type_of_all_tensors(zoo: Any) -> None:
    model = load(NAME, device="meta")
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}


# Classifiers


def test_a_fresh_classifier_is_attached(zoo: Any) -> None:
    model = load(NAME, num_classes=7)
    assert model(IMAGES).shape == (2, 7)
    assert model.num_classes == 7
    assert info_of(model).mask == zoo.masks[NAME]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.train()
    for _ in range(2):
        model(IMAGES).square().mean().backward()
        optimizer.step()
        info_of(model).mask.apply_(model)
    assert sum(int(weight.count_nonzero()) for weight in prunable(model).values()) <= info_of(model).manifest.kept


def test_a_published_head_classifies(zoo: Any) -> None:
    model = load(NAME, head="digits")
    assert isinstance(model, HeadedBackbone)
    assert tuple(model.classes) == tuple("0123456789")
    backbone, head = load(NAME), read_head(zoo.folder(NAME) / "head-digits.safetensors")
    with torch.inference_mode():
        logits = model(IMAGES)
        assert torch.equal(logits, head.probe.logits(stage_features(backbone, IMAGES, head.stage, head.pool)))
        assert torch.equal(model.forward_features(IMAGES), backbone.forward_features(IMAGES))
    assert logits.shape == (2, 10)
    assert not torch.allclose(logits[0], logits[1])
    assert not model.training


def test_the_mask_of_a_network_with_a_head_fits_it(zoo: Any) -> None:
    model = load(NAME, head="digits")
    info = info_of(model)
    assert (info.mask.kept, info.mask.prunable) == (info.manifest.kept, info.manifest.prunable)
    with torch.no_grad():
        for weight in prunable(model.backbone).values():
            weight.fill_(1)
    info.mask.apply_(model)
    assert sum(int(weight.count_nonzero()) for weight in prunable(model.backbone).values()) == info.manifest.kept


def test_a_head_that_was_not_published_names_those_that_were(zoo: Any, tmp_path: Path, restate: Restate) -> None:
    for head in ("cifar10", "../digits", ""):
        with pytest.raises(UnknownHeadError) as caught:
            load(NAME, head=head)
        assert "Published: digits." in caught.value.hint
    folder = zoo.copy(NAME, tmp_path / "bare")
    (folder / "head-digits.safetensors").unlink()
    restate(folder)
    with pytest.raises(UnknownHeadError) as caught:
        load(folder, head="digits")
    assert "Published: none." in caught.value.hint


def test_one_classifier_at_a_time(zoo: Any) -> None:
    with pytest.raises(ArchitectureError, match="both given"):
        load(NAME, head="digits", num_classes=7)
    with pytest.raises(ArchitectureError, match="num_classes = -1"):
        load(NAME, num_classes=-1)


def test_a_head_of_another_network_is_refused(zoo: Any, tmp_path: Path, restate: Restate) -> None:
    folder = zoo.copy(NAME, tmp_path / "model")
    path = folder / "head-digits.safetensors"
    head = read_head(path)
    write_head(path, type(head)(head.task, "layer9", head.pool, head.probe))
    restate(folder)
    with pytest.raises(ArchitectureError, match="no stage 'layer9'"):
        load(folder, head="digits")
    load(folder)


def test_a_network_that_was_not_loaded_says_nothing() -> None:
    with pytest.raises(ManifestError, match="was not loaded by sslprune"):
        info_of(build("resnet20_cifar"))


# Places where nothing may be written or fetched

IN_A_CAGE = """
import os, sys
import torch
import sslprune

def no_network(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise SystemExit(f"the network was asked: {event} {arguments}")

sys.addaudithook(no_network)
sslprune.load("bluenet-keep5%", head="digits")  # all modules are imported: Python itself may be out of reach below
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for place in (os.environ["SSLPRUNE_ZOO"], os.path.join(os.environ["SSLPRUNE_ZOO"], "rednet-resnet20-toy-keep5")):
    assert not os.access(place, os.W_OK), place
model = sslprune.load("rednet-resnet20-keep5%", head="digits")
weights = [weight for name, weight in model.state_dict().items() if name in model.sslprune.mask]
print(model.sslprune.name, sum(int(weight.count_nonzero()) for weight in weights))
print(model(torch.zeros(1, 3, 32, 32)).shape[1])
"""


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="this system has no users to become")
def test_loading_needs_no_network_and_no_right_to_write(zoo: Any) -> None:
    # Not below pytest's own folder, which no other user may enter.
    with tempfile.TemporaryDirectory(prefix="sslprune-test-") as temporary:
        place = Path(shutil.copytree(zoo.path, Path(temporary) / "zoo"))
        os.chmod(temporary, 0o755)
        for path in [place, *place.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            environment = os.environ | {"SSLPRUNE_ZOO": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
            command = [sys.executable, "-c", IN_A_CAGE]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
        finally:
            for path in [place, *place.iterdir()]:
                path.chmod(0o755)
    assert done.returncode == 0, done.stderr
    kept = Manifest.load(zoo.folder(NAME)).kept
    assert done.stdout.split() == [NAME, str(kept), "10"]


@pytest.mark.skipif(not hasattr(os, "setuid") or os.getuid() != 0, reason="needs a user whose home is out of reach")
def test_a_home_that_may_not_be_entered_is_an_empty_zoo(tmp_path: Path) -> None:
    code = """
import os
import sslprune.zoo.index as index
index.open_index()  # all modules are imported: Python itself may be out of reach below
os.setgroups([]); os.setgid(65534); os.setuid(65534)
assert not os.access(os.environ["HOME"], os.X_OK)
print([entry for entry in index.open_index().entries if entry.status == "local"])
"""
    (tmp_path / "home" / ".local").mkdir(parents=True)
    (tmp_path / "home").chmod(0o700)
    environment = {name: value for name, value in os.environ.items() if name != "SSLPRUNE_ZOO"}
    environment |= {"HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


# Files that are cut, changed or forged


def loads_well(folder: Path, state: dict[str, torch.Tensor]) -> None:
    found = load(folder).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def sampled(size: int, many: int = 30) -> list[int]:
    """Places all over a file, its first bytes among them."""
    return sorted({*range(min(10, size)), *(round(step * (size - 1) / many) for step in range(many + 1))})


@pytest.mark.parametrize("file", [WEIGHTS, "config.json", MANIFEST, "head-digits.safetensors"])
def test_a_flipped_bit_is_never_loaded_unnoticed(zoo: Any, tmp_path: Path, file: str) -> None:
    folder = zoo.copy(NAME, tmp_path / "model")
    good = (folder / file).read_bytes()
    head = "digits" if file.startswith("head") else None
    for at in sampled(len(good)):
        spoiled = bytearray(good)
        spoiled[at] ^= 1 << at % 8
        (folder / file).write_bytes(spoiled)
        if file != MANIFEST:
            with pytest.raises(IntegrityError, match=file):
                load(folder, head=head)
        # A changed manifest without an index is a manifest; it may at most be another one that is sound.
        for verify in (False, True) if file == MANIFEST else (False,):
            try:
                model = load(folder, head=head, verify=verify)
            except SslpruneError:
                continue
            assert isinstance(model.sslprune, ModelInfo)
            assert all(bool(torch.isfinite(tensor).all()) for tensor in model.state_dict().values())
    (folder / file).write_bytes(good)
    loads_well(folder, zoo.states[NAME])


@pytest.mark.parametrize("file", [WEIGHTS, "config.json", MANIFEST, "head-digits.safetensors"])
def test_a_file_that_was_cut_is_refused(zoo: Any, tmp_path: Path, restate: Restate, file: str) -> None:
    folder = zoo.copy(NAME, tmp_path / "model")
    good, manifest = (folder / file).read_bytes(), (folder / MANIFEST).read_bytes()
    for length in sampled(len(good) - 1, many=12):
        (folder / file).write_bytes(good[:length])
        expected = ManifestError if file == MANIFEST else IntegrityError
        if good[:length].strip() == good.strip():
            continue
        with pytest.raises(expected):
            load(folder, head="digits")
        with pytest.raises((ManifestError, SparseFileError)):
            load(folder, head="digits", verify=False)
        if file != MANIFEST:  # and where the forger corrected the hashes
            restate(folder)
            with pytest.raises((ManifestError, SparseFileError)):
                load(folder, head="digits")
            (folder / MANIFEST).write_bytes(manifest)
    (folder / file).write_bytes(good)
    loads_well(folder, zoo.states[NAME])


@pytest.mark.parametrize("file", [WEIGHTS, "config.json", MANIFEST])
def test_a_missing_file_is_named(zoo: Any, tmp_path: Path, file: str) -> None:
    folder = zoo.copy(NAME, tmp_path / "model")
    (folder / file).unlink()
    for verify in (True, False):
        with pytest.raises(SslpruneError, match=file):
            load(folder, verify=verify)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_bytes_for_the_weights_are_refused_or_finite(
    zoo: Any, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = zoo.copy(NAME, tmp_path_factory.mktemp("fuzz") / "model")
    spoiled = bytearray((folder / WEIGHTS).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(spoiled)))
        spoiled[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    (folder / WEIGHTS).write_bytes(spoiled)
    try:
        model = load(folder, verify=False)
    except SslpruneError:
        return
    assert all(bool(torch.isfinite(tensor).all()) for tensor in model.state_dict().values())
    assert info_of(model).mask.kept == info_of(model).manifest.kept


def test_weights_of_another_shape_are_refused(zoo: Any, tmp_path: Path, restate: Restate) -> None:
    folder = zoo.copy(NAME, tmp_path / "model")
    good = (folder / WEIGHTS).read_bytes()

    def forge(arrays: dict[str, np.ndarray], masks: dict[str, np.ndarray] | None = None) -> None:
        sparse_file.write(folder / WEIGHTS, arrays, masks or {}, metadata={})
        restate(folder)

    def arrays(arch: str) -> dict[str, np.ndarray]:
        return {name: tensor.numpy() for name, tensor in build(arch, seed=0).state_dict().items()}

    cases: dict[str, Callable[[], None]] = {
        "do not have the same tensors": lambda: forge(arrays("resnet56_cifar")),
        "'layer2.0.downsample": lambda: forge(arrays("resnet20_cifar_proj")),
        "'extra'": lambda: forge(arrays("resnet20_cifar") | {"extra": np.zeros(3, np.float32)}),
        "conv1.weight has shape": lambda: forge(
            arrays("resnet20_cifar") | {"conv1.weight": np.zeros((16, 3, 3, 4), np.float32)}
        ),
        "bn1.weight has shape": lambda: forge(arrays("resnet20_cifar") | {"bn1.weight": np.zeros(17, np.float32)}),
        "bn1.weight is float64": lambda: forge(
            arrays("resnet20_cifar") | {"bn1.weight": np.full(16, 1e300, np.float64)}
        ),
        "prunes 'bn1.weight', which is not prunable": lambda: forge(
            arrays("resnet20_cifar"), {"bn1.weight": np.ones(16, np.bool_)}
        ),
        "keeps": lambda: forge(arrays("resnet20_cifar")),
    }
    for problem, spoil in cases.items():
        spoil()
        with pytest.raises(SparseFileError, match=problem) as caught:
            load(folder)
        assert str(folder) in caught.value.problem
    (folder / WEIGHTS).write_bytes(good)
    restate(folder)
    loads_well(folder, zoo.states[NAME])


def taken_apart(file: bytes) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The metadata and the pieces of a sparse file."""
    (length,) = struct.unpack("<Q", file[:8])
    return json.loads(file[8 : 8 + length])["__metadata__"], safetensors.numpy.load(file)


def gaps_in(file: bytes) -> dict[str, bytearray]:
    """Tensor coded as gaps -> these."""
    about, pieces = taken_apart(file)
    told = json.loads(about["sslprune.pruned"])
    streams = {name: pieces[f"{name}:mask"].tobytes() for name in told if told[name]["coding"] != "bitmask"}
    return {
        name: bytearray(stream if told[name]["coding"] == "gap8" else zlib.decompress(stream, wbits=-15))
        for name, stream in streams.items()
    }


def with_gaps(file: bytes, name: str, gaps: bytearray) -> bytes:
    """A file whose tensor has other gaps, not deflated."""
    about, pieces = taken_apart(file)
    told = json.loads(about["sslprune.pruned"])
    told[name]["coding"] = "gap8"
    pieces[f"{name}:mask"] = np.frombuffer(bytes(gaps), np.uint8)
    start, order = container.build(about | {"sslprune.pruned": json.dumps(told)}, pieces)
    return start + b"".join(pieces[piece].tobytes() for piece in order)


def test_an_index_out_of_range_is_refused_with_all_hashes_right(zoo: Any, tmp_path: Path, restate: Restate) -> None:
    folder = zoo.copy(NAME, tmp_path / "model")
    good = (folder / WEIGHTS).read_bytes()
    gaps = gaps_in(good)
    assert len(gaps) > 5
    for name, right in gaps.items():
        # The walk only goes forward, so an index cannot be unsorted; it can only run past the end.
        wrong = bytearray(254 if byte != 255 else 255 for byte in right)
        (folder / WEIGHTS).write_bytes(with_gaps(good, name, wrong))
        restate(folder)
        with pytest.raises(SparseFileError, match="past the end"):
            load(folder)
    (folder / WEIGHTS).write_bytes(good)
    restate(folder)
    loads_well(folder, zoo.states[NAME])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_gaps_are_refused_or_are_sorted_indices_within_range(
    zoo: Any, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("gaps") / WEIGHTS
    file = zoo.folder(NAME).joinpath(WEIGHTS).read_bytes()
    name, gaps = data.draw(st.sampled_from(sorted(gaps_in(file).items())))
    first, second = (data.draw(st.integers(0, len(gaps) - 1)) for _ in range(2))
    gaps[first], gaps[second] = gaps[second], data.draw(st.sampled_from([0, 1, 254, gaps[first]]))
    path.write_bytes(with_gaps(file, name, gaps))
    try:
        mask = sparse_file.read(path).masks[name]
    except SparseFileError:
        return
    assert np.count_nonzero(mask) == zoo.masks[NAME][name].sum()


HOSTILE_CONFIGS: dict[str, tuple[type[SslpruneError], Callable[[dict[str, Any]], object]]] = {
    "an architecture from a hub": (ArchitectureError, lambda c: c.update(architecture="hf-hub:x/y")),
    "an architecture from a folder": (ArchitectureError, lambda c: c.update(architecture="local-dir:/tmp/x")),
    "an architecture with a path": (ArchitectureError, lambda c: c.update(architecture="../x")),
    "an architecture with a tag": (ArchitectureError, lambda c: c.update(architecture="resnet18.a1_in1k")),
    "an unknown architecture": (ArchitectureError, lambda c: c.update(architecture="resnet21_cifar")),
    "no architecture": (ManifestError, lambda c: c.pop("architecture")),
    "an architecture in a list": (ManifestError, lambda c: c.update(architecture=["resnet20_cifar"])),
    "another architecture": (SparseFileError, lambda c: c.update(architecture="resnet56_cifar")),
    "classes that are not in the file": (SparseFileError, lambda c: c.update(num_classes=10)),
    "a negative number of classes": (ManifestError, lambda c: c.update(num_classes=-1)),
    "a billion classes": (ManifestError, lambda c: c.update(num_classes=10**9)),
    "classes that are text": (ManifestError, lambda c: c.update(num_classes="7")),
    "no object of ours": (ManifestError, lambda c: c.pop("sslprune")),
    "a text of ours": (ManifestError, lambda c: c.update(sslprune="preprocessing")),
    "no pre-processing": (ManifestError, lambda c: c["sslprune"].pop("preprocessing")),
    "a mean of NaN": (ManifestError, lambda c: c["sslprune"]["preprocessing"].update(mean=[math.nan, 0, 0])),
    "a mean beyond floats": (ManifestError, lambda c: c["sslprune"]["preprocessing"].update(mean=[10**400, 0, 0])),
    "a std of zero": (ManifestError, lambda c: c["sslprune"]["preprocessing"].update(std=[0, 1, 1])),
    "an image of terabytes": (ManifestError, lambda c: c["sslprune"]["preprocessing"].update(size=10**6)),
    "a size of nothing": (ManifestError, lambda c: c["sslprune"]["preprocessing"].update(size=0)),
    "an unknown filter": (ManifestError, lambda c: c["sslprune"]["preprocessing"].update(interpolation="x")),
}


@pytest.mark.parametrize(("error", "spoil"), HOSTILE_CONFIGS.values(), ids=HOSTILE_CONFIGS)
def test_a_hostile_config_is_refused_with_all_hashes_right(
    zoo: Any, tmp_path: Path, restate: Restate, error: type[SslpruneError], spoil: Callable[[dict[str, Any]], object]
) -> None:
    folder = zoo.copy(NAME, tmp_path / "model")
    good = (folder / "config.json").read_text()
    config = json.loads(good)
    spoil(config)
    (folder / "config.json").write_text(json.dumps(config))
    restate(folder)
    with pytest.raises(error) as caught:
        load(folder)
    assert len(str(caught.value).splitlines()) == 2
    (folder / "config.json").write_text(good)
    restate(folder)
    loads_well(folder, zoo.states[NAME])


@pytest.mark.parametrize("text", ["", "[]", "7", '"resnet20_cifar"', "[" * 100_000, "\xff", "{"])
def test_what_is_no_config_is_refused(zoo: Any, tmp_path: Path, restate: Restate, text: str) -> None:
    folder = zoo.copy(NAME, tmp_path / "model")
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    restate(folder)
    with pytest.raises(ManifestError, match="is not a model's config"):
        load(folder)


def shifted(manifest: Manifest, by: int) -> dict[str, Any]:
    """A manifest's counts, sound in themselves, with so many more weights kept in the first layer."""
    table = json.loads(manifest.to_json())
    table["layers"][0]["kept"] += by
    table["kept"] += by
    table["keep"] = table["kept"] / table["prunable"]
    return {name: table[name] for name in ("layers", "kept", "keep")}


@pytest.mark.parametrize("by", [-1, 1])
def test_a_manifest_that_lies_about_counts_is_caught(zoo: Any, tmp_path: Path, restate: Restate, by: int) -> None:
    folder = zoo.copy(NAME, tmp_path / "model")
    manifest = Manifest.load(folder)
    restate(folder, **shifted(manifest, by))
    for verify in (True, False):
        problem = f"keeps {manifest.kept} of {manifest.prunable} weights, the manifest says {manifest.kept + by}"
        with pytest.raises(SparseFileError, match=problem):
            load(folder, verify=verify)


@pytest.mark.parametrize(
    ("problem", "changes"),
    [
        ("schema 2 is not known", {"schema": 2}),
        ("is not a file's name", {"files": {"../../etc/passwd": {"size": 1, "sha256": "0" * 64}}}),
        ("do not add up", {"kept": 1}),
    ],
)
def test_a_hostile_manifest_is_refused(
    zoo: Any, tmp_path: Path, problem: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = zoo.copy(NAME, tmp_path / "zoo" / "model")
    table = json.loads((folder / MANIFEST).read_text())
    table["files"] |= changes.pop("files", {})
    (folder / MANIFEST).write_text(json.dumps(table | changes))
    for verify in (True, False):
        with pytest.raises(ManifestError, match=problem):
            load(folder, verify=verify)
    # In a zoo it is no model, and harms no other.
    zoo.copy("rednet-resnet20-toy-keep20%", tmp_path / "zoo" / "good")
    monkeypatch.setenv("SSLPRUNE_ZOO", str(tmp_path / "zoo"))
    assert [str(entry.name) for entry in open_index().select("rednet")] == ["rednet-resnet20-toy-keep20%"]
    load("rednet-keep20")


def test_a_pickle_is_never_opened(zoo: Any, tmp_path: Path, restate: Restate) -> None:
    folder = zoo.copy(NAME, tmp_path / "model")

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (tmp_path.joinpath("exploded").write_text, ("boom",))

    for file in (WEIGHTS, "config.json", "head-digits.safetensors", MANIFEST):
        torch.save(Bomb(), folder / file)
        if file != MANIFEST:
            restate(folder)
        with pytest.raises((SparseFileError, ManifestError)):
            load(folder, head="digits")
        shutil.rmtree(folder)
        zoo.copy(NAME, folder)
    assert not (tmp_path / "exploded").exists()


def test_an_entry_is_located_without_reading_weights(zoo: Any, tmp_path: Path) -> None:
    folder = zoo.copy(NAME, tmp_path / "model")
    (folder / WEIGHTS).unlink()
    assert str(locate(folder).name) == NAME
    assert locate("rednet", keep=0.2).folder == zoo.folder("rednet-resnet20-toy-keep20%")


# Other runtimes

BUNDLED = "rotnet-resnet20-cifar10-keep5%"
ONNX = "model.onnx"


@pytest.fixture
def bundled(tmp_path: Path) -> Path:
    """A copy of a bundled model, which comes with its ONNX file."""
    return Path(shutil.copytree(locate(BUNDLED).folder, tmp_path / "bundled"))


def runs_well(folder: Path) -> None:
    assert load(folder, runtime="onnx", head="cifar10")(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 10)


def test_an_unknown_runtime_names_those_that_exist() -> None:
    with pytest.raises(UnknownRuntimeError, match="no runtime 'sprase'") as caught:
        load(NAME, runtime="sprase")
    assert caught.value.hint == "Choose one of: torch, onnx, sparse."


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_classes": 3}, "the runtime 'sparse' cannot train"),
        ({"device": "cuda"}, "runs on the CPU, not on 'cuda'"),
        ({"device": torch.device("cuda:1")}, "runs on the CPU, not on 'cuda:1'"),
        ({"head": "digits"}, "no published head 'digits'"),
    ],
)
def test_what_the_sparse_engine_cannot_do_is_said(options: dict[str, Any], named: str) -> None:
    with pytest.raises(SslpruneError, match=named):
        load(BUNDLED, runtime="sparse", **options)


def test_the_sparse_engines_files_are_verified(bundled: Path) -> None:
    with open(bundled / WEIGHTS, "ab") as file:
        file.write(b" ")
    with pytest.raises(IntegrityError):
        load(bundled, runtime="sparse")
    assert load(locate(BUNDLED).folder, runtime="sparse", device="cpu").sslprune.name == BUNDLED


def test_a_name_is_resolved_for_every_runtime() -> None:
    model = load("rotnet-resnet20", keep=0.045, runtime="onnx")
    assert isinstance(model.sslprune, Identity)
    assert model.sslprune.name == BUNDLED
    assert (model.sslprune.architecture, model.sslprune.folder) == ("resnet20_cifar", locate(BUNDLED).folder)


def test_onnx_cannot_be_fine_tuned() -> None:
    with pytest.raises(ArchitectureError, match="num_classes means nothing"):
        load(BUNDLED, runtime="onnx", num_classes=7)


def test_a_head_that_was_not_published_is_named_for_onnx_too() -> None:
    with pytest.raises(UnknownHeadError) as caught:
        load(BUNDLED, runtime="onnx", head="digits")
    assert "Published: cifar10." in caught.value.hint


def test_a_model_without_an_onnx_file_says_how_to_make_it(bundled: Path, restate: Restate) -> None:
    (bundled / ONNX).unlink()
    restate(bundled)
    for verify in (True, False):
        with pytest.raises(ManifestError, match=r"comes without model\.onnx") as caught:
            load(bundled, runtime="onnx", verify=verify)
        assert f"sslprune export {BUNDLED} --format onnx" in caught.value.hint
        assert len(str(caught.value).splitlines()) == 2


def test_an_onnx_file_that_the_manifest_does_not_list_is_not_trusted(bundled: Path) -> None:
    manifest = json.loads((bundled / MANIFEST).read_text())
    del manifest["files"][ONNX]
    (bundled / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ManifestError, match=r"does not list model\.onnx") as caught:
        load(bundled, runtime="onnx")
    assert "if you made the file yourself: sslprune.runtime.open_onnx(" in caught.value.hint
    load(bundled, runtime="onnx", verify=False)


@pytest.mark.parametrize("file", [ONNX, "config.json", "head-cifar10.safetensors"])
def test_a_flipped_bit_is_never_run_unnoticed(bundled: Path, file: str) -> None:
    good = (bundled / file).read_bytes()
    for at in sampled(len(good)):
        spoiled = bytearray(good)
        spoiled[at] ^= 1 << at % 8
        (bundled / file).write_bytes(spoiled)
        with pytest.raises(IntegrityError, match=file):
            load(bundled, runtime="onnx", head="cifar10")
        with contextlib.suppress(SslpruneError):
            load(bundled, runtime="onnx", head="cifar10", verify=False)
    (bundled / file).write_bytes(good)
    runs_well(bundled)


@pytest.mark.parametrize("file", [ONNX, "config.json", "head-cifar10.safetensors"])
def test_a_file_that_was_cut_is_not_run(bundled: Path, restate: Restate, file: str) -> None:
    good, manifest = (bundled / file).read_bytes(), (bundled / MANIFEST).read_bytes()
    for length in sampled(len(good.rstrip()) - 1, many=12):
        (bundled / file).write_bytes(good[:length])
        with pytest.raises(IntegrityError):
            load(bundled, runtime="onnx", head="cifar10")
        restate(bundled)
        for verify in (True, False):
            with pytest.raises((ManifestError, SparseFileError)):
                load(bundled, runtime="onnx", head="cifar10", verify=verify)
        (bundled / MANIFEST).write_bytes(manifest)
    (bundled / file).write_bytes(good)
    runs_well(bundled)


def test_another_models_onnx_file_is_refused_with_all_hashes_right(bundled: Path, restate: Restate) -> None:
    shutil.copy(locate("rotnet-resnet20-cifar10-keep10%").folder / ONNX, bundled / ONNX)
    restate(bundled)
    with pytest.raises(SparseFileError, match=r"is another model's file: its name is rotnet-.*-keep10%"):
        load(bundled, runtime="onnx")


def test_an_onnx_file_of_other_weights_is_refused_with_all_hashes_right(bundled: Path, restate: Restate) -> None:
    config = json.loads((bundled / "config.json").read_text())
    config["sslprune"]["preprocessing"]["mean"][0] += 0.1
    (bundled / "config.json").write_text(json.dumps(config))
    restate(bundled)
    with pytest.raises(SparseFileError, match="its preprocessing is"):
        load(bundled, runtime="onnx")
    shutil.copy(locate(BUNDLED).folder / "config.json", bundled / "config.json")
    with open(bundled / WEIGHTS, "ab") as file:
        file.write(b" ")
    restate(bundled)
    with pytest.raises(SparseFileError, match="its source_sha256 is"):
        load(bundled, runtime="onnx")


def test_a_head_on_a_stage_that_the_onnx_file_lacks_is_refused(bundled: Path, restate: Restate) -> None:
    path = bundled / "head-cifar10.safetensors"
    head = read_head(path)
    write_head(path, type(head)(head.task, "layer1", head.pool, head.probe))
    restate(bundled)
    with pytest.raises(ArchitectureError, match="does not give the stage 'layer1'"):
        load(bundled, runtime="onnx", head="cifar10")
    load(bundled, runtime="onnx")
