"""ONNX files: small, clean, the same every time, and what the network computes in every runtime at hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx_networks import gap8_bytes
from torch import Tensor, nn

import sslprune
from sslprune.errors import ArchitectureError, OutputExistsError
from sslprune.export import onnx_file, parity
from sslprune.export.onnx_file import Output, forward, write_onnx
from sslprune.export.onnx_pack import unpack
from sslprune.graph.fold import fold_batch_norm
from sslprune.models.anatomy import forward_stages

NAME = "rotnet-resnet20-keep5%"


def stage(index: int, model: nn.Module, x: Tensor) -> Tensor:
    return forward_stages(model, x)[index]


OUTPUTS: dict[str, Output] = {"features": forward, "layer2": partial(stage, 1), "layer3": partial(stage, 2)}


@dataclass
class Written:
    """A bundled network, its file, the file's content, and the bytes that it would take dense."""

    model: nn.Module
    path: Path
    proto: onnx.ModelProto
    dense: int


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    model = sslprune.load(NAME).train()
    path = tmp_path_factory.mktemp("onnx") / "deep" / "model.onnx"
    before = torch.random.get_rng_state()
    dense = write_onnx(model, path, size=32, metadata={"one": "eins"}, outputs=OUTPUTS)
    assert torch.equal(torch.random.get_rng_state(), before)
    return Written(model, path, onnx.load(path), dense)


def test_the_network_is_left_as_it_was(written: Written) -> None:
    assert all(module.training for module in written.model.modules())
    fresh = sslprune.load(NAME).state_dict()
    assert all(torch.equal(tensor, fresh[name]) for name, tensor in written.model.state_dict().items())


def test_it_is_standard_onnx_with_a_free_batch(written: Written) -> None:
    onnx.checker.check_model(written.proto, full_check=True)
    assert [(opset.domain, opset.version) for opset in written.proto.opset_import] == [("", 20)]
    assert not written.proto.graph.sparse_initializer

    def shape(value: Any) -> list[Any]:
        return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]

    graph = written.proto.graph
    assert {value.name: shape(value) for value in (*graph.input, *graph.output)} == {
        "input": ["batch", 3, 32, 32],
        "features": ["batch", 64],
        "layer2": ["batch", 32, 16, 16],
        "layer3": ["batch", 64, 8, 8],
    }
    assert [value.name for value in graph.output] == list(OUTPUTS)


@pytest.mark.parametrize("runtime", list(parity.RUNTIMES))
@pytest.mark.parametrize("batch", [1, 3])
def test_every_runtime_computes_what_the_network_does(written: Written, runtime: str, batch: int) -> None:
    error = parity.parity(written.model, written.path, size=32, outputs=OUTPUTS, runtime=runtime, batch=batch)
    assert 0 < error <= 1e-5


def test_weights_are_those_of_the_folded_network_to_the_bit_and_zero_where_the_mask_is(written: Written) -> None:
    found = {each.name: numpy_helper.to_array(each) for each in unpack(written.proto).graph.initializer}
    folded = fold_batch_norm(written.model, 32).state_dict()
    for name, tensor in folded.items():
        assert found[name].tobytes() == tensor.numpy().tobytes()
    for name, kept in written.model.sslprune.mask.items():
        assert np.array_equal(found[name] != 0, kept.numpy())


def test_common_layers_of_several_outputs_are_there_once(written: Written) -> None:
    operators = [node.op_type for node in written.proto.graph.node]
    assert operators.count("Conv") == 19
    assert "BatchNormalization" not in operators


def test_the_file_is_as_small_as_gaps_and_values(written: Written) -> None:
    size = written.path.stat().st_size
    assert size < gap8_bytes(written.model, "fp32") + 10_000  # nodes, shapes and names of 19 layers
    assert size < written.dense / 10
    unpacked = unpack(written.proto)
    assert abs(unpacked.ByteSize() - written.dense) < 100


