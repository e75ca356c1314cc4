"""Images in parquet shards, as the `datasets` library writes them, read row by row.

A row can only be had with the rest of its row group: images asked for in random order cost a group each, unless the
files lie in the page cache. Class folders are the faster form.
"""

from __future__ import annotations

import io
import json
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sslprune.data import parquet
from sslprune.data.encoded import EncodedImages, PackedTexts, upright
from sslprune.errors import DatasetError
from sslprune.extras import require

GROUPS_KEPT = 4
"""Row groups that a process holds: neighbours are often asked for together in evaluation."""

MOST_CLASSES = 1 << 20

_HINT = "Fetch the data set again, or point SSLPRUNE_DATA at another copy."


class Shards(EncodedImages):
    """The rows of several parquet files, in order. Opening reads footers and labels, no image.

    Args:
        paths: The files.
        classes: Labels must be in [0, classes); None: any that are not negative.
        label: The label column.

    Raises:
        DatasetError: A file is not parquet, a column is missing or of another type, a label is missing or out of
            range.
        MissingExtraError: pyarrow is not installed.
    """

    labels: NDArray[np.int64]

    def __init__(self, paths: Sequence[Path], *, classes: int | None, label: str = "label") -> None:
        arrow = require("pyarrow", extra="parquet", purpose="reading parquet files")
        self._paths = PackedTexts(str(path) for path in paths)
        groups, labels = [], []
        for number, path in enumerate(paths):
            file = parquet.open_file(path)
            self._image = parquet.find_column(file, path, parquet.IMAGE_COLUMNS)
            parquet.check_types(arrow, file.schema_arrow, path, self._image, parquet.find_column(file, path, [label]))
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
            groups += [(number, group, size) for group, size in enumerate(sizes)]
            try:
                column = file.read([label], use_threads=False).column(label)
            except (arrow.ArrowException, OSError) as error:
                raise DatasetError(f"{path}: damaged ({error}).", _HINT) from error
            labels.append(parquet.read_labels(column, path, 0, MOST_CLASSES if classes is None else classes))
        if not sum(map(len, labels)):
            raise DatasetError(f"{', '.join(map(str, paths))}: no rows.", _HINT)
        self.labels = np.concatenate(labels)
        table = np.array(groups, np.int64)
        self._where, self._ends = table[:, :2], np.cumsum(table[:, 2])
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._process = os.getpid()

    def __len__(self) -> int:
        return len(self.labels)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": OrderedDict()}

    def read(self, index: int) -> Image.Image:
        group = int(np.searchsorted(self._ends, index, side="right"))
        row = index - (int(self._ends[group - 1]) if group else 0)
        path = self._paths[int(self._where[group, 0])]
        where = f"{path}: row {row} of group {int(self._where[group, 1])}"
        content = self._group(group)[row].as_py()
        if isinstance(content, dict):
            content = content.get("bytes")
        if not isinstance(content, bytes):
            raise DatasetError(f"{where} has no image.", _HINT)
        return upright(io.BytesIO(content), where)

    def _group(self, group: int) -> Any:
        """The image column of a row group: of this process's own reading, since arrow's files are not for forks."""
        if self._process != os.getpid():
            self._kept, self._process = OrderedDict(), os.getpid()
        if group not in self._kept:
            arrow = require("pyarrow", extra="parquet", purpose="reading parquet files")
            path = Path(self._paths[int(self._where[group, 0])])
            file = parquet.open_file(path)
            try:
                table = file.read_row_group(int(self._where[group, 1]), columns=[self._image], use_threads=False)
            except (arrow.ArrowException, OSError) as error:
                raise DatasetError(f"{path}: damaged ({error}).", _HINT) from error
            self._kept[group] = table.column(self._image)
            while len(self._kept) > GROUPS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(group)
        return self._kept[group]


def class_names(path: Path, label: str = "label") -> tuple[str, ...]:
    """The names of the classes, as the `datasets` library leaves them in the file; none if it does not.

    Raises:
        DatasetError: It is not parquet.
        MissingExtraError: pyarrow is not installed.
    """
    stated = (parquet.open_file(path).schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    try:
        names = json.loads(stated)["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()
