"""Limits that no small file reaches, checked on headers alone."""

from __future__ import annotations

import json

import pytest

from sslprune.export import container, layout
from sslprune.export.layout import Layout, PrunedTensor
from sslprune.export.malformed import Malformed

LIMIT = 2**31 - 1


def check(shapes: dict[str, list[int]], dense: int = 0) -> Layout:
    """Check a header of gap8 masks that keep nothing, and a dense U8 tensor."""
    pruned = {name: PrunedTensor(tuple(shape), 0, "gap8", "F32") for name, shape in shapes.items()}
    entries, end = {}, 0
    for name, tensor in pruned.items():
        size = tensor.numel // 255
        entries[f"{name}:values"] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        entries[f"{name}:mask"] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
        end += size
    entries["dense"] = {"dtype": "U8", "shape": [dense], "data_offsets": [end, end + dense]}
    header = json.dumps({"__metadata__": layout.own_metadata("weights", pruned)} | entries).encode()
    header += b" " * (-len(header) % 8)
    return layout.check(container.parse(header, 8 + len(header) + end + dense))


def test_the_largest_tensor_passes() -> None:
    assert check({"a": [LIMIT]}).pruned["a"].numel == LIMIT


@pytest.mark.parametrize(
    ("shapes", "dense"), [({"a": [LIMIT], "b": [1]}, 0), ({"a": [1 << 30], "b": [1 << 30]}, 0), ({"a": [LIMIT]}, 1)]
)
def test_the_sum_of_all_tensors_is_limited(shapes: dict[str, list[int]], dense: int) -> None:
    with pytest.raises(Malformed, match="elements in all; the limit is 2147483647"):
        check(shapes, dense)


@pytest.mark.parametrize("shape", [[LIMIT + 1], [1 << 16, 1 << 15], [1 << 31, 0], [1] * 9])
def test_a_shape_is_limited(shape: list[int]) -> None:
    with pytest.raises(Malformed, match="over the limits"):
        check({"a": shape})


def test_the_longest_header_is_read_and_no_longer_one() -> None:
    about = layout.own_metadata("weights", {})
    about["x"] = "x" * (container.MAX_HEADER - len(container.build({**about, "x": ""}, {})[0]) + 8)
    start, _ = container.build(about, {})
    assert container.header_bytes(start[:8], len(start)) == container.MAX_HEADER
    assert layout.check(container.parse(start[8:], len(start))).metadata == {"x": about["x"]}
    with pytest.raises(Malformed, match="the header would take"):
        container.build({**about, "x": about["x"] + "x" * 8}, {})
