"""How figures and page call things."""

from __future__ import annotations

_PRETEXTS = {
    "labels": "Labels",
    "rotnet": "RotNet",
    "exemplar": "Exemplar",
    "npid": "NPID",
    "simclr": "SimCLR",
    "s4l": "S4L",
    "random": "Random",
}
_TASKS = {"linear": "linear probe", "knn": "nearest neighbours", "svm": "linear SVM", "sgd": "linear classifier, SGD"}
_OPTIMISERS = {"adam": "Adam", "sgd": "SGD"}


def pretext(name: str, variant: str = "") -> str:
    """
    >>> pretext("rotnet"), pretext("rotnet", "slim")
    ('RotNet', 'RotNet (slim)')
    """
    return _PRETEXTS.get(name, name) + (f" ({variant})" if variant else "")


def criterion(name: str, subset: str = "") -> str:
    """
    >>> criterion("labels", "images:0.1")
    'Labels (10 % of images)'
    """
    kind, _, part = subset.partition(":")
    return pretext(name, f"{percent(float(part))} of {kind}" if part else subset)


def task(name: str) -> str:
    """What a task measures."""
    return _TASKS.get(name, name)


def optimiser(name: str) -> str:
    """An optimiser's name."""
    return _OPTIMISERS.get(name, name)


def percent(keep: float) -> str:
    """
    >>> percent(0.05), percent(1.0), percent(0.001)
    ('5 %', '100 %', '0.1 %')
    """
    return f"{keep * 100:.3g} %"


def depth(first_convs: int | None) -> str:
    """
    >>> depth(3), depth(None)
    ('3', 'all')
    """
    return "all" if first_convs is None else str(first_convs)
