"""All nested masks of a tensor as a ladder of bitmasks: `FORMAT.md`, section 6. Pure functions on flat arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sslprune.export.codec import bitmask_bytes, pack, unpack
from sslprune.export.deflate import Bytes
from sslprune.export.malformed import Malformed


@dataclass(frozen=True)
class Rounds:
    """The rounds of a ladder at which weights died, and how many lived on after each."""

    rounds: tuple[int, ...]
    alive: tuple[int, ...]

    def check(self, numel: int) -> None:
        """Refuse rounds and counts that contradict each other.

        Raises:
            Malformed: They do.
        """
        counts = (numel, *self.alive)
        if len(self.rounds) != len(self.alive) or bool(self.rounds) != bool(numel):
            raise Malformed(f"{len(self.rounds)} rounds and {len(self.alive)} counts do not fit {numel} weights")
        if any(not 1 <= number <= 255 for number in self.rounds) or not _rises(self.rounds):
            raise Malformed(f"rounds {list(self.rounds)[:8]} are not rising numbers from 1 to 255")
        if any(after > before for before, after in pairwise(counts)):
            raise Malformed(f"counts of living weights rise: {list(counts)[:8]}")

    def bytes_each(self, numel: int) -> list[int]:
        """The bytes of each round's bitmask."""
        return [bitmask_bytes(before) for before in (numel, *self.alive[:-1])] if self.rounds else []


def encode_rounds(died: Bytes) -> tuple[Rounds, Bytes]:
    """The ladder of one tensor as bitmasks over the weights that each round found alive.

    Args:
        died: uint8 `[numel]`, the round (1 to 255) at which each weight died, 0 where it outlived all.
    """
    numbers = [int(number) for number in np.unique(died) if number] or ([1] if died.size else [])
    alive, pieces = [], [np.empty(0, np.uint8)]
    for number in numbers:
        lives = (died == 0) | (died > number)
        pieces.append(pack(lives))
        died = died[lives]
        alive.append(died.size)
    return Rounds(tuple(numbers), tuple(alive)), np.concatenate(pieces)


def decode_rounds(rounds: Rounds, stream: Bytes, numel: int) -> Bytes:
    """The inverse of `encode_rounds`, as uint8 `[numel]`; `stream` has the length that `rounds.bytes_each` asks for.

    Raises:
        Malformed: A bitmask breaks its rules or contradicts the counts.
    """
    ends = np.cumsum(rounds.bytes_each(numel), dtype=np.intp)
    bitmasks = np.split(stream, ends[:-1])
    died = np.zeros(rounds.alive[-1] if rounds.alive else 0, np.uint8)
    counts = (numel, *rounds.alive)
    for level in reversed(range(len(rounds.rounds))):
        lives = unpack(bitmasks[level], counts[level], counts[level + 1])
        before = np.full(counts[level], rounds.rounds[level], np.uint8)
        before[lives] = died
        died = before
    return died


def _rises(numbers: Sequence[int]) -> bool:
    return all(low < high for low, high in pairwise(numbers))
