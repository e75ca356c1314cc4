"""Names are taken apart and put together without loss, and nothing else is taken for a name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslprune.errors import KeepError, UnknownModelError
from sslprune.zoo.names import Name, fraction, percent, split_keep

keeps = st.floats(0, 1, exclude_min=True)
variants = st.one_of(st.just(""), st.from_regex(r"[a-z0-9_.]+(-[a-z0-9_.]+){0,2}", fullmatch=True))
names = st.builds(
    Name,
    pretext=st.from_regex(r"[a-z0-9]+", fullmatch=True),
    arch=st.from_regex(r"[a-z0-9_.]+", fullmatch=True),
    data=st.from_regex(r"[a-z0-9_]+", fullmatch=True),
    variant=variants,
    keep=keeps,
)


@given(names)
def test_a_name_survives_its_text_with_and_without_the_per_cent_sign(name: Name) -> None:
    assert str(name) == f"{name.folder}%"
    assert Name.parse(str(name)) == name
    assert Name.parse(name.folder) == name


@given(names)
def test_a_name_is_its_family_and_its_keep_rate(name: Name) -> None:
    assert split_keep(str(name)) == split_keep(name.folder) == (name.family, name.keep)


@given(names)
def test_the_parent_is_the_family_unpruned(name: Name) -> None:
    assert name.parent == replace(name, keep=1.0)
    assert str(name.parent) == f"{name.family}-keep100%"


@given(st.text(st.sampled_from("ab-keep0159.%_\n "), max_size=30) | st.text(max_size=10))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        name = Name.parse(text)
    except (UnknownModelError, KeepError):
        return
    assert 0 < name.keep <= 1
    assert Name.parse(str(name)) == name


@given(keeps)
def test_no_keep_rate_is_lost_in_a_percentage(keep: float) -> None:
    assert fraction(percent(keep)) == keep


@given(st.integers(1, 100_000_000), st.integers(0, 6))
def test_a_percentage_without_needless_zeros_comes_back_as_it_was(digits: int, places: int) -> None:
    whole, rest = divmod(digits, 10**places)
    text = f"{whole}.{rest:0{places}d}".rstrip("0").rstrip(".") if places else str(whole)
    if digits > 100 * 10**places:
        with pytest.raises(KeepError):
            fraction(text)
    else:
        assert percent(fraction(text)) == text


@pytest.mark.parametrize(
    ("keep", "text"), [(1.0, "100"), (1, "100"), (0.5, "50"), (0.05, "5"), (0.005, "0.5"), (0.001, "0.1")]
)
def test_rungs_are_spelled_as_people_write_them(keep: float, text: str) -> None:
    assert percent(keep) == text
    assert fraction(text) == keep


def test_the_parts_of_a_name() -> None:
    assert Name.parse("rotnet-resnet50-cifar10-keep5%") == Name("rotnet", "resnet50", "cifar10", "", 0.05)
    assert Name.parse("npid-resnet18-cifar10-s1-slim-keep0.1") == Name("npid", "resnet18", "cifar10", "s1-slim", 0.001)
    assert Name.parse("labels-mobilenetv2_100.ra_in1k-imagenet-keep100").arch == "mobilenetv2_100.ra_in1k"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rotnet",
        "rotnet-resnet50-keep5%",
        "rotnet-resnet50-cifar10",
        "rotnet-resnet50-cifar10-keep",
        "rotnet-resnet50-cifar10-keep5%%",
        "rotnet-resnet50-cifar10-keep5%\n",
        "RotNet-resnet50-cifar10-keep5%",
        "rotnet-../x-cifar10-keep5%",
        "rotnet-resnet50-cifar10-keep5% ",
        "rotnet--cifar10-keep5%",
    ],
)
def test_what_does_not_follow_the_grammar_is_no_name(text: str) -> None:
    with pytest.raises(UnknownModelError, match="not a full model name") as caught:
        Name.parse(text)
    assert "rotnet-resnet20-cifar10-keep5%" in caught.value.hint


@pytest.mark.parametrize("text", ["0", "0.0", "100.1", "101", "1.2.3", ".", "..", "0." + 400 * "0" + "1"])
def test_an_impossible_percentage_is_refused(text: str) -> None:
    for refuse in (fraction, lambda text: Name.parse(f"a-b-c-keep{text}%"), lambda text: split_keep(f"a-keep{text}")):
        with pytest.raises(KeepError, match="not a percentage"):
            refuse(text)


def test_a_short_name_may_leave_the_keep_rate_open() -> None:
    assert split_keep("rotnet-resnet20") == ("rotnet-resnet20", None)
    assert split_keep("rotnet-keep0.5%") == ("rotnet", 0.005)
    assert split_keep("keepsake") == ("keepsake", None)
