"""From the zoo's short architecture names to timm's."""

from __future__ import annotations

SMALL = 64
"""Images of at most so many pixels a side get the 3x3 stem."""

_ALWAYS = {
    "resnet20": "resnet20_cifar",
    "resnet56": "resnet56_cifar",
    "vgg19": "vgg19_onefc",
    "vgg11w16": "vgg11_quarter_onefc",
}
_STEM_FOLLOWS_DATA = ("resnet18", "resnet50")


def registered_name(arch: str, size: int) -> str:
    """The timm name behind a short architecture name: the stem follows the images the network is trained on.

    Args:
        arch: The arch part of a model's name ("resnet20", "resnet50", "vgg19", ...) or a timm name, which is kept.
        size: Height and width of the images, in pixels.

    Returns:
        A name for `build`; whether it exists is checked there.

    >>> registered_name("resnet50", 32), registered_name("resnet50", 224)
    ('resnet50_cifar', 'resnet50')
    >>> registered_name("resnet20", 32), registered_name("mobilenetv2_100", 32)
    ('resnet20_cifar', 'mobilenetv2_100')
    """
    if arch in _STEM_FOLLOWS_DATA and size <= SMALL:
        return f"{arch}_cifar"
    return _ALWAYS.get(arch, arch)
