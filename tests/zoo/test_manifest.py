"""A manifest comes back as it was, and one from anywhere is either sound in every field or refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sslprune.errors import IntegrityError, ManifestError
from sslprune.files import sha256
from sslprune.zoo.index import Entry
from sslprune.zoo.manifest import MANIFEST, MAX_BYTES, FileRecord, LayerRecord, Manifest, verify
from sslprune.zoo.names import Name

laws = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.just(10**400)
    | st.floats()
    | st.sampled_from(["", "a", "a\nb", "\x1b[2J", "../../etc/passwd", "x-y-z-keep0%", "f" * 64, "\ud800"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["size", "name", "x"]), inner),
    max_leaves=3,
)


@pytest.fixture
def good(entry_of: Callable[..., Entry]) -> Manifest:
    manifest = entry_of("rotnet-resnet20-cifar10-s1-keep5%").manifest
    files = {
        **manifest.files,
        "head-digits.safetensors": FileRecord(9, "a" * 64),
        "head-x.txt": FileRecord(0, "b" * 64),
    }
    return replace(manifest, files=files)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value of a JSON document."""
    if path:
        yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield from places(member, (*path, key))


def put(table: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The document with another value at a place."""
    table = json.loads(json.dumps(table))
    inner = table
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return table


def test_a_manifest_survives_its_text(good: Manifest) -> None:
    assert Manifest.from_json(good.to_json(), where="here") == good


@laws
@given(st.data())
def test_any_value_anywhere_is_refused_or_harmless(good: Manifest, data: st.DataObject) -> None:
    table = json.loads(good.to_json())
    spoiled = put(table, data.draw(st.sampled_from(list(places(table)))), data.draw(json_values))
    try:
        manifest = Manifest.from_json(json.dumps(spoiled), where="here")
    except ManifestError as error:
        lines = str(error).splitlines()
        assert len(lines) == 2
        assert all(line.isprintable() for line in lines)
        return
    assert Manifest.from_json(manifest.to_json(), where="here") == manifest
    row = Entry(Name.parse(manifest.name), "local", Path(), manifest).row()
    json.dumps(row, allow_nan=False)
    assert 0 < row["keep"] <= 1
    assert all(f"{value:.2f}" for value in row["metrics"].values())
    assert f"{manifest.name}{manifest.licence}{manifest.data_terms}".isprintable()
    assert (manifest.recipe_sha256 or "none")[:12]


@given(st.binary() | st.text().map(str.encode) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ManifestError, match="is not a manifest"):
        Manifest.from_json(content, where="here")


@pytest.mark.parametrize("field", Manifest.__dataclass_fields__)
def test_a_missing_field_is_refused(good: Manifest, field: str) -> None:
    table = json.loads(good.to_json())
    del table[field]
    with pytest.raises(ManifestError, match="is not a manifest"):
        Manifest.from_json(json.dumps(table), where="here")


HOSTILE: dict[str, tuple[str, tuple[Any, ...], Any]] = {
    "a later schema": ("schema 2 is not known; a newer sslprune", ("schema",), 2),
    "a schema that is a truth": ("schema True is not known", ("schema",), True),
    "an unknown field": ("unexpected keyword", ("colour",), "red"),
    "a path for a file": ("'../../etc/passwd' is not a file's name", ("files", "../../etc/passwd"), "FILE"),
    "an absolute path for a file": ("'/etc/passwd' is not a file's name", ("files", "/etc/passwd"), "FILE"),
    "a hidden file": ("'.bashrc' is not a file's name", ("files", ".bashrc"), "FILE"),
    "the folder itself": ("'..' is not a file's name", ("files", ".."), "FILE"),
    "a name that no file can have": ("is not a file's name", ("files", "a" * 201), "FILE"),
    "itself": ("'manifest.json' is not a file's name", ("files", MANIFEST), "FILE"),
    "a negative size": ("the record of config.json", ("files", "config.json", "size"), -1),
    "a short hash": ("the record of config.json", ("files", "config.json", "sha256"), "a" * 63),
    "a hash in capitals": ("the record of config.json", ("files", "config.json", "sha256"), "A" * 64),
    "more kept than there are": ("counts", ("kept",), 100_001),
    "a negative count": ("counts", ("layers", 0, "macs_left"), -1),
    "half a weight": ("counts", ("kept",), 5000.0),
    "a truth for a count": ("counts", ("layers", 0, "kept"), True),
    "more MACs left than there are": ("counts", ("macs_left",), 6_400_001),
    "layers that do not add up": ("do not add up", ("layers", 0, "kept"), 4999),
    "no layers": ("do not add up", ("layers",), []),
    "a keep rate that the counts belie": ("is not 5000 / 100000", ("keep",), 0.1),
    "a keep rate of NaN": ("is not 5000 / 100000", ("keep",), float("nan")),
    "a keep rate beyond all floats": ("", ("keep",), 10**400),
    "a name that is none": ("not a full model name", ("name",), "model"),
    "a name of an impossible keep rate": ("not a percentage", ("name",), "a-b-c-keep0%"),
    "a parent that is none": ("not a full model name", ("parent",), ""),
    "no licence": ("licence", ("licence",), ""),
    "no terms": ("data_terms", ("data_terms",), ""),
    "terms that move the cursor": ("printable", ("data_terms",), "free\x1b[2J"),
    "an infinite metric": ("metrics", ("metrics", "digits/linear"), float("inf")),
    "a metric that is text": ("metrics", ("metrics", "digits/linear"), "90"),
    "metrics in a list": ("", ("metrics",), [90]),
    "versions of numbers": ("versions", ("versions", "torch"), 2.13),
    "a recipe's hash that is none": ("recipe_sha256", ("recipe_sha256",), "abc"),
    "half a seed": ("seed", ("seed",), 0.5),
}


@pytest.mark.parametrize(("problem", "path", "value"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_manifest_is_refused(good: Manifest, problem: str, path: tuple[Any, ...], value: Any) -> None:
    record = {"size": 1, "sha256": "0" * 64} if value == "FILE" else value
    table = put(json.loads(good.to_json()), path, record)
    with pytest.raises(ManifestError, match="is not a manifest of sslprune") as caught:
        Manifest.from_json(json.dumps(table), where="here")
    assert problem in caught.value.problem


def test_a_layer_is_listed_once(good: Manifest) -> None:
    half = LayerRecord("conv1.weight", 2500, 50_000, 3_200_000, 160_000)
    with pytest.raises(ManifestError, match="lists a layer twice"):
        Manifest.from_json(replace(good, layers=(half, half)).to_json(), where="here")


@pytest.mark.parametrize("file", ["sparse.safetensors", "config.json"])
def test_weights_and_config_must_be_stated(good: Manifest, file: str) -> None:
    files = {name: record for name, record in good.files.items() if name != file}
    with pytest.raises(ManifestError, match=r"it names no sparse\.safetensors or no config\.json"):
        Manifest.from_json(replace(good, files=files).to_json(), where="here")


def test_heads_are_the_files_named_so(good: Manifest) -> None:
    assert good.heads == ["digits"]


def test_a_manifest_is_read_from_its_folder(good: Manifest, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(good.to_json())
    assert Manifest.load(tmp_path) == good


def test_a_folder_without_manifest_is_no_model_s(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "a\0b"):
        with pytest.raises(ManifestError, match="is not a model's folder"):
            Manifest.load(folder)


def test_a_huge_manifest_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / MANIFEST, "wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ManifestError, match="is larger than"):
        Manifest.load(tmp_path)


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_a_file_passes_if_and_only_if_it_is_the_stated_one(
    tmp_path_factory: pytest.TempPathFactory, stated: bytes, found: bytes
) -> None:
    folder = tmp_path_factory.mktemp("verify")
    (folder / "file").write_bytes(stated)
    records = {"file": FileRecord.of(folder / "file")}
    (folder / "file").write_bytes(found)
    if stated == found:
        verify(folder, records, ["file"])
        return
    with pytest.raises(IntegrityError) as caught:
        verify(folder, records, ["file"])
    size = f"has {len(found)} bytes, not {len(stated)}"
    hashes = f"has sha256 {sha256(folder / 'file')}, not {records['file'].sha256}"
    assert (hashes if len(found) == len(stated) else size) in caught.value.problem


def test_a_missing_or_unlisted_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"does not list file\."):
        verify(tmp_path, {}, ["file"])
    for name in ("file", "folder"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        with pytest.raises(IntegrityError, match=f"{name} is missing"):
            verify(tmp_path, {name: FileRecord(0, "0" * 64)}, [name])
