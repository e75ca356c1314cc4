"""A head survives its file, refuses what cannot be, and makes a classifier of a backbone."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from sslprune.errors import ArchitectureError, SparseFileError
from sslprune.evaluate.head import write_head
from sslprune.models import build, forward_stages, stages
from sslprune.models.head import Head, HeadedBackbone, Probe, head_filename, head_metadata, pool_flat, read_head

TENSORS = ("mean", "std", "weight", "bias")


def make_head(wide: int = 512, many: int = 3, seed: int = 0, stage: str = "layer2", pool: int = 4) -> Head:
    generator = torch.Generator().manual_seed(seed)
    probe = Probe(
        mean=torch.randn(wide, generator=generator),
        std=torch.rand(wide, generator=generator) + 0.5,
        weight=torch.randn(many, wide, generator=generator),
        bias=torch.randn(many, generator=generator),
        l2=1e-3,
        classes=tuple(f"class {n}" for n in range(many)),
        held_out=62.5,
        converged=True,
    )
    return Head("digits", stage, pool, probe)


def content(head: Head) -> dict[str, torch.Tensor]:
    return {name: getattr(head.probe, name) for name in TENSORS}


def spoiled(head: Head, **changes: object) -> Head:
    return replace(head, probe=replace(head.probe, **changes))


@given(wide=st.integers(1, 20), many=st.integers(1, 5), seed=st.integers(0, 99), name=st.text(max_size=8))
def test_a_head_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, wide: int, many: int, seed: int, name: str
) -> None:
    path = tmp_path_factory.mktemp("head") / head_filename("digits")
    head = make_head(wide, many, seed)
    head = spoiled(head, classes=(name, *(f"{name}{n}" for n in range(1, many))))
    again = read_head(write_head(path, head))
    assert (again.task, again.stage, again.pool) == (head.task, head.stage, head.pool)
    assert all(torch.equal(content(again)[name], content(head)[name]) for name in TENSORS)
    probe = again.probe
    assert (probe.l2, probe.classes, probe.held_out, probe.converged) == (1e-3, head.probe.classes, 62.5, True)


def test_equal_heads_make_equal_files(tmp_path: Path) -> None:
    first, second = write_head(tmp_path / "a", make_head()), write_head(tmp_path / "b", make_head())
    assert first.read_bytes() == second.read_bytes()


@given(cut=st.integers(0, 300))
def test_a_truncated_file_is_refused(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = write_head(tmp_path_factory.mktemp("head") / "head", make_head(wide=4))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * cut // 301])
    with pytest.raises(SparseFileError, match="no head file"):
        read_head(path)


def impossible() -> dict[str, Head]:
    head = make_head(wide=4)
    nan, zero = head.probe.weight.clone(), head.probe.std.clone()
    nan[1, 2] = float("nan")
    zero[0] = 0
    return {
        "nan": spoiled(head, weight=nan),
        "infinite bias": spoiled(head, bias=torch.full((3,), float("inf"))),
        "std 0": spoiled(head, std=zero),
        "std -1": spoiled(head, std=-head.probe.std),
        "short mean": spoiled(head, mean=head.probe.mean[:3]),
        "transposed": spoiled(head, weight=head.probe.weight.T.contiguous()),
        "half": spoiled(head, weight=head.probe.weight.half()),
        "too few classes": spoiled(head, classes=("a", "b")),
        "equal classes": spoiled(head, classes=("a", "b", "a")),
        "no classes": spoiled(head, classes=(), weight=torch.zeros(0, 4), bias=torch.zeros(0)),
        "no features": make_head(wide=0),
        "negative l2": spoiled(head, l2=-1.0),
        "101 %": spoiled(head, held_out=101.0),
        "converged 1": spoiled(head, converged=1),
        "pool 0": replace(head, pool=0),
        "pool true": replace(head, pool=True),
        "no stage": replace(head, stage=""),
        "task with a path": replace(head, task="../evil"),
    }


@pytest.mark.parametrize("what", impossible())
def test_an_impossible_head_is_neither_written_nor_read(tmp_path: Path, what: str) -> None:
    head = impossible()[what]
    path = tmp_path / "head"
    with pytest.raises(SparseFileError):
        write_head(path, head)
    assert not path.exists()
    path.write_bytes(save(content(head), metadata=head_metadata(head)))
    with pytest.raises(SparseFileError):
        read_head(path)


def fields() -> dict[str, object]:
    return json.loads(head_metadata(make_head(wide=4))["sslprune"])


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {"sslprune": "{"},
        {"sslprune": "[" * 100_000},
        {"sslprune": "[]"},
        {"sslprune": json.dumps({**fields(), "version": 2})},
        {"sslprune": json.dumps({**fields(), "more": 1})},
        {"sslprune": json.dumps({key: value for key, value in fields().items() if key != "pool"})},
        {"sslprune": json.dumps({**fields(), "classes": "abc"})},
        {"sslprune": json.dumps({**fields(), "classes": [1, 2, 3]})},
        {"sslprune": json.dumps({**fields(), "classes": [[], [], []]})},
        {"sslprune": json.dumps({**fields(), "l2": float("nan")})},
        {"sslprune": json.dumps({**fields(), "l2": None})},
        {"sslprune": json.dumps({**fields(), "stage": 2})},
        {"sslprune": json.dumps({**fields(), "task": None})},
        {"sslprune": json.dumps({**fields(), "pool": 4.0})},
    ],
)
def test_metadata_that_says_something_else_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "head"
    path.write_bytes(save(content(make_head(wide=4)), metadata=metadata))
    with pytest.raises(SparseFileError):
        read_head(path)


def test_other_tensors_are_refused(tmp_path: Path) -> None:
    head, path = make_head(wide=4), tmp_path / "head"
    whole = content(head)
    for tensors in (
        {**whole, "more": torch.zeros(1)},
        {"mean": whole["mean"]},
        {**whole, "bias": torch.zeros(3).int()},
    ):
        path.write_bytes(save(tensors, metadata=head_metadata(head)))
        with pytest.raises(SparseFileError):
            read_head(path)


def test_a_missing_file_is_a_named_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(SparseFileError, match="no head file"):
            read_head(path)


def test_file_names() -> None:
    assert head_filename("cifar10") == "head-cifar10.safetensors"
    for task in ("", "../x", "A", "a/b", "a" * 65, "-x", "a\n"):
        with pytest.raises(SparseFileError, match="cannot name"):
            head_filename(task)


@pytest.fixture
def net() -> nn.Module:
    return build("resnet20_cifar", seed=0).eval()


def test_the_classifier_is_the_probe_on_the_stage(net: nn.Module) -> None:
    head, x = make_head(), torch.randn(3, 3, 32, 32)
    expected = head.probe.logits(pool_flat(forward_stages(net, x)[1], 4))
    torch.testing.assert_close(HeadedBackbone(net, head)(x), expected)


def test_a_head_on_the_pooled_features(net: nn.Module) -> None:
    head, x = make_head(wide=64, stage="pooled", pool=1), torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(HeadedBackbone(net, head)(x), head.probe.logits(net(x)))


def test_the_backbone_answers_for_itself(net: nn.Module) -> None:
    net.sslprune = SimpleNamespace(name="rotnet")
    headed, x = HeadedBackbone(net, make_head()), torch.randn(2, 3, 32, 32)
    assert torch.equal(headed.forward_features(x), net.forward_features(x))
    pooled = headed.forward_head(headed.forward_features(x), pre_logits=True)
    assert torch.equal(pooled, net(x))
    assert (headed.num_features, headed.sslprune.name, stages(headed)) == (64, "rotnet", stages(net))
    assert headed.classes == ("class 0", "class 1", "class 2")
    assert not headed.training
    with pytest.raises(AttributeError, match="nonsense"):
        _ = headed.nonsense


def test_a_fresh_classifier_takes_the_place_of_the_probe(net: nn.Module) -> None:
    headed, x = HeadedBackbone(net, make_head()), torch.randn(2, 3, 32, 32)
    headed.reset_classifier(7)
    assert headed(x).shape == (2, 7)
    assert headed.classes == ()
    headed.reset_classifier(0)
    assert torch.equal(headed(x), net(x))


def test_copies_and_state_dicts_carry_the_probe(net: nn.Module) -> None:
    headed, x = HeadedBackbone(net, make_head()), torch.randn(2, 3, 32, 32)
    assert torch.equal(copy.deepcopy(headed)(x), headed(x))
    other = HeadedBackbone(build("resnet20_cifar", seed=9).eval(), make_head(seed=9))
    other.load_state_dict(headed.state_dict())
    assert torch.equal(other(x), headed(x))


def test_a_head_that_does_not_fit_is_refused(net: nn.Module) -> None:
    with pytest.raises(ArchitectureError, match="no stage 'layer9'"):
        HeadedBackbone(net, make_head(stage="layer9"))
    with pytest.raises(ArchitectureError, match="gives 128 features, but the head takes 512"):
        HeadedBackbone(net, make_head())(torch.randn(1, 3, 4, 4))


def test_maps_are_never_enlarged() -> None:
    maps = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert torch.equal(pool_flat(maps, 4), maps.flatten(1))
    assert torch.equal(pool_flat(maps, 1), torch.tensor([[1.5, 5.5]]))
