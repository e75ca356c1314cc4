"""An engine is never a crash: odd inputs, forks, idle and busy machines, thousands of calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import sslprune
from sslprune.errors import ArchitectureError
from sslprune.runtime import kernels

needs_kernels = pytest.mark.skipif(not kernels.isas(), reason="installed without the compiled kernels")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


class Small(nn.Module):
    """Every kind of step."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2, 1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.first(x))
        x = F.max_pool2d(F.relu6(x + self.second(x)), 3, 2, 1)
        return self.last(x.mean((2, 3)))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Small().eval()
        with torch.no_grad():
            for weight in (model.first.weight, model.second.weight):
                weight.mul_(torch.rand(weight.shape) < 0.3)
    return model


def images(count: int, height: int = 16, width: int = 16) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "batch",
    [
        images(2).permute(0, 1, 3, 2),
        images(2).to(memory_format=torch.channels_last),
        images(4)[::2, :, 1:, 1:],
        images(1).expand(3, -1, -1, -1),
        images(2).requires_grad_(),
        images(1, 1, 1),
        images(1, 3000, 1),
        images(1, 1, 2999),
        images(33, 5, 7),
        images(0),
        images(2) * 1e30,
        images(2) * 1e-42,
    ],
    ids=lambda batch: f"{list(batch.shape)}{batch.stride()}",
)
def test_whatever_floats_they_are_the_outputs_are_torchs(model, batch):
    engine = sslprune.compile(model, threads=2)
    with torch.no_grad():
        expected = model(batch)
    found = engine(batch)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * max(1.0, float(batch.abs().sum() > 1e20) * 1e30))
    assert engine.reason is None or not kernels.isas()


def test_an_array_that_may_not_be_written_is_read(model):
    array = images(2).numpy()
    array.flags.writeable = False
    engine = sslprune.compile(model)
    found = engine(array)
    with torch.no_grad():
        np.testing.assert_allclose(found, model(images(2)).numpy(), rtol=1e-4, atol=1e-5)
    assert found.flags.writeable
    # An array whose bytes do not lie where floats should.
    unaligned = np.frombuffer(b"x" + array.tobytes(), np.float32, offset=1).reshape(array.shape)
    np.testing.assert_array_equal(engine(unaligned), found)


@pytest.mark.parametrize("spoiled", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("isa", kernels.isas())
def test_what_is_no_number_arrives_where_torch_lets_it(model, spoiled, isa, monkeypatch):
    """Of a network without zeros: whether a pruned weight times infinity is 0 or no number is nobody's promise."""
    monkeypatch.setenv(kernels.VARIABLE, isa)
    dense = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1)).eval()
    with torch.no_grad():
        dense[0].weight.copy_(torch.rand(dense[0].weight.shape, generator=torch.Generator().manual_seed(1)) + 0.1)
    batch = images(2, 9, 11)
    batch[0, 1, 4, 5] = spoiled
    with torch.no_grad():
        expected = dense(batch)
    found = sslprune.compile(dense, threads=2)(batch)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    assert torch.isfinite(sslprune.compile(model)(batch)[1]).all()


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(1, 3, 8, 8, dtype=torch.float16),
        torch.zeros(1, 3, 8, 8, dtype=torch.bool),
        torch.zeros(1, 3, 8, 8, device="meta"),
        torch.zeros(1, 1, 8, 8),
        torch.zeros(1, 3, 8),
        torch.zeros(()),
        np.zeros((1, 3, 8, 8), np.complex64),
        np.zeros((1, 3, 8, 8), object),
        None,
        "images",
        [],
    ],
    ids=lambda wrong: type(wrong).__name__ + str(getattr(wrong, "dtype", "")),
)
def test_what_are_no_images_is_named(model, wrong):
    with pytest.raises(ArchitectureError):
        sslprune.compile(model)(wrong)


class Unread(nn.Module):
    """Computes what nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.unread = nn.Conv2d(4, 4, 3)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        self.unread(x)
        return self.last(x)


def test_a_branch_that_nobody_reads_does_not_spoil_the_rest():
    net = Unread().eval()
    with torch.no_grad():
        net.stem.weight[1:] = 0
        net.last.weight[:, 2:] = 0
        expected = net(images(2))
    torch.testing.assert_close(sslprune.compile(net)(images(2)), expected, rtol=1e-4, atol=1e-5)


_CHILD = """
import json, os, resource, sys, threading, time
import torch
import sslprune
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, 2),
    torch.nn.MaxPool2d(2), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(1), torch.nn.Linear(8, 4)).eval()
batch = torch.randn(8, 3, 12, 12)
engine = sslprune.compile(model, threads=8)
expected = engine(batch)
"""


def child(code: str, **how: object) -> object:
    """What a fresh process prints last."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD + code], capture_output=True, text=True, timeout=120, check=False, **how
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@linux
@needs_kernels
def test_ten_thousand_calls_need_no_more_memory_than_the_first_thousand():
    sizes = child("""
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
sizes = []
for round in range(10):
    for call in range(1000):
        engine(batch)
    sizes.append(resident())
print(json.dumps(sizes))
""")
    assert sizes[-1] - sizes[0] < 2**20, [after - before for before, after in pairwise(sizes)]


@pytest.mark.slow
@linux
@needs_kernels
def test_engines_that_are_gone_leave_no_memory_behind():
    grown = child("""
import gc
def resident():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
image = torch.randn(1, 3, 96, 96)
def once():
    sslprune.compile(model, threads=1)(image)
for _ in range(10): once()
before = resident()
for _ in range(60): once()
print(json.dumps(resident() - before))
""")
    # Each engine holds 1.5 MB while it lives.
    assert grown < 16 * 2**20


@pytest.mark.slow
@linux
@needs_kernels
@pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")
def test_a_fork_may_go_on_with_an_engine_whose_helpers_it_has_not():
    assert child("""
reading, writing = os.pipe()
pid = os.fork()
if not pid:
    right = all(torch.equal(engine(batch), expected) for _ in range(2000))
    def resident():
        return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
    before = resident()
    for _ in range(10_000):
        engine(batch)
    # What nobody takes up must not pile up.
    right = right and resident() - before < 2**20
    os.write(writing, b"y" if right else b"n")
    os._exit(0)
said = os.read(reading, 1)
os.waitpid(pid, 0)
print(json.dumps(said == b"y" and torch.equal(engine(batch), expected)))
""")


@pytest.mark.slow
@needs_kernels
def test_helpers_that_have_nothing_to_do_take_no_time():
    waking, waited = child("""
for _ in range(50): engine(batch)
before = time.process_time(), time.monotonic()
time.sleep(1.0)
print(json.dumps([time.process_time() - before[0], time.monotonic() - before[1]]))
""")
    assert waking < waited / 10


@pytest.mark.slow
@linux
@needs_kernels
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot be kept to one core")
def test_more_threads_than_cores_and_a_busy_neighbour_make_it_slow_not_stuck():
    """All on one core beside a process that never rests; spinning at a barrier would take CPU time for nothing."""
    alone, crowded = child("""
import subprocess
core = min(os.sched_getaffinity(0))
os.sched_setaffinity(0, {core})
big = torch.randn(1, 3, 160, 160)
def cost(threads):
    engine = sslprune.compile(model, threads=threads)
    for _ in range(5): engine(big)
    before = time.process_time()
    for _ in range(100): engine(big)
    return time.process_time() - before
single = cost(1)
neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
try:
    print(json.dumps([single, cost(4)]))
finally:
    neighbour.kill()
""")
    assert crowded < 5 * alone + 1.0
