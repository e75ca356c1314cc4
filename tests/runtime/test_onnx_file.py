"""A file says of itself what can be, or it is not run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from sslprune.errors import SparseFileError
from sslprune.models import Preprocessing
from sslprune.models.preprocess import CIFAR_MEAN, CIFAR_STD
from sslprune.runtime import open_onnx
from sslprune.runtime.onnx_file import OnnxMetadata, read_onnx
from sslprune.runtime.onnx_wire import HARMLESS

GOOD = {
    "version": "1",
    "name": "red-resnet20-toy-keep5%",
    "architecture": "resnet20_cifar",
    "keep": "0.05",
    "preprocessing": json.dumps(Preprocessing(CIFAR_MEAN, CIFAR_STD, 4).to_json()),
    "output": "logits",
    "values": "fp16",
    "licence": "Apache-2.0",
    "data_terms": "drawn by chance",
    "source_sha256": "0" * 64,
    "classes": '["cat", "dög"]',
}


def write(path: Path, metadata: dict[str, str], **changes: Any) -> Path:
    """A file of ours that adds up all values of a picture, three times."""
    info = helper.make_tensor_value_info
    shapes = {"input": ["batch", 3, 4, 4], "first": ["batch", 3], "stage": ["batch", 3, 1, 1]} | changes
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["layer1"]),
        helper.make_node("Flatten", ["layer1"], ["first"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [info("x", TensorProto.FLOAT, shapes["input"])],
        [info("first", TensorProto.FLOAT, shapes["first"]), info("layer1", TensorProto.FLOAT, shapes["stage"])],
    )
    first = metadata.get("sslprune.output", "logits")
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    for node in model.graph.node:
        node.input[:] = [{"x": "input"}.get(name, name) for name in node.input]
        node.output[:] = [{"first": first}.get(name, name) for name in node.output]
    model.graph.input[0].name = changes.get("input_name", "input")
    model.graph.node[0].input[0] = model.graph.input[0].name
    model.graph.output[0].name = first
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def stated(**changes: str | None) -> dict[str, str]:
    fields = GOOD | changes
    return {f"sslprune.{key}": text for key, text in fields.items() if text is not None}


def test_what_it_says_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "good.onnx", stated() | {"another": "word"})
    assert read_onnx(path).metadata == OnnxMetadata(
        name="red-resnet20-toy-keep5%",
        architecture="resnet20_cifar",
        keep=0.05,
        preprocessing=Preprocessing(CIFAR_MEAN, CIFAR_STD, 4),
        output="logits",
        values="fp16",
        licence="Apache-2.0",
        data_terms="drawn by chance",
        source_sha256="0" * 64,
        classes=("cat", "dög"),
    )
    model = open_onnx(path)
    assert (model.classes, model.num_features, model.stages) == (("cat", "dög"), None, ["layer1"])


@pytest.mark.parametrize("key", sorted(GOOD.keys() - {"classes"}))
def test_all_of_it_is_needed(tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "some.onnx", stated(**{key: None}))
    with pytest.raises(SparseFileError, match=rf"some\.onnx .*metadata.*{key}"):
        read_onnx(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "2"},
        {"more": "x"},
        {"name": "two\nlines"},
        {"licence": "\x1b[2J"},
        {"keep": "0"},
        {"keep": "nan"},
        {"keep": "5%"},
        {"preprocessing": "{"},
        {"preprocessing": "{}"},
        {"preprocessing": "[" * 100_000},
        {"preprocessing": GOOD["preprocessing"].replace('"size": 4', '"size": 1000000')},
        {"preprocessing": GOOD["preprocessing"].replace('"size": 4', '"size": ' + "9" * 5000)},
        {"preprocessing": GOOD["preprocessing"].replace("0.247", "0")},
        {"output": "rm -rf"},
        {"values": "fp8"},
        {"source_sha256": "0" * 63},
        {"classes": "[1]"},
        {"classes": '{"cat": 0}'},
        {"classes": "cat"},
        {"classes": '["\\ud800"]'},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(tmp_path: Path, changes: dict[str, str]) -> None:
    with pytest.raises(SparseFileError, match=r"some\.onnx is not an ONNX file that is run here") as caught:
        read_onnx(write(tmp_path / "some.onnx", stated(**changes)))
    problem, _hint = str(caught.value).splitlines()
    assert problem.isprintable()
    assert len(problem) < 500


@pytest.mark.parametrize(
    ("problem", "metadata", "changes"),
    [
        ("inputs are", {}, {"input": ["batch", 3, 5, 4]}),
        ("inputs are", {}, {"input": ["batch", 1, 4, 4]}),
        ("inputs are", {}, {"input": ["batch", 3, "height", "width"]}),
        ("inputs are", {}, {"input_name": "image"}),
        ("batch axis is not free", {}, {"input": [1, 3, 4, 4], "first": [1, 3], "stage": [1, 3, 1, 1]}),
        ("names classes but gives features", {"output": "features"}, {}),
    ],
)
def test_another_interface_is_refused(
    tmp_path: Path, problem: str, metadata: dict[str, str], changes: dict[str, Any]
) -> None:
    path = write(tmp_path / "some.onnx", stated(**metadata), **changes)
    with pytest.raises(SparseFileError, match=problem):
        open_onnx(path)


def test_the_output_that_is_stated_comes_first(tmp_path: Path) -> None:
    path = write(tmp_path / "some.onnx", stated())
    model = onnx.load(path)
    helper.set_model_props(model, stated(output="features", classes="[]"))
    onnx.save(model, path)
    with pytest.raises(SparseFileError, match="not 'features' first"):
        open_onnx(path)


def test_the_first_output_is_one_row_a_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "some.onnx", stated())
    model = onnx.load(path)
    del model.graph.node[1], model.graph.output[0]
    model.graph.node[0].output[0] = model.graph.output[0].name = "logits"
    onnx.save(model, path)
    with pytest.raises(SparseFileError, match="'logits' has the shape"):
        open_onnx(path)


def test_packed_tensors_have_a_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "some.onnx", stated())
    model = onnx.load(path)
    model.graph.initializer.append(helper.make_tensor("shape", TensorProto.INT64, [2], [4096, 4097]))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["unused"]))
    onnx.save(model, path)
    assert HARMLESS < 4096 * 4097
    read_onnx(path)
    read_onnx(path, decoded=4096 * 4097)
    with pytest.raises(SparseFileError, match="claims packed tensors"):
        read_onnx(path, decoded=1000)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", tmp_path / "a\0b"):
        with pytest.raises(SparseFileError, match="not an ONNX file that is run here"):
            read_onnx(path)
