"""Files that people hold for a model and that are none, known by how they begin: the refusal can say what happened."""

from __future__ import annotations

from collections.abc import Callable

from sslprune.export.malformed import Malformed

START = 512
"""So many bytes of a file are enough to know it."""

_Test = Callable[[bytes], bool]


def _begins(*magic: bytes) -> _Test:
    return lambda start: start.startswith(magic)


def _is_page(start: bytes) -> bool:
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head"))


def _is_onnx(start: bytes) -> bool:
    # A protobuf whose field 1 (ir_version) is a small number, followed by field 2 (producer_name) or 7 (graph).
    return len(start) > 2 and start[0] == 0x08 and start[1] <= 0x20 and start[2] in (0x12, 0x3A)


def _is_text(start: bytes) -> bool:
    return bool(start) and all(byte in b"\t\r\n" or 0x20 <= byte < 0x7F for byte in start)


# First match wins. What each is, and what to do.
_KNOWN: tuple[tuple[_Test, str, str], ...] = (
    (
        _begins(b"version https://git-lfs", b"version https://hawser"),
        "this is a Git LFS pointer, not the file that it points to",
        "Run `git lfs pull` in that checkout, or download the file itself.",
    ),
    (
        _is_page,
        "this is a web page that was saved in the file's place",
        "Download the file itself: its 'raw' or 'download' link, logged in if the site asks for it.",
    ),
    (
        _begins(b"{", b"["),
        "this is JSON text, perhaps a server's error message",
        "Look at it in an editor, then download the file itself.",
    ),
    (
        _begins(b"PK\x03\x04", b"PK\x05\x06"),
        "this is a zip archive, perhaps a torch checkpoint or an .npz file",
        "Unpack an archive; load a checkpoint that you trust with torch.load(..., weights_only=True).",
    ),
    (
        _begins(*(b"\x80" + bytes([protocol]) for protocol in range(2, 6))),
        "this is a Python pickle, perhaps an old torch checkpoint, and was not opened",
        "A pickle can run code. If you trust it, load it with torch.load(..., weights_only=True).",
    ),
    (
        _begins(b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00", b"BZh"),
        "this is a compressed file",
        "Decompress it first.",
    ),
    (_begins(b"\x93NUMPY"), "this is a numpy array (.npy)", "Read it with numpy.load(..., allow_pickle=False)."),
    (_begins(b"\x89HDF\r\n\x1a\n"), "this is an HDF5 file, perhaps of Keras", "Open it with h5py."),
    (_begins(b"GGUF"), "this is a GGUF file", "Open it with the tool that it was made for."),
    (_is_onnx, "this is an ONNX model", "Open it with onnxruntime, or take the sparse.safetensors beside it."),
    (
        _begins(bytes(8)),
        "it begins with zeros, as an interrupted download leaves it",
        "Download the file again.",
    ),
    (
        _is_text,
        "this is text, perhaps a server's error message",
        "Look at it in an editor, then download the file itself.",
    ),
)


def recognised(start: bytes) -> Malformed | None:
    """The refusal of a file that is known to be something else, or None.

    Args:
        start: The first bytes of the file, `START` of them where it has as many.

    >>> print(recognised(b"version https://git-lfs.github.com/spec/v1"))
    this is a Git LFS pointer, not the file that it points to
    """
    for fits, what, hint in _KNOWN:
        if fits(start):
            return Malformed(what, hint)
    return None
