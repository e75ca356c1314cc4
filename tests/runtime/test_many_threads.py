"""What must be true while many call one engine at once; `tools/sanitize/run.py` has ThreadSanitizer watch it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

import sslprune
from sslprune.bench.synthetic import pruned
from sslprune.runtime import kernels

pytestmark = pytest.mark.skipif(not kernels.isas(), reason="installed without the compiled kernels")
CALLERS = 8


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return pruned("resnet20_cifar", 0.05, size=32)


@pytest.mark.parametrize("isa", kernels.isas())
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 3])
def test_eight_threads_get_what_one_gets(model, isa, threads, count, monkeypatch):
    monkeypatch.setenv(kernels.VARIABLE, isa)
    engine = sslprune.compile(model, threads=threads)
    generator = np.random.default_rng(0)
    batches = [generator.standard_normal((count, 3, 32, 32), np.float32) for _ in range(4)]
    expected = [engine(batch) for batch in batches]
    with ThreadPoolExecutor(CALLERS) as callers:
        found = list(callers.map(lambda call: engine(batches[call % 4]), range(48)))
    for call, result in enumerate(found):
        np.testing.assert_array_equal(result, expected[call % 4])


def test_a_thousand_first_calls_by_eight_threads_are_all_equal(model):
    engine = sslprune.compile(model, threads=2)
    batch = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    # Nobody compiled or ran it before: the eight meet at the first call.
    with ThreadPoolExecutor(CALLERS) as callers:
        found = list(callers.map(lambda _: engine(batch), range(1000)))
    assert all(torch.equal(result, found[0]) for result in found)
    with torch.no_grad():
        torch.testing.assert_close(found[0], model(batch), rtol=1e-4, atol=1e-5)


def test_threads_that_meet_while_images_side_by_side_are_tried_out_agree(model):
    engine = sslprune.compile(model, threads=2)
    batch = torch.randn(35, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with ThreadPoolExecutor(CALLERS) as callers:
        found = list(callers.map(lambda _: engine(batch), range(24)))
    for result in found:
        assert torch.equal(result, found[0])
