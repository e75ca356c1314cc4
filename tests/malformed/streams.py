"""DEFLATE streams (RFC 1951) put together by hand, since those of zlib differ from build to build."""

from __future__ import annotations


def number(value: int, width: int) -> str:
    """A number in so many bits, lowest first; codes stand as they are, highest first."""
    return format(value, f"0{width}b")[::-1]


def packed(bits: str) -> bytes:
    """Bits, the lowest of each byte first, and zeros behind them."""
    return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))


def stored(content: bytes, *, final: bool = True, claimed: int | None = None, check: int | None = None) -> bytes:
    """A block as it is; its length, and that length's complement, may lie."""
    length = len(content) if claimed is None else claimed
    complement = length ^ 0xFFFF if check is None else check
    return bytes([final]) + length.to_bytes(2, "little") + complement.to_bytes(2, "little") + content


FIXED = number(1, 1) + number(1, 2)
"""How a final block of the codes begins that every reader knows."""

END = "0000000"


def literal(byte: int) -> str:
    """A byte in these codes."""
    return format(0x30 + byte, "08b") if byte < 144 else format(0x190 + byte - 144, "09b")


def match(extra: int, distance: int) -> str:
    """195 + `extra` bytes again, from 1 to 4 bytes back, in these codes."""
    return "11000011" + number(extra, 5) + format(distance - 1, "05b")


def dynamic(own: dict[int, int], lengths: str, *, literals: int = 257, distances: int = 1) -> str:
    """How a final block with its own codes begins: the lengths of the codes for lengths, then bits in these."""
    order = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
    told = "".join(number(own.get(symbol, 0), 3) for symbol in order)
    return "1" + number(2, 2) + number(literals - 257, 5) + number(distances - 1, 5) + number(15, 4) + told + lengths


def bomb(matches: int) -> bytes:
    """258 bytes for each two bits, the most that DEFLATE can: 1 + 258 x `matches` zeros."""

    def zeros(run: int) -> str:
        return "0" + number(run - 11, 7)

    # Codes: 0 for 258 bytes again, 10 for a zero, 11 for the end; of lengths: 0 for a run of none, 10 for 1, 11 for 2.
    lengths = "11" + zeros(138) + zeros(117) + "11" + zeros(28) + "10" + "10"
    return packed(dynamic({18: 1, 1: 2, 2: 2}, lengths, literals=286) + "10" + "00" * matches + "11")
