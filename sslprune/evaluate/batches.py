"""Images with labels in any of torch's forms, as batches: arrays, a Dataset, a DataLoader.

Pictures are uint8 [H,W,3] (or PIL images, which become that) and are pre-processed here, one by one where their sizes
differ; float [3,H,W] images are taken as pre-processed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from sslprune.errors import DatasetError
from sslprune.evaluate.labelled import Images, Labelled

Data: TypeAlias = "Labelled | Dataset[Any] | DataLoader[Any]"
"""(images, labels); a Dataset whose items are (image, label); or a DataLoader of such batches, in its own order."""

Pictures: TypeAlias = "Tensor | list[Tensor]"
"""One batch of images, or a list of images that may differ in size."""

Prepare: TypeAlias = "Callable[[Pictures], Tensor]"


def is_pair(data: object) -> bool:
    """Whether the data are (images, labels)."""
    return isinstance(data, (tuple, list)) and len(data) == 2


def is_indexed(data: object) -> bool:
    """Whether any item can be asked for: arrays and map-style Datasets, but no DataLoader."""
    return not isinstance(data, (DataLoader, IterableDataset)) and (is_pair(data) or hasattr(data, "__getitem__"))


def length(data: Data | Images) -> int | None:
    """How many images there are; None where only reading tells."""
    if isinstance(data, DataLoader):
        return None if isinstance(data.dataset, IterableDataset) or data.drop_last else _sampled(data)
    if isinstance(data, IterableDataset):
        return None
    return len(data[0]) if is_pair(data) else len(data)  # type: ignore[arg-type]


def batches(
    data: Data | Images, size: int, order: Sequence[int] | None = None
) -> Iterator[tuple[Pictures, Tensor | None]]:
    """The images batch by batch, with their labels where there are any.

    Args:
        data: See `Data`; or images alone.
        size: Images a batch. A DataLoader's batches are its own.
        order: Positions to read, in this order; None reads all as they come. Only where `is_indexed(data)`.

    Raises:
        DatasetError: An item or batch is neither images nor images with labels.
    """
    if isinstance(data, IterableDataset):
        data = DataLoader(data, batch_size=size)
    if isinstance(data, DataLoader):
        for batch in data:
            images, labels = _split(batch)
            yield images if isinstance(images, list) else _tensor(images), None if labels is None else _tensor(labels)
        return
    pair = data if is_pair(data) else None
    images = pair[0] if pair is not None else data
    given = None if pair is None else _tensor(pair[1])  # a tensor, for a list cannot be indexed by a list
    count = len(images)  # type: ignore[arg-type]
    for start in range(0, count if order is None else len(order), size):
        rows = slice(start, min(start + size, count)) if order is None else list(order[start : start + size])
        if pair is not None or isinstance(images, (np.ndarray, Tensor)):
            yield _tensor(images[rows]), None if given is None else given[rows]  # type: ignore[index]
        else:
            yield _items(images, range(count)[rows] if isinstance(rows, slice) else rows)


def preparation(model: nn.Module, preprocessing: Callable[[Tensor], Tensor] | None) -> Prepare:
    """What makes a network's input of a batch: pictures pre-processed, anything else checked.

    Args:
        model: Whose own pre-processing (`model.sslprune.preprocessing`) is taken where none is given.
        preprocessing: uint8 [N,H,W,3] to float32 [N,3,H,W].

    Returns:
        A function that raises DatasetError where the images have another form, or are uint8 and nothing says how to
        pre-process them.
    """
    chosen = preprocessing or getattr(getattr(model, "sslprune", None), "preprocessing", None)

    def prepare(images: Pictures) -> Tensor:
        if isinstance(images, list):
            if len({image.shape for image in images}) > 1 and all(image.dtype == torch.uint8 for image in images):
                return torch.cat([prepare(image[None]) for image in images])
            images = _stacked(images)
        if not is_pictures(images):
            if not (images.is_floating_point() and images.ndim == 4 and images.shape[1] == 3) or 0 in images.shape:
                raise DatasetError(
                    f"images are {str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}.",
                    "Give uint8 [N,H,W,3], or pre-processed float32 [N,3,H,W]; at least one.",
                )
            return images.float()
        if chosen is None:
            raise DatasetError(
                f"nothing says how {type(model).__name__} wants its uint8 images pre-processed.",
                "Give preprocessing=sslprune.models.Preprocessing(mean, std, size), or pre-processed float images.",
            )
        prepared: Tensor = chosen(images)
        return prepared

    return prepare


def is_pictures(images: Pictures) -> bool:
    """Whether images still are uint8 pictures, which pre-processing and augmentation may work on."""
    one = images[0] if len(images) else None
    return one is not None and one.dtype == torch.uint8 and one.ndim == 3 and one.shape[2] == 3 and 0 not in one.shape


def to_device(images: Pictures, device: torch.device) -> Pictures:
    """The batch on a device."""
    return [image.to(device) for image in images] if isinstance(images, list) else images.to(device)


def _sampled(loader: DataLoader[Any]) -> int | None:
    sampler = loader.sampler if loader.batch_sampler is None else getattr(loader.batch_sampler, "sampler", None)
    try:
        return len(sampler)  # type: ignore[arg-type]
    except TypeError:
        return None


def _items(dataset: Any, rows: Sequence[int]) -> tuple[Pictures, Tensor | None]:
    pairs = [_split(dataset[int(row)]) for row in rows]
    images = [_picture(image) for image, _ in pairs]
    labels = [label for _, label in pairs if label is not None]
    if 0 < len(labels) < len(pairs):
        raise DatasetError("some items of the Dataset have a label and some have none.", "Give each a label, or none.")
    same = len({image.shape for image in images}) == 1
    return torch.stack(images) if same else images, torch.stack(
        [_tensor(label) for label in labels]
    ) if labels else None


def _split(item: Any) -> tuple[Any, Any]:
    if is_pair(item):
        return item[0], item[1]
    if isinstance(item, (tuple, list, dict)):
        raise DatasetError(
            f"an item of the data is a {type(item).__name__} of {len(item)}, not (image, label).",
            "Wrap the Dataset so that its items are (image, label), or images alone.",
        )
    return item, None


def _picture(image: Any) -> Tensor:
    if hasattr(image, "convert"):  # a PIL image
        image = np.asarray(image.convert("RGB"))
    return _tensor(image)


def _tensor(values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values
    return torch.from_numpy(np.array(values))  # a copy: the array may be read-only or strided backwards


def _stacked(images: list[Tensor]) -> Tensor:
    try:
        return torch.stack(images)
    except (RuntimeError, TypeError) as error:
        raise DatasetError(
            "pre-processed images of one batch differ in size.", "Give them equal sizes, or uint8 pictures."
        ) from error
