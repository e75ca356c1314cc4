"""A model's folder becomes a module without a second copy, without its initial weights, and without trust."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sslprune.errors import SparseFileError
from sslprune.export import sparse_file
from sslprune.models import build, prunable
from sslprune.prune.magnitude import prune
from sslprune.zoo.blank import blank, blueprint
from sslprune.zoo.read import WEIGHTS, read_model

NAME = "rednet-resnet20-toy-keep5%"


def write(folder: Path, architecture: str, keep: float) -> dict[str, torch.Tensor]:
    """A folder with what `read_model` reads, and the state that it holds."""
    model = build(architecture, seed=0)
    mask = prune(prunable(model), keep)
    mask.apply_(model)
    state = model.state_dict()
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    folder.mkdir()
    sparse_file.write(folder / WEIGHTS, arrays, {name: kept.numpy() for name, kept in mask.items()}, metadata={})
    preprocessing = {"mean": [0.5] * 3, "std": [0.5] * 3, "size": 32, "interpolation": "bilinear"}
    config = {"architecture": architecture, "num_classes": 0, "sslprune": {"preprocessing": preprocessing}}
    (folder / "config.json").write_text(json.dumps(config))
    return state


def test_the_default_device_and_the_random_state_play_no_part(zoo: Any) -> None:
    expected = zoo.states[NAME]
    torch.manual_seed(7)
    before = torch.get_rng_state()
    with torch.device("meta"):
        model, mask, *_ = read_model(zoo.folder(NAME))
    assert torch.equal(torch.get_rng_state(), before)
    assert {tensor.device.type for tensor in [*model.state_dict().values(), *mask.values()]} == {"cpu"}
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_an_architecture_of_gigabytes_is_refused_from_the_header(zoo: Any, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    folder = zoo.copy(NAME, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architecture": "vit_giant_patch14_224"}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SparseFileError, match="vit_giant_patch14_224 do not have the same tensors"):
        read_model(folder)
    unit = 1 if sys.platform == "darwin" else 1024
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 300e6  # its weights would take 4e9


def test_a_tensor_that_numpy_cannot_hold_is_a_refusal(zoo: Any) -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        with pytest.raises(SparseFileError, match=r"is float32, resnet20_cifar has torch\.bfloat16"):
            read_model(zoo.folder(NAME))
    finally:
        torch.set_default_dtype(torch.float32)


MEMORY = """
import sys
from pathlib import Path
from sslprune.zoo.read import WEIGHTS, read_model

def status(key):
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith(key))

read_model(Path(sys.argv[1]))  # all modules are imported
before = status("VmRSS")
model, mask, *_ = read_model(Path(sys.argv[2]))
dense = sum(tensor.nbytes for tensor in model.state_dict().values()) + sum(kept.nbytes for kept in mask.values())
print(status("VmHWM") - before, dense, (Path(sys.argv[2]) / WEIGHTS).stat().st_size)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell a process's memory")
def test_loading_takes_the_network_its_mask_and_a_few_times_the_file(zoo: Any, tmp_path: Path) -> None:
    write(tmp_path / "large", "vgg19_onefc", 0.05)
    command = [sys.executable, "-c", MEMORY, str(zoo.folder(NAME)), str(tmp_path / "large")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    peak, kept, file = map(int, done.stdout.split())
    assert kept > 100_000_000
    assert peak < kept + 3 * file + (16 << 20)


# The network before it is filled


@pytest.mark.parametrize("architecture", ["resnet20_cifar", "vgg19_onefc", "mobilenetv2_100", "coatnet_pico_rw_224"])
def test_a_blank_network_is_the_built_one_but_for_its_parameters(architecture: str) -> None:
    plain, empty = build(architecture, num_classes=3), blank(architecture, 3)
    found, shapes = empty.state_dict(), {name: tensor.shape for name, tensor in plain.state_dict().items()}
    assert {name: tensor.shape for name, tensor in found.items()} == shapes
    assert {name: tensor.shape for name, tensor in blueprint(architecture, 3).state_dict().items()} == shapes
    assert all(parameter.requires_grad for parameter in empty.parameters())
    buffers = dict(plain.named_buffers())
    assert dict(empty.named_buffers()).keys() == buffers.keys()
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in empty.named_buffers())
    for module in (empty, blueprint(architecture, 3)):
        assert module.training
        assert str(module) == str(plain)


def test_buffers_that_no_file_holds_are_right(tmp_path: Path) -> None:
    architecture = "coatnet_pico_rw_224"
    state = write(tmp_path / "net", architecture, 0.5)
    model, *_ = read_model(tmp_path / "net")
    expected = build(architecture, seed=0)
    held = dict(expected.named_buffers()).keys() - state.keys()
    assert held
    for name, buffer in expected.named_buffers():
        if name in held:
            assert torch.equal(dict(model.named_buffers())[name], buffer)
    assert all(np.array_equal(tensor.numpy(), state[name].numpy()) for name, tensor in model.state_dict().items())


def test_nothing_of_a_blank_network_s_making_lasts() -> None:
    blank("resnet20_cifar", 0)
    weight = torch.nn.Parameter(torch.zeros(3))
    with torch.no_grad():
        weight.fill_(2)
    assert torch.nn.init.ones_(torch.nn.Parameter(torch.zeros(2))).sum() == 2
    assert weight.sum() == 6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_a_model_goes_to_another_device(zoo: Any) -> None:
    from sslprune.zoo.load import load

    model = load(NAME, device="cuda")
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"cuda"}
    assert all(torch.equal(tensor.cpu(), zoo.states[NAME][name]) for name, tensor in model.state_dict().items())
