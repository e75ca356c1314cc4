"""What a pretext task is: views of a batch with targets, a head on the backbone's features, and a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from sslprune.data.device_loader import Batch
from sslprune.data.draws import Draws
from sslprune.pretext.options import Options


class Pretext(nn.Module, ABC):
    """A pretext task. A new one is one file with a subclass, and one line in the registry.

    The head belongs to the pretext: it trains, rewinds and is checkpointed with the network, is never pruned, and is
    not part of the published backbone. So do its buffers: what a task remembers there resumes bit for bit.

    Args:
        num_features: Width of the backbone's pooled features.
        num_images: Images in the training set (for tasks that treat each as a class of its own).
        num_classes: Classes of the labels, 0 without labels.
        options: An instance of its `options_type`; None for the defaults.

    Attributes:
        options_type: The dataclass of the task's options.
        needs_labels: Whether it looks at labels.
        mixes_labelled: Whether every batch brings as many labelled images besides. Then a recipe's `subset` says which
            images have labels; otherwise it says which images there are.
        copies: How often the loader crops and flips each image of a batch.
    """

    options_type: ClassVar[type[Options]] = Options
    needs_labels: ClassVar[bool] = False
    mixes_labelled: ClassVar[bool] = False
    copies: int = 1

    def __init__(self, num_features: int, *, num_images: int, num_classes: int, options: Options | None = None) -> None:
        super().__init__()

    @abstractmethod
    def views(self, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        """Turn a batch of B images into network inputs [V, 3, H, W] and their targets, with V a multiple of B."""

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """The head: features [V, num_features] -> outputs."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The scalar loss of float32 outputs."""

    def after_update(self, outputs: Tensor, targets: Tensor) -> None:
        """Called after each update with the outputs, detached, and the targets that its loss was made of."""

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """How well the task itself is solved, in per cent; what the log and the progress bar show."""
        return float((outputs.argmax(1) == targets).float().mean() * 100)
