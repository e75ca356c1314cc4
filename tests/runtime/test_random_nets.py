"""Any network that the engine says it runs computes what torch does, on every set of instructions."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from random_nets import random_net

import sslprune
from sslprune.runtime import kernels

ISAS = kernels.isas()
FAST = 20
ALL = 300


@pytest.mark.skipif(not ISAS, reason="installed without the compiled kernels")
@pytest.mark.parametrize(
    "seeds", [range(FAST), *(pytest.param(range(at, at + 40), marks=pytest.mark.slow) for at in range(FAST, ALL, 40))]
)
def test_random_networks_are_what_torch_computes(seeds, monkeypatch):
    for seed in seeds:
        net = random_net(seed)
        # One at a time, and (17) side by side where that is faster, with one left over.
        count = (1, 2, 3, 17)[seed % 4]
        images = torch.randn(count, 3, *net.image, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            exact = deepcopy(net).double()(images.double())
            own = float((net(images).double() - exact).abs().max())
        tolerance = max(1e-5 * float(exact.abs().max()), 2 * own)
        for isa in ISAS:
            monkeypatch.setenv(kernels.VARIABLE, isa)
            engine = sslprune.compile(net, threads=1 + seed % 2)
            found = engine(images)
            said = f"seed {seed}, {isa}, images {list(images.shape)}: " + "; ".join(net.words)
            assert engine.reason is None, f"{engine.reason}: {said}"
            assert found.shape == exact.shape, said
            error = float((found.double() - exact).abs().max())
            assert error <= tolerance, f"off by {error}, allowed {tolerance}: {said}"
