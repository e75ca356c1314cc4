"""The grammar of model names: `{pretext}-{arch}-{data}[-{variant}]-keep{percent}%`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Self

from sslprune.errors import KeepError, UnknownModelError

_NAME = re.compile(
    r"(?P<pretext>[a-z0-9]+)-(?P<arch>[a-z0-9_.]+)-(?P<data>[a-z0-9_]+)(?:-(?P<variant>[a-z0-9_.-]+?))?-keep(?P<keep>[0-9.]+)%?"
)
_KEEP = re.compile(r"-keep(?P<keep>[0-9.]+)%?\Z")


@dataclass(frozen=True)
class Name:
    """A model's name, taken apart.

    Args:
        pretext: What it was trained to do, such as "rotnet".
        arch: Short architecture, or a timm name.
        data: What it was trained on.
        variant: Empty, or such as "s1", "slim", "paper".
        keep: The nominal keep rate, in (0, 1].

    >>> Name.parse("rotnet-resnet50-cifar10-keep0.5").keep
    0.005
    >>> str(Name("exemplar", "resnet18", "cifar10", "s1", 0.05))
    'exemplar-resnet18-cifar10-s1-keep5%'
    """

    pretext: str
    arch: str
    data: str
    variant: str
    keep: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take a full name apart; a trailing % may be left out.

        Raises:
            UnknownModelError: It does not follow the grammar.
        """
        match = _NAME.fullmatch(text)
        if match is None:
            raise UnknownModelError(
                f"{text!r} is not a full model name.",
                "Names look like rotnet-resnet20-cifar10-keep5%; see `sslprune list`.",
            )
        keep = fraction(match["keep"])
        return cls(match["pretext"], match["arch"], match["data"], match["variant"] or "", keep)

    @property
    def family(self) -> str:
        """The name without its keep rate: what all rungs of a ladder share."""
        return "-".join(part for part in (self.pretext, self.arch, self.data, self.variant) if part)

    @property
    def folder(self) -> str:
        """The name as folders and repositories spell it, without the %."""
        return f"{self.family}-keep{percent(self.keep)}"

    @property
    def parent(self) -> Name:
        """The unpruned network of the same family."""
        return replace(self, keep=1.0)

    def __str__(self) -> str:
        return f"{self.folder}%"


def split_keep(text: str) -> tuple[str, float | None]:
    """Split a name, short or full, from the keep rate that it may end in.

    >>> split_keep("rotnet-resnet20-keep0.5%"), split_keep("exemplar")
    (('rotnet-resnet20', 0.005), ('exemplar', None))
    """
    match = _KEEP.search(text)
    return (text[: match.start()], fraction(match["keep"])) if match else (text, None)


def percent(keep: float) -> str:
    """A keep rate as names spell it, in per cent without trailing zeros.

    >>> percent(1.0), percent(0.05), percent(0.001)
    ('100', '5', '0.1')
    """
    text = f"{Decimal(repr(float(keep))) * 100:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def fraction(text: str) -> float:
    """The keep rate of a percentage as names spell it.

    Raises:
        KeepError: It is not a number in (0, 100].
    """
    try:
        value = float(Decimal(text) / 100)
    except InvalidOperation:
        value = 0.0
    if not 0 < value <= 1:
        raise KeepError(f"keep{text}% is not a percentage in (0, 100].", "Write five per cent as keep5%.")
    return value
