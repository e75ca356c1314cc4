"""A name, full or short, stands for one model at hand, or the error says which ones there are."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sslprune.errors import IntegrityError, KeepError, ManifestError, UnknownModelError
from sslprune.zoo import index
from sslprune.zoo.index import Entry, Index, index_table, open_index, read_index, scan
from sslprune.zoo.load import load
from sslprune.zoo.manifest import MANIFEST
from sslprune.zoo.names import percent

EntryOf = Callable[..., Entry]

# The fixture makes entries from text alone, so examples may share it.
laws = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

FAMILIES = (
    "rotnet-resnet20-cifar10",
    "rotnet-resnet20-cifar10-s1",
    "rotnet-resnet50-cifar10",
    "rotnet-resnet50-imagenet",
    "exemplar-resnet20-cifar10",
)
RUNGS = (1.0, 0.2, 0.05, 0.001)


@pytest.fixture
def shelf(entry_of: EntryOf) -> Index:
    names = [f"{family}-keep{percent(rung)}%" for family in FAMILIES for rung in RUNGS]
    return Index(tuple(entry_of(name) for name in names), {"rotnet": FAMILIES[0], "rotnet-resnet20": FAMILIES[0]})


@laws
@given(st.sampled_from(FAMILIES), st.sampled_from(RUNGS), st.booleans())
def test_every_model_is_found_by_its_full_name(shelf: Index, family: str, keep: float, sign: bool) -> None:
    text = f"{family}-keep{percent(keep)}" + "%" * sign
    for found in (shelf.find(text), shelf.find(text, keep=keep), shelf.find(family, keep=keep)):
        assert (found.name.family, found.name.keep) == (family, keep)


@laws
@given(st.sampled_from(FAMILIES), st.sets(st.integers(1, 3)))
def test_words_in_order_stand_for_the_one_family_that_has_them(shelf: Index, family: str, chosen: set[int]) -> None:
    words = family.split("-")
    said = [words[0], *(word for place, word in enumerate(words) if place in chosen)]
    fitting = [other for other in FAMILIES if other.startswith(f"{words[0]}-") and set(said) <= set(other.split("-"))]
    bare = Index(shelf.entries)
    if "-".join(said) in FAMILIES:
        fitting = ["-".join(said)]
    if len(fitting) == 1:
        assert bare.find("-".join(said), keep=0.05).name.family == fitting[0]
        return
    with pytest.raises(UnknownModelError, match="stands for several models") as caught:
        bare.find("-".join(said), keep=0.05)
    assert all(other in caught.value.hint for other in fitting)


@pytest.mark.parametrize("text", ["resnet20-rotnet", "exemplar-cifar10-resnet20", "resnet20", "cifar10", "", "-", "s1"])
def test_words_out_of_order_or_without_the_pretext_stand_for_nothing(shelf: Index, text: str) -> None:
    with pytest.raises(UnknownModelError, match="there is no model"):
        shelf.find(text, keep=0.05)


@pytest.mark.parametrize(
    ("text", "words", "family"),
    [
        ("rotnet", {}, FAMILIES[0]),
        ("rotnet-resnet20", {}, FAMILIES[0]),
        ("rotnet", {"arch": "resnet20"}, FAMILIES[0]),
        ("rotnet", {"data": "imagenet"}, FAMILIES[3]),
        ("rotnet", {"arch": "resnet50", "data": "cifar10"}, FAMILIES[2]),
        ("rotnet-s1", {}, FAMILIES[1]),
        ("rotnet-s1", {"arch": "resnet20"}, FAMILIES[1]),
        ("exemplar-cifar10", {"arch": "resnet20"}, FAMILIES[4]),
        ("exemplar-resnet20", {"arch": "resnet20"}, FAMILIES[4]),
    ],
)
def test_aliases_and_words_name_a_family(shelf: Index, text: str, words: dict[str, str], family: str) -> None:
    assert shelf.find(text, keep=0.05, **words).name.family == family
    assert shelf.find(f"{text}-keep5", **words).name.family == family


def test_a_contradicting_word_finds_nothing(shelf: Index) -> None:
    for word in ({"arch": "resnet56"}, {"data": "digits"}):
        with pytest.raises(UnknownModelError, match="there is no model"):
            shelf.find("exemplar-resnet20-cifar10", keep=0.05, **word)


def test_an_alias_of_a_family_that_is_not_at_hand_is_only_words(entry_of: EntryOf) -> None:
    shelf = Index((entry_of("rotnet-resnet50-imagenet-keep5%"),), {"rotnet": FAMILIES[0]})
    assert shelf.find("rotnet", keep=0.05).name.family == "rotnet-resnet50-imagenet"


def test_a_wrong_name_is_answered_with_the_nearest(shelf: Index) -> None:
    with pytest.raises(UnknownModelError) as caught:
        shelf.find("rotnte-resnet20-cifar10-keep5%")
    assert "rotnet-resnet20-cifar10" in caught.value.hint
    assert "sslprune list" in caught.value.hint


def test_an_empty_zoo_has_no_model() -> None:
    with pytest.raises(UnknownModelError, match="there is no model 'rotnet'"):
        Index(()).find("rotnet-keep5%")


@laws
@given(st.sets(st.sampled_from([1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001]), min_size=1), st.floats(5e-4, 1))
def test_the_nearest_rung_within_a_fifth_is_taken(entry_of: EntryOf, rungs: set[float], keep: float) -> None:
    shelf = Index(tuple(entry_of(f"a-b-c-keep{percent(rung)}") for rung in rungs))
    near = min(rungs, key=lambda rung: abs(rung - keep))
    if abs(near - keep) <= 0.2 * keep:
        assert shelf.find("a", keep=keep).name.keep == near
        return
    with pytest.raises(KeepError, match="no rung near") as caught:
        shelf.find("a", keep=keep)
    listed = ", ".join(f"{percent(rung)}%" for rung in sorted(rungs, reverse=True))
    assert caught.value.hint == f"Its rungs: {listed}."


@pytest.mark.parametrize(
    ("keep", "found"),
    [(0.0417, 0.05), (0.0416, None), (0.0625, 0.05), (0.0626, None), (0.05, 0.05), (0.25, 0.2), (0.2501, None)],
)
def test_a_fifth_of_what_is_asked_for_on_both_sides(shelf: Index, keep: float, found: float | None) -> None:
    for text, rate in (("exemplar", keep), (f"exemplar-keep{percent(keep)}%", None)):
        if found is None:
            with pytest.raises(KeepError, match="no rung near"):
                shelf.find(text, keep=rate)
        else:
            assert shelf.find(text, keep=rate).name.keep == found


def test_an_open_keep_rate_is_answered_with_the_rungs(shelf: Index) -> None:
    with pytest.raises(KeepError, match="leaves the keep rate open") as caught:
        shelf.find("exemplar")
    assert "100%, 20%, 5%, 0.1%" in caught.value.hint


def test_a_keep_rate_said_twice_must_be_the_same(shelf: Index) -> None:
    with pytest.raises(KeepError, match="contradict"):
        shelf.find("exemplar-keep5%", keep=0.2)


@pytest.mark.parametrize("keep", [0, 0.0, -0.1, 1.5, 5, True, False, float("nan"), float("inf"), "0.05", "5%", [0.05]])
@pytest.mark.parametrize("text", ["exemplar", "exemplar-keep100%", "exemplar-keep5", "nothing"])
def test_what_is_no_fraction_is_no_keep_rate(shelf: Index, text: str, keep: Any) -> None:
    with pytest.raises(KeepError, match="is not a fraction") as caught:
        shelf.find(text, keep=keep)
    assert "0.05" in caught.value.hint


def test_numbers_of_numpy_are_keep_rates(shelf: Index) -> None:
    numpy = pytest.importorskip("numpy")
    assert shelf.find("exemplar", keep=numpy.float64(0.05)).name.keep == 0.05
    with pytest.raises(KeepError, match="no rung near keep 50%"):
        shelf.find("exemplar", keep=numpy.float64(0.5))


def test_models_are_selected_by_pattern_and_by_field(shelf: Index) -> None:
    def names(*args: str, **filters: Any) -> list[str]:
        return [str(entry.name) for entry in shelf.select(*args, **filters)]

    assert len(names()) == len(FAMILIES) * len(RUNGS)
    assert names("exemplar", keep=0.05) == ["exemplar-resnet20-cifar10-keep5%"]
    assert names("exemplar-*-keep5") == ["exemplar-resnet20-cifar10-keep5%"]
    assert names("s1-keep100%") == ["rotnet-resnet20-cifar10-s1-keep100%"]
    assert names(keep=0.001, arch="resnet50", data="imagenet") == ["rotnet-resnet50-imagenet-keep0.1%"]
    assert names(keep=None, pretext="exemplar", status="local") == names("exemplar")
    assert names("nothing") == names(keep=0.3) == []
    with pytest.raises(UnknownModelError, match="no field 'colour'") as caught:
        names(colour="red")
    assert "pretext" in caught.value.hint


def test_a_row_has_what_the_list_promises(entry_of: EntryOf) -> None:
    assert entry_of("a-b-c-keep5%").row() == {
        "name": "a-b-c-keep5%",
        "pretext": "a",
        "arch": "b",
        "data": "c",
        "keep": 0.05,
        "kept": 5000,
        "prunable": 100_000,
        "bytes": 7,
        "macs": 320_000,
        "metrics": {"digits/linear": 90.5},
        "status": "local",
        "licence": "Apache-2.0",
    }


def bundle(zoo: Any, place: Path, *names: str) -> Path:
    """An index file as the package ships one, with its models' folders beside it."""
    folders = [zoo.copy(name, place / "bundled" / name.removesuffix("%")) for name in names]
    path = place / "zoo.json"
    path.write_text(json.dumps(index_table(folders, {"red": "rednet-resnet20-toy"})))
    return path


