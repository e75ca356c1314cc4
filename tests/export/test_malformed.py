"""Valid files, spoiled by chance: SparseFileError and nothing else, or a file that an independent decoder reads alike.

Files that were spoiled on purpose are in `tests/malformed`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sslprune.export import sparse_file
from sslprune.export.malformed import Malformed, about
from sslprune.export.strangers import recognised

Agree = Callable[[Path], bool]

KINDS = ("weights", "half", "masks", "ladder", "deflated", "deflated-half", "deflated-masks")


@pytest.mark.parametrize("kind", KINDS)
def test_a_valid_file_is_one_for_the_safetensors_library_too(tmp_path: Path, good: dict[str, bytes], kind: str) -> None:
    (tmp_path / "file").write_bytes(good[kind])
    with safetensors.safe_open(tmp_path / "file", framework="numpy") as file:
        assert file.metadata()["sslprune.kind"] == sparse_file.read_layout(tmp_path / "file").kind


@pytest.mark.parametrize("kind", KINDS)
def test_any_flipped_bit_or_byte_is_refused_or_leaves_a_valid_file(
    tmp_path: Path, agree: Agree, good: dict[str, bytes], kind: str
) -> None:
    path, file = tmp_path / "file", good[kind]
    valid = 0
    for at in range(len(file)):
        for flip in (1 << at % 8, 0xFF):
            path.write_bytes(file[:at] + bytes([file[at] ^ flip]) + file[at + 1 :])
            valid += agree(path)
    assert 0 < valid < 2 * len(file)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(KINDS), st.data())
def test_any_byte_in_the_place_of_another_is_refused_or_leaves_a_valid_file(
    tmp_path: Path, agree: Agree, good: dict[str, bytes], kind: str, data: st.DataObject
) -> None:
    file = bytearray(good[kind])
    file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "file").write_bytes(file)
    agree(tmp_path / "file")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(KINDS), st.data())
def test_bytes_replaced_moved_or_repeated_are_refused_or_leave_a_valid_file(
    tmp_path: Path, agree: Agree, good: dict[str, bytes], kind: str, data: st.DataObject
) -> None:
    file = bytearray(good[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(file)))
        end = data.draw(st.integers(begin, min(len(file), begin + 12)))
        digits = st.text('0123456789[]{},:"-. ', max_size=12).map(str.encode)
        file[begin:end] = data.draw(st.one_of(st.binary(max_size=12), digits, st.just(bytes(file[begin:end] * 2))))
    (tmp_path / "file").write_bytes(file)
    agree(tmp_path / "file")


@given(st.binary(max_size=40))
def test_no_bytes_fail_to_be_recognised(start: bytes) -> None:
    found = recognised(start)
    assert found is None or (str(found) and found.hint)


def test_a_valid_file_is_taken_for_nothing_else(good: dict[str, bytes]) -> None:
    assert [recognised(file[:512]) for file in good.values()] == [None] * len(good)


def test_a_refusal_names_its_tensor_once_for_each_level() -> None:
    with pytest.raises(Malformed) as caught, about("the file"), about("its tensor 'w'"):
        raise Malformed("it is empty", "Fill it.")
    assert (str(caught.value), caught.value.hint) == ("the file: its tensor 'w': it is empty", "Fill it.")
    assert caught.value.__cause__ is None
