"""One process tells itself what it knows; several that cannot meet are told why. (More: tests/train.)"""

from __future__ import annotations

import pytest
import torch

from sslprune import ranks
from sslprune.errors import RanksError, SslpruneError


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


def test_one_process_gets_back_what_it_gives() -> None:
    tensor, other = torch.randn(3, 2), torch.randn(4)
    with ranks.joined() as device:
        assert (device, ranks.rank(), ranks.world(), ranks.is_first()) == ("cpu", 0, 1, True)
        assert ranks.gather(tensor) is tensor
        assert ranks.gather_learning(tensor) is tensor
        assert ranks.mean(tensor) is tensor
        assert ranks.agree("this")
        assert ranks.on_first(lambda: 5) == 5
        before = other.clone()
        ranks.average_([other])
        assert torch.equal(other, before)
        collected = ranks.collect({"a": tensor, "b": other})
        assert collected is not None
        assert torch.equal(collected["a"], tensor)
        assert torch.equal(collected["b"], other)


def test_what_fails_alone_fails_as_it_is() -> None:
    def fail() -> None:
        raise SslpruneError("this.", "That.")

    with pytest.raises(SslpruneError, match="this"):
        ranks.on_first(fail)


def test_under_torchrun_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    for given, own in (("cuda", "cuda:3"), ("cuda:1", "cuda:1"), ("cpu", "cpu")):
        with ranks.joined(given) as device:
            assert device == own


def test_several_processes_without_torchrun_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(RanksError, match=r"WORLD_SIZE is 2, but LOCAL_RANK.*\n.*torchrun"), ranks.joined():
        raise AssertionError("never here")


def test_processes_that_do_not_meet_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"WORLD_SIZE": "2", "RANK": "x", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RanksError, match=r"do not meet.*\n.*rdzv"), ranks.joined():
        raise AssertionError("never here")