def test_an_index_gives_back_what_was_put_in(zoo: Any, tmp_path: Path) -> None:
    names = ["rednet-resnet20-toy-keep100%", "rednet-resnet20-toy-keep5%"]
    path = bundle(zoo, tmp_path, *names)
    entries, aliases = read_index(path)
    assert [str(entry.name) for entry in entries] == names
    assert aliases == {"red": "rednet-resnet20-toy"}
    table = json.loads(path.read_text())["models"]
    for entry in entries:
        stated = table[str(entry.name)]
        assert entry.status == stated["status"] == "bundled"
        assert entry.manifest_record is not None
        assert stated["manifest"]["sha256"] == entry.manifest_record.sha256
        for file, record in stated["files"].items():
            assert (entry.folder / file).stat().st_size == record["size"]
        row = entry.row()
        assert all(stated[key] == row[key] for key in ("keep", "kept", "prunable", "macs", "metrics", "licence"))


def test_a_further_index_comes_before_the_local_zoo(zoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLPRUNE_INDEX", str(bundle(zoo, tmp_path, "rednet-resnet20-toy-keep5%")))
    status = {str(entry.name): entry.status for entry in open_index().select("rednet")}
    assert status.pop("rednet-resnet20-toy-keep5%") == "bundled"
    assert set(status.values()) == {"local"}
    assert open_index().find("red", keep=0.05).folder.parent == tmp_path / "bundled"


def test_earlier_indexes_win(zoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [bundle(zoo, tmp_path / which, "rednet-resnet20-toy-keep5%") for which in ("one", "two")]
    monkeypatch.setenv("SSLPRUNE_INDEX", os.pathsep.join(map(str, paths)))
    assert tmp_path / "one" in open_index().find("rednet-keep5%").folder.parents


def test_a_manifest_that_is_not_the_index_s_is_not_loaded(
    zoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLPRUNE_INDEX", str(bundle(zoo, tmp_path, "rednet-resnet20-toy-keep5%")))
    manifest = tmp_path / "bundled" / "rednet-resnet20-toy-keep5" / MANIFEST
    for change in (lambda text: text.replace("Apache", "Apathe"), lambda text: text + " "):
        good = manifest.read_text()
        manifest.write_text(change(good))
        with pytest.raises(IntegrityError, match=r"manifest\.json has"):
            load("rednet-keep5%")
        manifest.write_text(good)
    load("rednet-keep5%")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "nothing",
        '{"schema": 2, "models": {}, "aliases": {}}',
        '{"schema": 1, "models": []}',
        '{"schema": 1, "models": {}, "aliases": []}',
        '{"schema": 1, "models": {"a-b-c": {}}, "aliases": {}}',
        '{"schema": 1, "models": {"a-b-c-keep0%": {}}, "aliases": {}}',
        '{"schema": 1, "models": {"a-b-c-keep5%": {}}, "aliases": {}}',
        '{"schema": 1, "models": {"a-b-c-keep5%": {"manifest": {"size": 1}}}, "aliases": {}}',
        "[" * 100_000,
        "\xff",
    ],
    ids=range(13),
)
def test_what_is_no_index_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "zoo.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ManifestError, match="is not an index") as caught:
        read_index(path)
    assert len(str(caught.value).splitlines()) == 2


def test_a_missing_index_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLPRUNE_INDEX", str(tmp_path / "zoo.json"))
    with pytest.raises(ManifestError, match="is not an index") as caught:
        open_index()
    assert "SSLPRUNE_INDEX" in caught.value.hint


def test_the_shipped_index_is_readable() -> None:
    entries, aliases = read_index(index.shipped())
    families = {entry.name.family for entry in entries}
    assert set(aliases.values()) <= families
    assert all(entry.status == "bundled" for entry in entries)


def test_only_whole_models_are_in_a_zoo(zoo: Any, tmp_path: Path) -> None:
    place = tmp_path / "zoo"
    zoo.copy("rednet-resnet20-toy-keep5%", place / "good")
    zoo.copy("rednet-resnet20-toy-keep20%", place / ".rednet-resnet20-toy-keep20.x7.tmp")
    for name, manifest in (("torn", "{"), ("impossible", None)):
        spoiled = zoo.copy("rednet-resnet20-toy-keep20%", place / name) / MANIFEST
        spoiled.write_text(manifest or spoiled.read_text().replace("keep20%", "keep0%"))
    (place / "empty").mkdir()
    (place / "file").write_text("")
    assert [(str(entry.name), entry.folder.name) for entry in scan(place)] == [("rednet-resnet20-toy-keep5%", "good")]
    assert list(scan(tmp_path / "nowhere")) == []
    assert list(scan(place / "file")) == []


def test_the_local_zoo_is_where_the_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSLPRUNE_ZOO", str(tmp_path))
    assert index.local_zoo() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSLPRUNE_ZOO", "~/models")
    assert index.local_zoo() == tmp_path / "models"
    monkeypatch.delenv("SSLPRUNE_ZOO")
    assert index.local_zoo() == tmp_path / ".local/share/sslprune/zoo"


def test_a_copied_folder_is_a_model_under_any_name(zoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(zoo.folder("bluenet-resnet20-toy-keep5%"), tmp_path / "zoo" / "of my own")
    monkeypatch.setenv("SSLPRUNE_ZOO", str(tmp_path / "zoo"))
    assert open_index().find("bluenet-keep5").folder.name == "of my own"