def test_nothing_of_this_machine_is_in_the_file(written: Written) -> None:
    content = written.path.read_bytes()
    for trace in (b"site-packages", b".py", os.getcwd().encode(), str(Path.home()).encode(), b"torch.nn", b"aten"):
        assert trace not in content
    assert {each.key: each.value for each in written.proto.metadata_props} == {"one": "eins"}
    graph = written.proto.graph
    for message in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        assert message.doc_string == ""
        assert not message.metadata_props
    assert written.proto.doc_string == ""


class Tiny(nn.Module):
    """Two convolutions, the first of which is an output before its batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 100, 3)
        self.norm.running_mean.fill_(0.3)
        self.norm.running_var.fill_(4.0)
        with torch.no_grad():
            for parameter, seed in ((self.conv1.weight, 0), (self.conv2.weight, 1), (self.conv2.bias, 2)):
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
            self.conv2.weight[:, 1:] = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.norm(self.conv1(x)).relu()).mean((2, 3))


TINY: dict[str, Output] = {"features": forward, "before": lambda model, x: model.conv1(x)}


def test_an_output_before_a_batch_norm_is_not_folded_away(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(Tiny(), path, size=8, metadata={}, outputs=TINY)
    assert parity.parity(Tiny(), path, size=8, outputs=TINY) <= 1e-5
    write_onnx(Tiny(), path, size=8, metadata={}, force=True)
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(path).graph.node}


def test_half_precision_is_smaller_and_close(tmp_path: Path) -> None:
    for values in ("fp32", "fp16"):
        write_onnx(Tiny(), tmp_path / values, size=8, metadata={}, values=values)  # type: ignore[arg-type]
    assert (tmp_path / "fp16").stat().st_size < (tmp_path / "fp32").stat().st_size - 1000
    assert 1e-5 < parity.parity(Tiny(), tmp_path / "fp16", size=8) < 2e-3


def test_the_same_network_gives_the_same_bytes_in_silence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        write_onnx(Tiny(), tmp_path / name, size=8, metadata={"b": "2", "a": "1"}, outputs=TINY)
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_how_weights_lie_in_memory_leaves_no_trace(written: Written, tmp_path: Path) -> None:
    model = sslprune.load(NAME).to(memory_format=torch.channels_last)
    write_onnx(model, tmp_path / "model.onnx", size=32, metadata={"one": "eins"}, outputs=OUTPUTS)
    assert (tmp_path / "model.onnx").read_bytes() == written.path.read_bytes()
    assert model.conv1.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_another_process_elsewhere_gives_the_same_bytes(written: Written, tmp_path: Path) -> None:
    program = """
import sys, sslprune
from functools import partial
from pathlib import Path
from sslprune.export.onnx_file import forward, write_onnx
from sslprune.models.anatomy import forward_stages
def stage(index, model, x):
    return forward_stages(model, x)[index]
outputs = {"features": forward, "layer2": partial(stage, 1), "layer3": partial(stage, 2)}
write_onnx(sslprune.load(sys.argv[1]), Path("model.onnx"), size=32, metadata={"one": "eins"}, outputs=outputs)
"""
    command = [sys.executable, "-c", program, NAME]
    subprocess.run(command, cwd=tmp_path, check=True, env=os.environ | {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2"})
    assert (tmp_path / "model.onnx").read_bytes() == written.path.read_bytes()


def test_an_existing_file_is_replaced_only_by_force(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("mine")
    with pytest.raises(OutputExistsError):
        write_onnx(Tiny(), path, size=8, metadata={})
    assert path.read_text() == "mine"


class Contrary(nn.Module):
    """Looks at numbers to decide what to do, which no exporter can follow."""

    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x).mean((2, 3)))


def test_what_torch_cannot_export_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("old")
    contrary = Contrary(lambda x: x.relu() if x.sum().item() > 0 else -x)
    with pytest.raises(ArchitectureError, match="torch cannot export this network to ONNX: "):
        write_onnx(contrary, path, size=8, metadata={}, force=True)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_the_default_output_is_what_the_network_returns() -> None:
    assert dict(onnx_file.FEATURES) == {"features": forward}
