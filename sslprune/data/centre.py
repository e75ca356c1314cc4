"""Large data sets as they are evaluated: the centre of each image, decoded by worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sslprune.data.crops import CROPPED, RESIZED, centre_crop
from sslprune.data.encoded import EncodedImages
from sslprune.data.workers import default_workers
from sslprune.errors import SslpruneError

Item = tuple[NDArray[np.uint8], int]


class CentreCrops(Dataset[Any]):
    """The centre of each image and its label, for `sslprune.linear_eval` and all else that takes a torch Dataset.

    Args:
        images: The images, with labels or without.
        resized: Pixels that the shorter side is brought to.
        cropped: Height and width of the centre that is taken, in pixels, at most `resized`.
    """

    def __init__(self, images: EncodedImages, *, resized: int = RESIZED, cropped: int = CROPPED) -> None:
        self._images, self._resized, self._cropped = images, resized, cropped

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Item | NDArray[np.uint8]:
        """uint8 [cropped, cropped, 3], and the label if there are labels.

        Raises:
            DatasetError: The image is unreadable. None is skipped here: accuracy on fewer images is another figure.
        """
        picture = centre_crop(self._images.read(index), self._resized, self._cropped)
        labels = self._images.labels
        return picture if labels is None else (picture, int(labels[index]))


def centre_crops(
    images: EncodedImages,
    *,
    batch: int = 64,
    workers: int | None = None,
    resized: int = RESIZED,
    cropped: int = CROPPED,
    shuffled: int | None = None,
) -> DataLoader[Any]:
    """`CentreCrops` as a DataLoader: batches uint8 [B, cropped, cropped, 3] with labels [B].

    Args:
        images: The images.
        batch: Images a batch.
        workers: Processes that decode. None: see `default_workers`.
        resized: See `CentreCrops`.
        cropped: Likewise.
        shuffled: Seed of an order that is another each time; None: always as they come.
    """
    order = None if shuffled is None else torch.Generator().manual_seed(shuffled)
    return _NamedErrors(
        _Tried(CentreCrops(images, resized=resized, cropped=cropped)),
        batch_size=batch,
        shuffle=order is not None,
        generator=order,
        num_workers=default_workers() if workers is None else workers,
        collate_fn=_stacked,
    )


class _Tried(Dataset[Any]):
    """A Dataset that gives errors back rather than raises them: torch could not raise them again across processes."""

    def __init__(self, data: CentreCrops) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        try:
            return [self._data[index] for index in indices]
        except SslpruneError as error:
            return [error]


class _NamedErrors(DataLoader[Any]):
    """Raises what a worker gave back as an error."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, SslpruneError):
                raise batch
            yield batch


def _stacked(items: list[Any]) -> Tensor | tuple[Tensor, Tensor] | SslpruneError:
    if isinstance(items[0], SslpruneError):
        return items[0]
    if not isinstance(items[0], tuple):
        return torch.from_numpy(np.stack(items))
    pictures, labels = zip(*items, strict=True)
    return torch.from_numpy(np.stack(pictures)), torch.tensor(labels)
