"""Every error that sslprune raises on purpose: what went wrong, then what to do next.

Errors print as two lines, so that a person at a terminal never needs the traceback and a program can still catch the
class. Anything else that escapes from the library is a bug.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class SslpruneError(Exception):
    """The base of all expected failures.

    Args:
        problem: What went wrong, carrying the offending input.
        hint: What to do next, ideally a command.
    """

    def __init__(self, problem: str, hint: str) -> None:
        self.problem = problem
        self.hint = hint
        super().__init__(f"{problem}\n{hint}")

    def __reduce__(self) -> tuple[type[SslpruneError], tuple[str, str]]:
        return type(self), (self.problem, self.hint)


class RecipeError(SslpruneError):
    """A recipe is missing, is not TOML, or has an unknown or invalid field."""


class KeepError(SslpruneError, ValueError):
    """A keep rate is not a fraction in (0, 1], or no rung is near it."""


class StepError(SslpruneError, ValueError):
    """A point in training is not written like "3ep" or "500it", or lies outside the training."""


class MaskError(SslpruneError, ValueError):
    """A mask does not fit the model or another mask: missing names, other shapes, wrong dtype."""


class ArchitectureError(SslpruneError, ValueError):
    """An architecture name is unknown, or the network lacks what was asked of it."""


class UnknownModelError(SslpruneError, LookupError):
    """A name resolves to no model of the zoo."""


class UnknownHeadError(SslpruneError, LookupError):
    """A model has no published head for this task."""


class UnknownRuntimeError(SslpruneError, LookupError):
    """No runtime has this name."""


class UnknownPretextError(SslpruneError, LookupError):
    """No pretext is registered under this name."""


class DatasetError(SslpruneError):
    """A data set was found but cannot be used: unreadable image, wrong layout, no labels where labels are needed."""


class DatasetMissingError(DatasetError):
    """A data set is in none of the places looked at."""


class SparseFileError(SslpruneError, ValueError):
    """A sparse file is truncated, malformed, hostile or of an unknown version; nothing was loaded from it."""


class IntegrityError(SslpruneError):
    """A file's size or sha256 is not what the manifest or index says; nothing was loaded from it."""


class ManifestError(SslpruneError, ValueError):
    """A model's folder lacks a file, or its `manifest.json` or `config.json` says something impossible."""


class CheckpointError(SslpruneError):
    """A training checkpoint cannot be read, or belongs to another recipe."""


class DivergedError(SslpruneError, ArithmeticError):
    """The training loss became infinite or not a number."""


class RanksError(SslpruneError):
    """The processes of one training do not find each other, or have come apart."""


class RunBusyError(SslpruneError):
    """Another process is training in this run folder."""


class SweepError(SslpruneError):
    """Cells of a sweep have failed, or the cluster that is to run them does not answer."""


class BenchError(SslpruneError):
    """An engine cannot be opened or died, or what is to be compared cannot be."""


class ServeError(SslpruneError):
    """The Hub server cannot start: the folder, the port or the token file cannot be used."""


class PublishError(SslpruneError):
    """A model may not be published as it is, or the Hub that it goes to refused or did not answer."""


class OutputExistsError(SslpruneError):
    """The destination exists and `--force` was not given."""


class ResultsError(SslpruneError, ValueError):
    """A result row is impossible, or a results file has a line that is none."""


class StorageError(SslpruneError):
    """Writing failed (disk full, no permission); the earlier file, if any, is untouched."""


class DeviceError(SslpruneError, ValueError):
    """This machine, or this build of torch, has no such device."""


class MissingExtraError(SslpruneError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


def nearest(word: str, known: Iterable[str], *, most: int = 4) -> str:
    """The known names most like `word`, as text for a hint; all of them where there are few.

    >>> nearest("rotnte", ["rotnet", "labels"])
    'rotnet, labels'
    """
    names = sorted(set(known))
    close = get_close_matches(word, names, n=most, cutoff=0.3)
    return ", ".join(close + [name for name in names if name not in close][: max(0, most - len(close))]) or "(none)"
