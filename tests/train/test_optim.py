"""Schedules by hand, and pruned weights that stay exactly zero with all that the optimiser remembers of them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sslprune.config import Training
from sslprune.masks import Mask
from sslprune.prune.magnitude import prune
from sslprune.step import Step
from sslprune.train import optim


def training(**fields) -> Training:
    return Training(**{"length": Step(10, "ep"), "lr": 0.4, **fields})


def rates(spec: Training, total: int, per_epoch: int = 10, **more) -> list[float]:
    return [optim.rate(spec, update, total=total, per_epoch=per_epoch, **more) for update in range(total)]


def test_cosine_falls_from_the_peak_to_nearly_zero() -> None:
    got = rates(training(), 4)
    assert got == pytest.approx([0.4, 0.4 * (0.5 + math.sqrt(2) / 4), 0.2, 0.4 * (0.5 - math.sqrt(2) / 4)])


def test_warm_up_rises_by_equal_steps_to_the_peak_and_the_cosine_starts_after_it() -> None:
    got = rates(training(warmup=Step(4, "it")), 8)
    assert got == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.4, 0.4 * (0.5 + math.sqrt(2) / 4), 0.2, 0.4 * (0.5 - math.sqrt(2) / 4)]
    )


def test_warm_up_in_epochs() -> None:
    assert rates(training(warmup=Step(0.5, "ep"), schedule="constant"), 6)[:6] == pytest.approx(
        [0.08, 0.16, 0.24, 0.32, 0.4, 0.4]
    )


def test_steps_at_milestones_in_epochs_and_updates() -> None:
    spec = training(schedule="step", milestones=(Step(0.3, "ep"), Step(5, "it")), gamma=0.5)
    assert rates(spec, 7) == pytest.approx([0.4, 0.4, 0.4, 0.2, 0.2, 0.1, 0.1])


def test_constant_is_constant_and_another_peak_replaces_the_recipes() -> None:
    assert rates(training(schedule="constant"), 3) == [0.4] * 3
    assert rates(training(schedule="constant", warmup=Step(2, "it")), 3, peak=0.1) == pytest.approx([0.05, 0.1, 0.1])
    assert rates(training(), 2, peak=0.1) == pytest.approx([0.1, 0.05])


@given(
    st.sampled_from(["cosine", "step", "constant"]),
    st.integers(1, 60),
    st.integers(0, 80),
    st.floats(1e-4, 10),
)
def test_a_rate_is_positive_and_never_above_the_peak(schedule: str, total: int, warmup: int, peak: float) -> None:
    milestones = (Step(7, "it"), Step(2, "ep")) if schedule == "step" else ()
    spec = training(schedule=schedule, milestones=milestones, warmup=Step(warmup, "it"))
    got = rates(spec, total, peak=peak)
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in got)
    rising, falling = got[:warmup], got[warmup:]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)


def net(seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 2)
        )


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in model.named_parameters() if name in ("0.weight", "4.weight")}


OPTIMISERS = {
    "sgd": {"momentum": 0.0, "weight_decay": 0.01},
    "sgd with momentum": {"momentum": 0.9, "weight_decay": 0.01},
    "sgd with nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
    "adam": {"optimizer": "adam", "weight_decay": 0.0},
    "adam with l2": {"optimizer": "adam", "weight_decay": 0.05},
}


@pytest.mark.parametrize("spec", OPTIMISERS.values(), ids=OPTIMISERS)
@settings(max_examples=4)
@given(seed=st.integers(0, 2**20), keep=st.sampled_from([0.05, 0.3, 0.9]))
def test_after_fifty_steps_the_pruned_are_exactly_zero_and_the_others_as_in_plain_torch(
    spec: dict, seed: int, keep: float
) -> None:
    spec = training(lr=0.05, **spec)
    ours, plain = net(seed), net(seed)
    mask = prune(prunable(ours), keep)
    mask.apply_(ours)
    mask.apply_(plain)
    held = optim.build(spec, ours.parameters())
    if spec.optimizer == "adam":
        free = torch.optim.Adam(plain.parameters(), lr=0.05, weight_decay=spec.weight_decay)
    else:
        free = torch.optim.SGD(
            plain.parameters(), 0.05, spec.momentum, weight_decay=spec.weight_decay, nesterov=spec.nesterov
        )
    generator = torch.Generator().manual_seed(seed)
    for _ in range(50):
        images, targets = torch.randn(8, 3, 4, 4, generator=generator), torch.arange(8) % 2
        for model, optimizer in ((ours, held), (plain, free)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), targets).backward()
            optimizer.step()
        optim.hold(mask, prunable(ours), held)
        with torch.no_grad():  # by hand, in other words than the library's: multiply, and make -0.0 into 0.0
            for name, weight in prunable(plain).items():
                weight.copy_(weight * mask[name] + 0.0)
                for memory in free.state[weight].values():
                    if memory is not None and memory.shape == weight.shape:
                        memory.copy_(memory * mask[name] + 0.0)
    for name, weight in prunable(ours).items():
        remembered = [memory for memory in held.state[weight].values() if isinstance(memory, torch.Tensor)]
        shaped = [memory for memory in remembered if memory.shape == weight.shape]
        assert len(shaped) == (2 if spec.optimizer == "adam" else int(spec.momentum > 0))
        for tensor in (weight.detach(), *shaped):
            assert not tensor[~mask[name]].any()
            assert not tensor[~mask[name]].signbit().any()
        assert weight.detach()[mask[name]].all()
    for (name, one), other in zip(ours.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_weights_without_a_mask_keep_their_memory() -> None:
    model = net(0)
    optimizer = optim.build(training(), model.parameters())
    model(torch.ones(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optim.hold(Mask({"0.weight": torch.zeros(4, 3, 3, 3, dtype=torch.bool)}), prunable(model), optimizer)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, torch.zeros_like(tensor) if name == "0.weight" else before[name])
    assert optimizer.state[model[4].weight]["momentum_buffer"].any()
    assert not optimizer.state[model[0].weight]["momentum_buffer"].any()


def test_an_optimiser_that_has_not_stepped_remembers_nothing() -> None:
    model = net(0)
    optim.hold(Mask.full(prunable(model)), prunable(model), optim.build(training(), model.parameters()))
