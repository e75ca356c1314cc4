"""Few labels: the same measurements with labels on a part of the images only, 1 % or 10 % of each class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from sslprune.data import subsets
from sslprune.errors import DatasetError
from sslprune.evaluate.batches import Data, batches, is_indexed, is_pair
from sslprune.evaluate.facade import KnnResult, LinearResult, knn_eval, linear_eval
from sslprune.evaluate.finetune import FinetuneResult, finetune
from sslprune.evaluate.labelled import label_tensor
from sslprune.evaluate.protocol import Protocol
from sslprune.evaluate.sgd_probe import SgdResult, sgd_eval


@dataclass(frozen=True)
class FewLabels(Protocol):
    """The constants of a measurement with few labels.

    Attributes:
        fraction: Of the images of each class, in (0, 1]; rounded, at least one.
        method: Of measuring: `linear_eval`, `knn_eval`, `sgd_eval` or `finetune`.
        data: The data set's name, from which the choice is drawn; see `sslprune.data.subsets`.
        subset_seed: Of the choice.
        chosen_by: Which images.
    """

    fraction: float
    method: Literal["linear", "knn", "sgd", "finetune"] = "linear"
    data: str = ""
    subset_seed: int = 0
    chosen_by: str = "sslprune.data.subsets: images, by class"

    def of(self, train: Data) -> Part:
        """The part of a labelled training set that keeps its labels.

        Raises:
            DatasetError: It is a DataLoader (which has no positions to choose from), has no labels, or the fraction is
                impossible.
        """
        if not 0 < self.fraction <= 1:
            raise DatasetError(
                f"{self.fraction} of the labels cannot be kept.", "Give a fraction in (0, 1], such as 0.01."
            )
        if not is_indexed(train):
            raise DatasetError(
                "a DataLoader has no positions to choose from.", "Give its Dataset, or (images, labels)."
            )
        labels = _labels(train)
        spec = subsets.Spec("images", self.fraction, self.subset_seed)
        chosen = subsets.choose(spec, labels.numpy(), data=self.data, count=len(labels))
        rows = torch.from_numpy(chosen.indices)
        if is_pair(train):
            images = train[0]  # type: ignore[index]
            part: Data = (images[rows if isinstance(images, torch.Tensor) else chosen.indices], labels[rows])
        else:
            part = torch.utils.data.Subset(train, rows.tolist())  # type: ignore[arg-type]
        return Part(part, len(rows), chosen.sha256, self)


@dataclass(frozen=True, eq=False)
class Part:
    """The labelled part of a training set.

    Attributes:
        data: In the form of the whole.
        count: Images.
        sha256: Of the list of their numbers, one a line.
        protocol: How it was chosen.
    """

    data: Data
    count: int
    sha256: str
    protocol: FewLabels

    def described(self) -> dict[str, Any]:
        """For a result row."""
        return {**self.protocol.constants(), "images": self.count, "subset_sha256": self.sha256}


def semi_eval(
    model: nn.Module, train: Data, test: Data, few: FewLabels, **options: Any
) -> LinearResult | KnnResult | SgdResult | FinetuneResult:
    """Measure a network with labels on a part of the training images.

    Args:
        model: It stays as it is, but for `finetune`, which changes it in place.
        train: (images, labels) or a Dataset of such pairs, all with labels.
        test: See `linear_eval`.
        few: Fraction and method.
        **options: Of the method.

    Raises:
        DatasetError: See `FewLabels.of`, and the method.
    """
    measures: dict[str, Callable[..., Any]] = {
        "linear": linear_eval,
        "knn": knn_eval,
        "sgd": sgd_eval,
        "finetune": finetune,
    }
    found: LinearResult | KnnResult | SgdResult | FinetuneResult = measures[few.method](
        model, few.of(train).data, test, **options
    )
    return found


def _labels(train: Data) -> torch.Tensor:
    if is_pair(train):
        return label_tensor(train[1], len(train[0]))  # type: ignore[index]
    found = [labels for _, labels in batches(train, 256)]
    known = [labels for labels in found if labels is not None]
    if not known or len(known) < len(found):
        raise DatasetError("the train images have no labels.", "Give (images, labels), or items (image, label).")
    together = torch.cat(known)
    return label_tensor(together, len(together))
