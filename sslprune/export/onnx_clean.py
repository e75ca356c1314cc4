"""Take out of an exported ONNX model what computes nothing: traces, paths, inferable types, default attributes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sslprune.export.onnx_extra import onnx_package


def clean(model: Any, *, prefix: str, metadata: Mapping[str, str]) -> Any:
    """Clean an `onnx.ModelProto` in place, and return it.

    What is left depends on the network alone: intermediate values are called by operator and number ("Relu_3"), nodes
    have no names beside those, weights keep theirs.

    Args:
        model: As `torch.onnx.export` makes it.
        prefix: Taken off the names of initialisers.
        metadata: Becomes the model's `metadata_props`, and is all of them.
    """
    onnx = onnx_package()
    graph = model.graph
    model.doc_string = graph.doc_string = ""
    del graph.value_info[:]  # every reader infers them
    for messages in (graph.node, graph.initializer, graph.input, graph.output):
        for message in messages:
            message.doc_string = ""
            del message.metadata_props[:]
    del graph.metadata_props[:]
    names = _names(graph, prefix)
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    for node in graph.node:
        node.name = ""
        _rename(node.input, names)
        _rename(node.output, names)
        _drop_defaults(node, model.opset_import[0].version)
    onnx.helper.set_model_props(model, dict(metadata))
    return model


def _names(graph: Any, prefix: str) -> dict[str, str]:
    """Old name -> new name of every value."""
    names = {"": ""} | {each.name: each.name for each in (*graph.input, *graph.output)}
    counts: Counter[str] = Counter()
    for tensor in graph.initializer:
        own = tensor.name.startswith(prefix)
        names[tensor.name] = tensor.name.removeprefix(prefix) if own else f"constant_{counts['constant']}"
        counts["constant"] += not own
    for node in graph.node:
        for output in node.output:
            if output not in names:
                names[output] = f"{node.op_type}_{counts[node.op_type]}"
                counts[node.op_type] += 1
    return names


def _rename(values: Any, names: Mapping[str, str]) -> None:
    values[:] = [names[value] for value in values]


def _drop_defaults(node: Any, opset: int) -> None:
    onnx = onnx_package()
    known = onnx.defs.get_schema(node.op_type, opset, node.domain).attributes
    left = [each for each in node.attribute if not _is_default(each, known)]
    copies = [type(each).FromString(each.SerializeToString()) for each in left]
    del node.attribute[:]
    node.attribute.extend(copies)


def _is_default(attribute: Any, known: Mapping[str, Any]) -> bool:
    value = onnx_package().helper.get_attribute_value
    default = known[attribute.name].default_value if attribute.name in known else None
    return default is not None and default.type == attribute.type and value(default) == value(attribute)
