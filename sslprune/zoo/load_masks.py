"""Any rung's mask of a family from one file: the ladder of rounds that lies with the family's unpruned network.

Which round is which rung stands in the ladder's metadata. Files written by sslprune 0.1.0 lack that; there it is the
round whose counts, tensor by tensor, are those that the rung's own manifest states.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch

from sslprune.errors import KeepError, ManifestError, SparseFileError
from sslprune.export import sparse_file
from sslprune.export.container import json_object
from sslprune.export.layout import LadderTensor
from sslprune.export.malformed import Malformed
from sslprune.masks import Mask
from sslprune.zoo import manifest
from sslprune.zoo.index import Entry, Index, open_index, scan
from sslprune.zoo.locate import locate
from sslprune.zoo.names import split_keep

LADDER = "ladder.safetensors"


def load_masks(family: str | Path, *, keep: float | None = None, verify: bool = True) -> Mask:
    """The mask of any rung of a family, without its weights.

    It is, bit for bit, the mask that `load(family, keep=keep)` carries, and fits every network of that architecture. So
    a published winning ticket (Frankle & Carbin 2019; Caron et al. 2020, section 3) prunes a dense network of your own.

    Args:
        family: A family ("rotnet-resnet20-cifar10"), a name or alias of it, short or full, or the folder of its
            unpruned network.
        keep: The keep rate, a fraction in (0, 1], where the name does not say it; the nearest rung within 20 % is
            taken.
        verify: Check size and sha256 of every file that is read.

    Returns:
        Name -> bool tensor for each prunable weight, True where it is kept; in the network's order, on the CPU.

    Raises:
        UnknownModelError: No family, or more than one, has this name; the nearest are named.
        KeepError: No rung is near, or the rate is missing or said twice; the message lists the rungs.
        ManifestError: The family has no ladder at hand, or the folder is not a model's.
        IntegrityError: A file is not what the index or manifest says.
        SparseFileError: The ladder is malformed, or of other weights than the network's.

    >>> from sslprune import models
    >>> mask = load_masks("rotnet-resnet20", keep=0.05)
    >>> mask
    Mask(keep=0.05, kept=13385, prunable=267696)
    >>> network = models.build("resnet20_cifar", num_classes=10, seed=0)
    >>> mask.apply_(network)  # while training: again after each optimiser step
    >>> sum(int(weight.count_nonzero()) for weight in mask.weights_of(network).values())
    13385
    """
    parent, relatives, suffix = _find(family)
    if LADDER not in parent.manifest.files:
        raise ManifestError(
            f"{parent.name} has no {LADDER}, which would hold the masks of its family.",
            f"Give the family's unpruned network, {parent.name.parent}, or take one model's: load(...).sslprune.mask.",
        )
    if verify:
        _verify(parent, LADDER)
    path = parent.folder / LADDER
    layout = sparse_file.read_layout(path)
    layers = parent.manifest.layers
    if {name: tensor.numel for name, tensor in layout.ladder.items()} != {each.name: each.prunable for each in layers}:
        raise SparseFileError(f"{path} is not of the weights that {parent.name} has.", "Get the model again.")
    rungs = _stated(layout.metadata, path) or _counted(layout.ladder, parent, relatives, verify=verify)
    # Entries without files: a rate resolves, or fails to, by the rule and in the words of `load`.
    entries = tuple(replace(parent, name=replace(parent.name, keep=rung)) for rung in rungs)
    number = rungs[Index(entries).find(parent.name.family + suffix, keep=keep).name.keep]
    died = sparse_file.read_ladder(path)
    return Mask({each.name: torch.from_numpy((died[each.name] == 0) | (died[each.name] > number)) for each in layers})


def _find(family: str | Path) -> tuple[Entry, list[Entry], str]:
    """The unpruned network, the models of its family at hand, and the "-keepN%" that the name ends in."""
    # Not Path.is_file, which raises for names that no file can have.
    if isinstance(family, Path) or "/" in family or os.path.isfile(Path(family) / manifest.MANIFEST):
        parent = locate(family)
        return parent, _relatives(parent, scan(parent.folder.absolute().parent)), ""
    stem, _ = split_keep(family)
    index = open_index()
    try:
        parent = index.find(stem, keep=1.0)
    except KeepError as error:
        raise ManifestError(
            f"the unpruned network of {stem!r} is not at hand; the masks of all rungs lie with it.",
            "Get that model, too, or take one rung's mask: sslprune.load(...).sslprune.mask.",
        ) from error
    return parent, _relatives(parent, index.entries), family.removeprefix(stem)


def _relatives(parent: Entry, entries: Iterable[Entry]) -> list[Entry]:
    """Those that came of the same run."""

    def kin(entry: Entry) -> tuple[str, str | None]:
        return entry.name.family, entry.manifest.recipe_sha256

    return [entry for entry in entries if kin(entry) == kin(parent)]


def _verify(entry: Entry, *names: str) -> None:
    if entry.manifest_record is not None:
        manifest.verify(entry.folder, {manifest.MANIFEST: entry.manifest_record}, [manifest.MANIFEST])
    manifest.verify(entry.folder, entry.manifest.files, names)


def _stated(metadata: Mapping[str, str], path: Path) -> dict[float, int]:
    """Keep rate -> round, as the ladder's metadata has it; empty where it says nothing.

    Raises:
        SparseFileError: What it says is impossible.
    """
    if "rounds" not in metadata:
        return {}
    try:
        table = json_object(metadata["rounds"], "metadata 'rounds'")
        stated = sorted(((float(keep), number) for keep, number in table.items()), reverse=True)
        if not all(0 < keep <= 1 and type(number) is int and number <= 255 for keep, number in stated):
            raise Malformed("it is not a table of keep rates and rounds")
        if not all(before < after for (_, before), (_, after) in pairwise(stated)):
            raise Malformed("its rounds do not rise as keep rates fall")
    except (Malformed, ValueError, TypeError) as error:
        problem = ascii(str(error))[1:-1]
        raise SparseFileError(
            f"{path} does not say which round is which rung: {problem}.", "Get the model again."
        ) from error
    return dict(stated)


def _counted(
    ladder: Mapping[str, LadderTensor], parent: Entry, relatives: Iterable[Entry], *, verify: bool
) -> dict[float, int]:
    """Keep rate -> round, by the counts in the manifests of those models that this ladder led to."""
    numbers = sorted({0}.union(*(tensor.rounds.rounds for tensor in ladder.values())))
    rounds = {_key({name: _alive(tensor, number) for name, tensor in ladder.items()}): number for number in numbers}
    rungs = {}
    for entry in relatives:
        if verify:
            _verify(entry)
        counts = _key({layer.name: layer.kept for layer in entry.manifest.layers})
        if counts in rounds:
            rungs[entry.name.keep] = rounds[counts]
    return rungs


def _alive(tensor: LadderTensor, number: int) -> int:
    """How many weights outlived a round."""
    rounds = tensor.rounds
    return min(
        (alive for at, alive in zip(rounds.rounds, rounds.alive, strict=True) if at <= number), default=tensor.numel
    )


def _key(counts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items()))
