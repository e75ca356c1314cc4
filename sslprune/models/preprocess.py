"""From pictures to what a network takes: scale, resize, normalise. Importing it needs neither torch nor numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sslprune.errors import DatasetError, ManifestError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
"""Per channel, over the CIFAR-10 training pixels in [0,1]."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Per channel, over the ImageNet training pixels in [0,1], as timm and torchvision have them."""

_INTERPOLATIONS = ("bilinear", "bicubic")
_FIELDS = ("mean", "std", "size", "interpolation")


@dataclass(frozen=True)
class Preprocessing:
    """The constants a network was trained with, and their use on uint8 pictures.

    Args:
        mean: Subtracted from each channel of the picture in [0,1]: three numbers.
        std: The divisor of each channel: three numbers above 0.
        size: Height and width of the result, in pixels.
        interpolation: "bilinear" or "bicubic", for pictures of another size.

    Raises:
        ManifestError: A constant is impossible.

    >>> import numpy as np
    >>> images = np.full((2, 32, 32, 3), 255, np.uint8)
    >>> Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 32)(images).mean().item()
    1.0
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, _three(name, getattr(self, name)))
        if min(self.std) <= 0:
            raise _impossible("std", self.std, "three numbers above 0")
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise _impossible("size", self.size, "a whole number of pixels above 0")
        if self.interpolation not in _INTERPOLATIONS:
            raise _impossible("interpolation", self.interpolation, " or ".join(_INTERPOLATIONS))

    def __call__(self, images: np.ndarray[Any, Any] | Tensor) -> Tensor:
        """Pictures to network input, on their device.

        A picture of `size` x `size` keeps its pixels exactly: the result is (x / 255 - mean) / std in float32. Any
        other is first resized to `size` x `size`, with antialiasing and without cropping.

        Args:
            images: uint8 [N,H,W,3], values 0 to 255, RGB.

        Returns:
            float32 [N,3,size,size], contiguous.

        Raises:
            DatasetError: Another dtype or shape.
        """
        import torch

        pixels = images if isinstance(images, torch.Tensor) else torch.from_numpy(images.copy())
        _check_pictures(pixels.shape, str(pixels.dtype).removeprefix("torch."))
        x = pixels.permute(0, 3, 1, 2).contiguous().to(torch.float32) / 255
        if x.shape[2:] != (self.size, self.size):
            x = self._resize(x)
        mean, std = (x.new_tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return (x - mean) / std

    def numpy(self, images: np.ndarray[Any, Any]) -> NDArray[np.float32]:
        """The same without torch, on arrays: bit-equal for pictures of `size` x `size`.

        Others are resized by Pillow, by the same filters. It places them in float64, torch in float32, so that the two
        differ by up to 2e-5 of the range of values (pictures and `size` up to 200 pixels; by more for larger ones).

        Args:
            images: uint8 [N,H,W,3], values 0 to 255, RGB.

        Returns:
            float32 [N,3,size,size], contiguous.

        Raises:
            DatasetError: Another dtype or shape.
        """
        import numpy as np

        pixels = np.asarray(images)
        _check_pictures(pixels.shape, str(pixels.dtype))
        x = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)
        if x.shape[2:] != (self.size, self.size):
            x = self._resize_numpy(x)
        mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (self.mean, self.std))
        result: NDArray[np.float32] = (x - mean) / std
        return result

    def _resize(self, x: Tensor) -> Tensor:
        from torch.nn.functional import interpolate

        if len(x) == 0:
            return x.new_empty(0, 3, self.size, self.size)
        # Bicubic overshoots at edges; a picture stays within [0,1].
        return interpolate(x, size=(self.size, self.size), mode=self.interpolation, antialias=True).clamp(0, 1)

    def _resize_numpy(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        import numpy as np
        from PIL import Image

        how = Image.Resampling[self.interpolation.upper()]
        resized = np.empty((*x.shape[:2], self.size, self.size), np.float32)
        for number, channel in np.ndindex(x.shape[:2]):
            plane = Image.fromarray(x[number, channel])
            resized[number, channel] = plane.resize((self.size, self.size), how)
        return resized.clip(0, 1)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with the four constants."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Preprocessing:
        """The inverse of `to_json`; treats `values` as foreign data.

        Raises:
            ManifestError: A constant is missing, unknown or impossible.
        """
        if not isinstance(values, Mapping) or set(values) != set(_FIELDS):
            raise ManifestError(
                f"pre-processing must have exactly {', '.join(_FIELDS)}, not {values!r}.",
                "Fetch the model's files again, or fix its config.json.",
            )
        return cls(**values)


def _check_pictures(shape: tuple[int, ...], dtype: str) -> None:
    if dtype != "uint8" or len(shape) != 4 or shape[3] != 3 or 0 in shape[1:]:
        raise DatasetError(
            f"images must be uint8 [N,H,W,3], not {dtype} {list(shape)}.",
            "Give RGB pictures with values 0 to 255, for example numpy.asarray(PIL_IMAGE.convert('RGB'))[None].",
        )


def _three(name: str, values: Any) -> tuple[float, float, float]:
    numbers = list(values) if isinstance(values, (list, tuple)) else []
    if len(numbers) != 3 or not all(_finite(number) for number in numbers):
        raise _impossible(name, values, "three finite numbers")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _finite(number: Any) -> bool:
    return isinstance(number, (int, float)) and not isinstance(number, bool) and math.isfinite(number)


def _impossible(name: str, value: Any, wanted: str) -> ManifestError:
    return ManifestError(f"pre-processing has {name} {value!r}.", f"It must be {wanted}.")
