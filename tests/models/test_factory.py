"""Building by name: equal seeds, equal weights; nothing else is touched, fetched or opened."""

import socket

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslprune.errors import ArchitectureError
from sslprune.models import build
from sslprune.models.backbones import OURS

SMALL = "resnet20_cifar"
seeds = st.integers(0, 2**32 - 1)


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, other=seeds, elsewhere=seeds)
def test_the_seed_alone_decides_the_weights_and_the_global_state_stays(seed, other, elsewhere):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(elsewhere)
        before = torch.get_rng_state()
        first = build(SMALL, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(3)
        assert equal(first, build(SMALL, seed=seed))
        assert equal(first, build(SMALL, seed=other)) == (seed == other)


def test_without_a_seed_the_global_state_decides_and_stays():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        first, again = build(SMALL), build(SMALL)
        torch.manual_seed(6)
        assert equal(first, again)
        assert not equal(first, build(SMALL))


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100", "convnext_atto"])
def test_timm_networks_are_seeded_too(name):
    assert equal(build(name, seed=3), build(name, seed=3))


def test_a_seeded_network_is_on_the_cpu_and_an_unseeded_one_where_the_caller_builds():
    with torch.device("meta"):
        assert {p.device.type for p in build(SMALL, seed=0).parameters()} == {"cpu"}
        assert {p.device.type for p in build(SMALL).parameters()} == {"meta"}


@pytest.mark.parametrize("name", OURS)
def test_ours_build_in_train_mode_without_a_classifier_and_with_one(name):
    with torch.device("meta"):
        bare, ten = build(name), build(name, num_classes=10)
    assert bare.training
    assert ten.training
    assert (bare.num_classes, ten.num_classes) == (0, 10)
    assert ten.pretrained_cfg["architecture"] == name


def test_options_reach_the_network():
    assert build(SMALL, in_chans=1, seed=0)(torch.zeros(1, 1, 32, 32)).shape == (1, 64)


@pytest.mark.parametrize(
    "name",
    [
        "hf-hub:timm/resnet18.a1_in1k",
        "hf_hub:timm/resnet18",
        "local-dir:/tmp/resnet18",
        "local-dir:.",
        "/etc/passwd",
        "../resnet18",
        "timm/resnet18",
        "C:\\models\\resnet18",
        "https://example.org/resnet18.pth",
        "resnet18.a1_in1k",
        "resnet18 ",
        "",
        "resnet20",
        "no_such_network",
    ],
)
def test_only_registered_names_are_built(name, monkeypatch):
    def refuse(*_):
        raise AssertionError("build() opened a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(ArchitectureError) as caught:
        build(name)
    assert repr(name) in caught.value.problem
    assert "Nearest: " in caught.value.hint


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("resnet20", "resnet20_cifar"), ("hf-hub:timm/resnet18.a1_in1k", "resnet18,"), ("vgg19_1fc", "vgg19_onefc")],
)
def test_the_error_names_the_nearest(wrong, near):
    with pytest.raises(ArchitectureError, match=near):
        build(wrong)


@pytest.mark.parametrize("option", ["pretrained", "checkpoint_path", "pretrained_cfg_overlay", "features_only"])
def test_options_that_read_weights_are_refused(option):
    with pytest.raises(ArchitectureError, match=option):
        build(SMALL, **{option: True})


def test_an_option_that_the_network_does_not_have_is_refused():
    with pytest.raises(ArchitectureError, match="wings"):
        build(SMALL, wings=2)
