"""The views that exemplar, npid and simclr share: a random window, small rotations, other colours, grey."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sslprune.data import views
from sslprune.data.device_loader import Batch
from sslprune.data.draws import Draws
from sslprune.pretext.options import Options, require


@dataclass(frozen=True)
class Augmentation(Options):
    """How strongly views differ; each pretext has defaults of its own. Padded crops and flips are `[training]`'s.

    Args:
        crop: Least area share of the random window that is enlarged to the image's size; 1 for no such crop.
        degrees: Rotations by up to so many degrees either way.
        brightness: See `views.Jitter`, as for the next three.
        contrast: Likewise.
        saturation: Likewise.
        hue: Likewise, in full turns.
        jitter: Probability with which an image's colours change.
        grey: Probability with which an image loses its colours.
    """

    crop: float = 1.0
    degrees: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    jitter: float = 1.0
    grey: float = 0.0

    def __post_init__(self) -> None:
        require(0 < self.crop <= 1, "crop is above 0 and at most 1")
        require(0 <= self.degrees <= 180, "degrees are between 0 and 180")
        require(min(self.brightness, self.contrast, self.saturation) >= 0, "colour strengths are not negative")
        require(max(self.brightness, self.contrast, self.saturation) < 100, "colour strengths are below 100")
        require(0 <= self.hue <= 0.5, "hue is between 0 and 0.5")
        require(0 <= self.jitter <= 1, "jitter is a probability")
        require(0 <= self.grey <= 1, "grey is a probability")

    def __call__(self, batch: Batch, draws: Draws) -> Tensor:
        """The batch's images, changed, standardised again: [P * B, 3, H, W]."""
        images = batch.scale.undo(batch.images)
        images = views.resized_crop(images, self.crop, draws, degrees=self.degrees)
        strength = views.Jitter(self.brightness, self.contrast, self.saturation, self.hue, self.jitter)
        images = views.jitter(images, strength, draws)
        return batch.scale.standardise(views.grey(images, self.grey, draws))
