"""Open a data set by its name."""

from __future__ import annotations

from pathlib import Path

from sslprune.data import cifar
from sslprune.data.digits import open_digits
from sslprune.data.folder import open_folder
from sslprune.data.places205 import open_places205
from sslprune.data.source import Source, Split
from sslprune.data.voc07 import open_voc07
from sslprune.errors import DatasetError, nearest

__all__ = ["DEFAULT_SIZE", "NAMES", "Source", "Split", "open"]

NAMES = ("digits", "cifar10", "cifar100", "voc07", "places205", "folder:PATH")
DEFAULT_SIZE = 32


def open(spec: str, *, data_dir: Path | None = None, download: bool = False, size: int | None = None) -> Source:
    """Find a data set; its images are read when a split is asked for.

    Looked for in `data_dir`, `SSLPRUNE_DATA`, `./data` and the user cache, in this order.

    Args:
        spec: `digits`, `cifar10`, `cifar100`, `voc07`, `places205`, or `folder:PATH` for a folder of images.
        data_dir: The first place to look at.
        download: Let torchvision fetch a data set that is in none of the places into the user cache.
        size: Height and width that the images of `voc07`, `places205` or a `folder:` are brought to, 32 by default.
            The other data sets keep the size they have.

    Raises:
        DatasetMissingError: It is in none of the places; the message lists them.
        DatasetError: The name is unknown, or what was found is not that data set.
        MissingExtraError: An optional package is needed to read it.
    """
    kind, _, path = spec.partition(":")
    if kind == "folder" and path:
        return open_folder(Path(path).expanduser(), size=DEFAULT_SIZE if size is None else size)
    match spec:
        case "digits":
            return open_digits()
        case "cifar10":
            return cifar.open_cifar(cifar.CIFAR10, data_dir=data_dir, download=download)
        case "cifar100":
            return cifar.open_cifar(cifar.CIFAR100, data_dir=data_dir, download=download)
        case "voc07":
            return open_voc07(size=DEFAULT_SIZE if size is None else size, data_dir=data_dir)
        case "places205":
            return open_places205(size=DEFAULT_SIZE if size is None else size, data_dir=data_dir)
    raise DatasetError(f"There is no data set {spec!r}.", f"Choose one of: {nearest(spec, NAMES, most=len(NAMES))}.")
