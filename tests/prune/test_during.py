"""Pruning while training: the schedules, and what each stretch sees."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sslprune.errors import KeepError
from sslprune.masks import Mask
from sslprune.prune.during import gradual, iterative, prune_during


@given(st.floats(0.001, 0.999), st.integers(1, 30), st.sampled_from([gradual, iterative]))
def test_keep_rates_fall_and_end_exactly(keep: float, steps: int, schedule) -> None:
    keeps = schedule(keep, steps)
    assert len(keeps) == steps
    assert keeps[-1] == keep
    assert list(keeps) == sorted(keeps, reverse=True)
    assert keeps[0] <= 1


@pytest.mark.parametrize("schedule", [gradual, iterative])
@pytest.mark.parametrize(("keep", "steps"), [(0.0, 3), (1.1, 3), (0.5, 0)])
def test_schedules_that_cannot_be_are_refused(schedule, keep: float, steps: int) -> None:
    with pytest.raises(KeepError, match="no way"):
        schedule(keep, steps)


def test_each_stretch_trains_under_the_mask_of_its_time_and_weights_are_not_rewound() -> None:
    net = nn.Linear(8, 1, bias=False)
    net.weight.data = torch.arange(8.0)[None]
    seen: list[tuple[int, int, int]] = []

    def train(network: nn.Module, mask: Mask, stretch: int, stretches: int) -> None:
        seen.append((stretch, stretches, mask.kept))
        assert not network.weight[~mask["weight"]].any()
        with torch.no_grad():
            network.weight.add_(1)  # the caller should hold the mask: here it does not

    mask = prune_during(net, {"weight": net.weight}, [0.5, 0.25], train)
    assert seen == [(0, 3, 8), (1, 3, 4), (2, 3, 2)]
    assert mask["weight"].tolist() == [[False] * 6 + [True] * 2]
    assert net.weight.tolist() == [[0, 0, 0, 0, 0, 0, 9, 10]]
