"""Image tables in parquet files, as the `datasets` library writes them.

The image column, `img` or `image`, is a struct with a `bytes` field (or plain binary); labels are an integer column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslprune.data import decode
from sslprune.data.source import Split
from sslprune.errors import DatasetError
from sslprune.extras import require

IMAGE_COLUMNS = ("img", "image")
_ROWS_AT_ONCE = 1000
_HINT = "Fetch the data set again, or point SSLPRUNE_DATA at another copy."


def rows(paths: Iterable[Path]) -> int:
    """How many rows the files claim to hold, from their footers.

    Raises:
        DatasetError: A file is not parquet.
        MissingExtraError: pyarrow is not installed.
    """
    return sum(open_file(path).metadata.num_rows for path in paths)


def has_column(path: Path, name: str) -> bool:
    """Whether the file has this column.

    Raises:
        DatasetError: It is not parquet.
        MissingExtraError: pyarrow is not installed.
    """
    return name in open_file(path).schema_arrow.names


def read(paths: Sequence[Path], *, size: int, label: str, classes: int) -> Split:
    """Read the files one after the other, rows in order.

    Args:
        paths: Parquet files.
        size: Height and width that every image must have.
        label: The label column.
        classes: Labels must be in [0, classes).

    Raises:
        DatasetError: A file is not parquet, a column is missing or of another type, an image is unreadable or of
            another size, a label is missing or out of range; the message names file and row.
        MissingExtraError: pyarrow is not installed.
    """
    pieces = [piece for path in paths for piece in _pieces(path, size=size, label=label, classes=classes)]
    if not pieces:
        raise DatasetError(f"{', '.join(map(str, paths))}: no rows.", _HINT)
    return Split(np.concatenate([images for images, _ in pieces]), np.concatenate([labels for _, labels in pieces]))


def _pieces(
    path: Path, *, size: int, label: str, classes: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    arrow = require("pyarrow", extra="parquet", purpose="reading parquet files")
    file = open_file(path)
    image_column = find_column(file, path, IMAGE_COLUMNS)
    check_types(arrow, file.schema_arrow, path, image_column, find_column(file, path, [label]))
    batches = file.iter_batches(_ROWS_AT_ONCE, columns=[image_column, label])
    first = 0
    while True:
        try:
            batch = next(batches, None)
        except (arrow.ArrowException, OSError) as error:
            raise DatasetError(f"{path}: damaged after row {first} ({error}).", _HINT) from error
        if batch is None:
            return
        images = _images(batch.column(image_column), path, first, size)
        labels = read_labels(batch.column(label), path, first, classes)
        if len(labels):
            yield images, labels
        first += len(labels)


def open_file(path: Path) -> Any:
    """An open `pyarrow.parquet.ParquetFile`.

    Raises:
        DatasetError: It is not parquet.
        MissingExtraError: pyarrow is not installed.
    """
    arrow = require("pyarrow", extra="parquet", purpose="reading parquet files")
    parquet = require("pyarrow.parquet", extra="parquet", purpose="reading parquet files")
    try:
        return parquet.ParquetFile(path)
    except (arrow.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: not a readable parquet file ({error}).", _HINT) from error


def find_column(file: Any, path: Path, names: Sequence[str]) -> str:
    """The first of these columns that the file has once.

    Raises:
        DatasetError: It has none of them.
    """
    present = file.schema_arrow.names
    for name in names:
        if present.count(name) == 1:
            return name
    raise DatasetError(
        f"{path}: no column {' or '.join(names)}; it has: {', '.join(present)}.",
        "Check that this file belongs to the data set you named.",
    )


def check_types(arrow: Any, schema: Any, path: Path, image: str, label: str) -> None:
    """Refuse an image column that holds no bytes, or a label column that holds no integers.

    Raises:
        DatasetError: It is such a column.
    """
    kind = schema.field(image).type
    if arrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind)):
        raise DatasetError(f"{path}: column {image} is {kind}, expected encoded images (binary).", _HINT)
    if not arrow.types.is_integer(schema.field(label).type):
        raise DatasetError(f"{path}: column {label} is {schema.field(label).type}, expected integers.", _HINT)


def _images(column: Any, path: Path, first: int, size: int) -> NDArray[np.uint8]:
    images = np.empty((len(column), size, size, 3), np.uint8)
    for i, cell in enumerate(column.to_pylist()):
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if content is None:
            raise DatasetError(f"{path}: row {first + i} has no image.", _HINT)
        images[i] = decode.exact(content, size=size, where=f"{path}: row {first + i}")
    return images


def read_labels(column: Any, path: Path, first: int, classes: int) -> NDArray[np.int64]:
    """A column of class numbers in [0, classes); `first` is the row that it starts with.

    Raises:
        DatasetError: One is missing or out of range; the message names its row.
    """
    labels = column.to_pylist()
    for i, label in enumerate(labels):
        if label is None or not 0 <= label < classes:
            raise DatasetError(f"{path}: row {first + i} has label {label}, expected 0 to {classes - 1}.", _HINT)
    return np.array(labels, np.int64)
