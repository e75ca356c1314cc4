"""The device that was asked for or none; as many threads as allowed; failures by name, and silently."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

import sslprune
from sslprune.errors import DeviceError, SparseFileError, SslpruneError
from sslprune.runtime.onnx_session import OnnxSession

NAME = "rotnet-resnet20-cifar10-keep5%"
GPU = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def content_of(*nodes: onnx.NodeProto, kind: int = onnx.TensorProto.FLOAT, axes: list[object] | None = None) -> bytes:
    """A graph from `input` to `features`."""
    shape = axes or ["batch", 2]
    graph = helper.make_graph(
        [*nodes],
        "graph",
        [helper.make_tensor_value_info("input", kind, shape)],
        [helper.make_tensor_value_info("features", kind, shape)],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()


GOOD = content_of(helper.make_node("Relu", ["input"], ["features"]))


def test_a_graph_is_described_and_run() -> None:
    session = OnnxSession(GOOD, Path("good.onnx"))
    assert session.inputs == {"input": ["batch", 2]}
    assert session.outputs == {"features": ["batch", 2]}
    x = np.array([[-1, 2], [3, -4], [5, 6]], np.float32)
    np.testing.assert_array_equal(session.run("features", x), np.maximum(x, 0))
    np.testing.assert_array_equal(session.run("features", x[::-1]), np.maximum(x, 0)[::-1])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        GOOD[:-20],
        content_of(helper.make_node("Relu", ["nowhere"], ["features"])),
        content_of(helper.make_node("NoSuchOperator", ["input"], ["features"])),
        content_of(helper.make_node("Relu", ["input"], ["features"]), kind=onnx.TensorProto.DOUBLE),
    ],
    ids=["empty", "cut", "no such value", "no such operator", "doubles"],
)
def test_what_it_refuses_is_named_and_not_printed(content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SparseFileError, match=r"some\.onnx is not an ONNX file that is run here") as caught:
        OnnxSession(content, Path("some.onnx"))
    assert len(str(caught.value).splitlines()) == 2
    assert capfd.readouterr() == ("", "")


def test_what_fails_while_running_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    session = OnnxSession(GOOD, Path("some.onnx"))
    with pytest.raises(SparseFileError, match="Got invalid dimensions"):
        session.run("features", np.zeros((2, 5), np.float32))
    # Fails within an operator, which ONNX Runtime likes to print.
    seven = helper.make_node("Constant", [], ["seven"], value_ints=[-1, 7])
    reshaping = content_of(seven, helper.make_node("Reshape", ["input", "seven"], ["features"]))
    with pytest.raises(SparseFileError, match="ONNX Runtime says"):
        OnnxSession(reshaping, Path("some.onnx")).run("features", np.zeros((2, 2), np.float32))
    with pytest.raises(SparseFileError, match="ONNX Runtime says"):
        session.run("logits", np.zeros((2, 2), np.float32))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("device", ["mps", "cuda:x", "cpu:-1", "", "CUDA", "cuda:99999"])
def test_an_unknown_device_is_named(device: str) -> None:
    with pytest.raises(DeviceError, match="has no device") as caught:
        OnnxSession(GOOD, Path("some.onnx"), device=device)
    assert caught.value.hint == "Choose cpu, cuda or cuda:N."


@pytest.mark.skipif(GPU, reason="this onnxruntime was built for GPUs")
def test_a_gpu_that_is_not_there_is_no_reason_to_take_the_processor(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DeviceError, match="cannot use 'cuda:0'") as caught:
        sslprune.load(NAME, runtime="onnx", device="cuda:0")
    assert "onnxruntime-gpu" in caught.value.hint
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("said", "threads"), [("3", 3), ("3,2", 3), ("", 0), ("many", 0), ("-1", 0), ("9" * 30, 0)])
def test_it_runs_on_as_many_threads_as_torch_may(monkeypatch: pytest.MonkeyPatch, said: str, threads: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    session = OnnxSession(GOOD, Path("some.onnx"))
    assert session._session.get_session_options().intra_op_num_threads == threads


def test_errors_of_the_runtime_are_all_caught() -> None:
    for wrong in (np.zeros((2, 2), np.float64), np.zeros((2, 2), np.str_)):
        with pytest.raises(SslpruneError):
            OnnxSession(GOOD, Path("some.onnx")).run("features", wrong)
