"""Protocols: every constant of a way to measure, in one frozen object that is printed into the result row."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Protocol:
    """The base of all protocols: a frozen dataclass whose fields are all of its constants."""

    def constants(self) -> dict[str, Any]:
        """Every constant by name, and the protocol's own name, as JSON holds them."""
        fields = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {"protocol": type(self).__name__, **fields}
