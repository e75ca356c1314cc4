"""The descent on a ten-weight net whose training is one line: what is kept, what is rewound, what died when."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sslprune.errors import RecipeError
from sslprune.masks import Mask
from sslprune.prune.lottery import Rung, descend
from sslprune.prune.magnitude import prune
from sslprune.prune.rewind import State, snapshot
from sslprune.prune.schedule import Round, rounds


class Toy(nn.Module):
    """Ten prunable weights 0..9 in two tensors, and a bias and a buffer that are rewound with them."""

    def __init__(self, values: list[float] | None = None) -> None:
        super().__init__()
        first = torch.tensor([float(n) for n in range(10)] if values is None else values)
        self.a = nn.Parameter(first[:4].clone().view(2, 2))
        self.b = nn.Parameter(first[4:].clone())
        self.bias = nn.Parameter(torch.tensor([0.5]))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def weights(self) -> dict[str, nn.Parameter]:
        return {"a": self.a, "b": self.b}

    def flat(self) -> list[float]:
        return torch.cat([self.a.detach().flatten(), self.b.detach()]).tolist()


class Trainer:
    """Records the state that each round starts from, adds `change` to every kept weight, and returns an early state."""

    def __init__(self, change: Callable[[Tensor], Tensor] = lambda weight: weight + 0.25) -> None:
        self.change = change
        self.started: list[State] = []
        self.masks: list[Mask] = []
        self.rounds: list[Round] = []

    def __call__(self, network: nn.Module, mask: Mask, this: Round) -> State:
        assert isinstance(network, Toy)
        self.started.append(snapshot(network))
        self.masks.append(mask)
        self.rounds.append(this)
        with torch.no_grad():
            network.bias += 1
            network.seen += 1
            early = snapshot(network)
            for weight in network.weights().values():
                weight.copy_(self.change(weight))
            mask.hold_(network.weights())
        return early


def kept(mask: Mask) -> list[int]:
    return torch.cat([mask["a"].flatten(), mask["b"]]).nonzero().flatten().tolist()


def run(toy: Toy, ladder: list[float], trainer: Trainer, per_round: float = 0.2, **how: object) -> list[Rung]:
    return list(descend(toy, toy.weights(), rounds(ladder, per_round), trainer, **how))  # type: ignore[arg-type]


def test_the_largest_weights_stay_at_every_rung() -> None:
    trainer = Trainer()
    rungs = run(Toy(), [0.5, 0.2, 0.1], trainer)
    assert [kept(rung.mask) for rung in rungs] == [[*range(10)], [5, 6, 7, 8, 9], [8, 9], [9]]
    assert [this.number for this in trainer.rounds] == list(range(len(trainer.masks)))
    counts = [10, 8, 6, 5, 5, 4, 3, 3, 2, 2, 2, 1, 1, 1]  # of 1, 0.8, 0.64, 0.512, 0.5, 0.4, 0.32, 0.256, 0.2048, ...
    assert [kept(mask) for mask in trainer.masks] == [[*range(10 - count, 10)] for count in counts]


def test_each_layer_keeps_its_largest_in_layer_scope() -> None:
    rungs = run(Toy(), [0.5], Trainer(), per_round=0.5, prune=partial(prune, scope="layer"))
    assert kept(rungs[-1].mask) == [2, 3, 7, 8, 9]


def test_what_training_made_large_stays() -> None:
    rungs = run(Toy(), [0.3], Trainer(lambda weight: 9 - weight), per_round=0.7)
    assert kept(rungs[-1].mask) == [0, 1, 2]


@given(st.lists(st.sampled_from([0.0, -1.0, 1.0, 2.0, -2.0]), min_size=10, max_size=10), st.floats(0.1, 0.9))
def test_what_died_tells_every_mask(values: list[float], per_round: float) -> None:
    trainer = Trainer(lambda weight: weight.roll(1, -1) * 1.5)
    rungs = run(Toy(values), [0.5, 0.2, 0.1], trainer, per_round)
    died = rungs[-1].died
    for this, mask in zip(trainer.rounds, trainer.masks, strict=True):
        assert all(torch.equal(mask[name], (died[name] == 0) | (died[name] > this.number)) for name in mask)
    assert all(died[name].dtype == torch.uint8 for name in died)
    for rung in rungs:
        earlier = {name: torch.where(died[name] > rung.round.number, 0, died[name]) for name in died}
        assert all(torch.equal(rung.died[name], earlier[name]) for name in died)


@given(st.lists(st.floats(-10, 10, width=32), min_size=10, max_size=10), st.sampled_from(["global", "layer"]))
def test_every_round_starts_from_the_rewound_state_under_its_mask(values: list[float], scope: str) -> None:
    trainer = Trainer(lambda weight: weight * 3 - 1)
    rungs = run(Toy(values), [0.5, 0.2], trainer, prune=partial(prune, scope=scope))
    origin = rungs[0].origin
    assert origin["bias"] == 1.5
    assert origin["seen"] == 1
    for started, mask in zip(trainer.started[1:], trainer.masks[1:], strict=True):
        for name, tensor in started.items():
            expected = torch.where(mask[name], origin[name], 0.0) if name in mask else origin[name]
            assert tensor.numpy().tobytes() == expected.numpy().tobytes()
    assert all(rung.origin is origin for rung in rungs)


def test_warm_rounds_go_on_from_the_round_above() -> None:
    trainer = Trainer()
    run(Toy(), [0.5], trainer, per_round=0.5, mode="warm")
    assert trainer.started[1]["bias"] == 1.5
    assert trainer.started[1]["b"].tolist() == [0, 5.25, 6.25, 7.25, 8.25, 9.25]


def test_pretrained_rounds_start_from_what_was_given() -> None:
    trainer = Trainer()
    rungs = run(Toy(), [0.5, 0.3], trainer, per_round=0.5, mode="pretrained")
    assert rungs[0].origin["b"].tolist() == [4, 5, 6, 7, 8, 9]
    assert rungs[0].origin["bias"] == 0.5
    assert [started["b"].tolist() for started in trainer.started[1:]] == [[0, 5, 6, 7, 8, 9], [0, 0, 0, 7, 8, 9]]
    assert all(rung.origin is rungs[0].origin for rung in rungs)


def test_the_weights_of_a_rung_are_there_when_it_is_yielded() -> None:
    toy = Toy()
    seen = [(rung.round.keep, toy.flat()) for rung in descend(toy, toy.weights(), rounds([0.2], 0.8), Trainer())]
    assert seen == [(1.0, [n + 0.25 for n in range(10)]), (0.2, [0.0] * 8 + [8.25, 9.25])]


def test_an_impossible_ladder_is_refused_before_anything_trains() -> None:
    trainer = Trainer()
    with pytest.raises(RecipeError, match="rounds"):
        run(Toy(), [0.5], trainer, per_round=1e-6)
    assert trainer.rounds == []
