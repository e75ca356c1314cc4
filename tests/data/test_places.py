"""Where data sets are looked for."""

from pathlib import Path

from sslprune.data import places


def test_first_choice_first(monkeypatch):
    monkeypatch.setenv("SSLPRUNE_DATA", "/env")
    monkeypatch.setenv("SSLPRUNE_CACHE", "/cache")
    assert places.places(Path("/given")) == (Path("/given"), Path("/env"), Path("data"), Path("/cache/data"))


def test_unset_and_empty_variables_are_the_same(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    for name in ("SSLPRUNE_DATA", "SSLPRUNE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    unset = places.places()
    for name in ("SSLPRUNE_DATA", "SSLPRUNE_CACHE"):
        monkeypatch.setenv(name, "")
    assert places.places() == unset == (Path("data"), Path("/home/someone/.cache/sslprune/data"))


def test_no_place_is_listed_twice(monkeypatch):
    monkeypatch.setenv("SSLPRUNE_DATA", "/same")
    assert places.places(Path("/same")).count(Path("/same")) == 1


def test_a_missing_data_set_lists_the_places_and_what_to_do():
    error = places.missing("cifar10", [Path("/a"), Path("/b")], because="The download failed.")
    assert error.problem == "The data set cifar10 was not found; looked in: /a, /b. The download failed."
    assert "--download" in error.hint
    assert "SSLPRUNE_DATA" in error.hint
