"""Checkpoints from outside: what fits is read exactly, and what does not is named."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from sslprune import models
from sslprune.errors import ArchitectureError, CheckpointError
from sslprune.files import sha256
from sslprune.models.foreign import is_foreign, load_foreign, renamed, resolve
from sslprune.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

ARCH = "resnet20_cifar"


def network(classes: int = 10) -> dict[str, torch.Tensor]:
    return models.build(ARCH, num_classes=classes, seed=3).state_dict()


@pytest.mark.parametrize("wrapper", ["", "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("put", ["", "module."])
@pytest.mark.parametrize("classes", [0, 10])
def test_every_tensor_comes_back_whatever_was_wrapped_around(
    tmp_path: Path, wrapper: str, put: str, classes: int
) -> None:
    state = network(classes)
    spelled = {f"{put}{key}": tensor for key, tensor in state.items() if "num_batches" not in key}
    torch.save({wrapper: spelled, "epoch": 3} if wrapper else spelled, tmp_path / "net.th")
    foreign = load_foreign(tmp_path / "net.th", ARCH)
    assert not foreign.model.training
    assert foreign.model.num_classes == classes
    assert all(torch.equal(tensor, state[key]) for key, tensor in foreign.model.state_dict().items())
    assert foreign.sha256 == sha256(tmp_path / "net.th")
    assert load_foreign(tmp_path / "net.th", ARCH, sha256=foreign.sha256).architecture == ARCH


def test_safetensors_with_a_prefix_and_other_names(tmp_path: Path) -> None:
    state = network()
    spelled = {f"encoder_q.{key.replace('fc.', 'linear.')}": tensor.clone() for key, tensor in state.items()}
    save_file(
        {**spelled, "encoder_k.conv1.weight": torch.zeros(1), "queue": torch.zeros(2)}, tmp_path / "a.safetensors"
    )
    foreign = load_foreign(tmp_path / "a.safetensors", ARCH, prefix="encoder_q.", rename=["linear=fc"])
    assert foreign.set_aside == ("encoder_k.conv1.weight", "queue")
    assert all(torch.equal(tensor, state[key]) for key, tensor in foreign.model.state_dict().items())


@given(st.dictionaries(st.sampled_from(["a.x", "a.y", "ab.x", "b"]), st.just(torch.zeros(1)), min_size=1))
def test_renaming_touches_whole_modules_alone(state: dict[str, torch.Tensor]) -> None:
    if not any(key.startswith("a.") for key in state):
        with pytest.raises(CheckpointError, match="renames no key"):
            renamed(state, rename=["a=c"])
        return
    found, _ = renamed(state, rename=["a=c"])
    assert list(found) == [f"c{key[1:]}" if key.startswith("a.") else key for key in state]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("layer2.1.bn1.bias"), 'lacks "layer2.1.bn1.bias"'),
        (lambda s: s.update({"layer9.weight": torch.zeros(1)}), 'has "layer9.weight" left over'),
        (lambda s: s.update({"conv1.weight": torch.zeros(16, 3, 5, 5)}), r"conv1.weight has shape \(16, 3, 5, 5\)"),
        (lambda s: s["bn1.weight"].fill_(float("nan")), "bn1.weight is not finite"),
        (lambda s: s.update(epoch=3), "'epoch', a int, among its tensors"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change, said: str) -> None:
    state = network()
    change(state)
    torch.save(dict(state), tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=said):
        load_foreign(tmp_path / "net.pth", ARCH)


def test_rules_that_fit_nothing_are_named() -> None:
    state = {"a.x": torch.zeros(1), "b.x": torch.zeros(1)}
    for rules, said in (
        ({"prefix": "net."}, "no key of the checkpoint begins with 'net.'"),
        ({"rename": ["c=d"]}, "'c=d' renames no key"),
        ({"rename": ["a"]}, "'a' renames no key"),
        ({"rename": ["a=b"]}, "makes one key of two"),
    ):
        with pytest.raises(CheckpointError, match=said):
            renamed(state, **rules)  # type: ignore[arg-type]


class Evil:
    def __reduce__(self):
        return os.system, ("echo never",)


def test_a_pickle_with_code_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"state_dict": network(), "extra": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"it names (posix|nt|os)\.system"):
        load_foreign(tmp_path / "evil.pth", ARCH)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_foreign(tmp_path / "none.pth", ARCH)
    for name in ("a.pth", "a.safetensors"):
        (tmp_path / name).write_bytes(b"\x80nonsense")
        with pytest.raises(CheckpointError):
            load_foreign(tmp_path / name, ARCH)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds a list"):
        load_foreign(tmp_path / "list.pth", ARCH)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError):
        load_foreign(tmp_path / "plain.pth", ARCH)
    torch.save(network(), tmp_path / "net.pth")
    with pytest.raises(ArchitectureError, match="does not say which network"):
        load_foreign(tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="has sha256"):
        load_foreign(tmp_path / "net.pth", ARCH, sha256="0" * 64)


def test_names_stand_for_files_on_this_disk_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"resnet18-f37072fd\.pth"):
        resolve("torchvision:resnet18")
    with pytest.raises(ArchitectureError, match="torchvision has no"):
        resolve("torchvision:resnet81")
    with pytest.raises(ArchitectureError, match="timm has no"):
        resolve("timm:resnet81")
    with pytest.raises(CheckpointError, match="not on this disk"):
        resolve("timm:resnet20_cifar")
    state = models.build("resnet18", num_classes=1000, seed=0).state_dict()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(state, tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    foreign = load_foreign("torchvision:resnet18")
    assert foreign.architecture == "resnet18"
    assert all(torch.equal(tensor, state[key]) for key, tensor in foreign.model.state_dict().items())


def test_what_is_foreign() -> None:
    assert is_foreign(Path("a/b.th"))
    assert not is_foreign("rotnet-resnet20-keep5%")
    assert not is_foreign("zoo/rotnet-resnet20-cifar10-keep0.5")


WEIGHTS = Path(os.environ.get("SSLPRUNE_DATA", "none")) / "weights"


@pytest.mark.slow
@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="needs SSLPRUNE_DATA with weights/ and cifar10/")
@pytest.mark.parametrize("ending", ["th", "safetensors"])
def test_a_published_cifar_network_has_its_published_accuracy(ending: str) -> None:
    from sslprune.data import sources

    foreign = load_foreign(WEIGHTS / f"resnet20-12fca82f.{ending}", ARCH, rename=["linear=fc"])
    images, labels = sources.open("cifar10").labelled("test")
    preprocessing, right = Preprocessing(IMAGENET_MEAN, IMAGENET_STD, 32), 0
    with torch.inference_mode():
        for start in range(0, len(images), 500):
            guesses = foreign.model(preprocessing(images[start : start + 500])).argmax(1).numpy()
            right += int((guesses == labels[start : start + 500]).sum())
    assert abs(right - 9173) <= 1  # an image on the border may fall to either side on another CPU
