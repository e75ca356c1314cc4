"""A run's folder, `runs/{recipe}-{hash8}/`: checkpoints, log, results, and which models of the zoo came of it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sslprune import ranks
from sslprune.config import Recipe
from sslprune.errors import ManifestError, OutputExistsError, RunBusyError
from sslprune.files import sweep, write_atomic
from sslprune.zoo.manifest import Manifest
from sslprune.zoo.names import Name

RESTARTED = 30.0
"""Seconds to wait for the lock where torchrun starts a lost training again: killed processes' workers die late."""


@dataclass(frozen=True)
class RunFolder:
    """Where a recipe's run keeps its state, and which zoo its models go to.

    Of several processes all hold it, but it is rank 0's: the others need not see it, and ask through `ranks.on_first`.

    Args:
        recipe: What is run.
        path: The run's folder.
        zoo: The local zoo.
        force: Whether models of another recipe in the zoo may be replaced.
    """

    recipe: Recipe
    path: Path
    zoo: Path
    force: bool = False

    @classmethod
    def of(cls, recipe: Recipe, *, runs: Path | None = None, zoo: Path | None = None, force: bool = False) -> RunFolder:
        """The run's folder below `runs` (default `SSLPRUNE_RUNS`, or ./runs) and the zoo (default `SSLPRUNE_ZOO`)."""
        from sslprune.zoo.index import local_zoo

        base = runs or Path(os.environ.get("SSLPRUNE_RUNS") or "runs")
        return cls(recipe, Path(base).expanduser() / recipe.run_name, zoo or local_zoo(), force)

    def name(self, keep: float) -> Name:
        """The name of this family's model at a keep rate; families that lose whole channels say so."""
        recipe = self.recipe
        slim = "slim" if recipe.ladder.score.startswith("channels") else ""
        variant = "-".join(part for part in (recipe.variant, slim) if part)
        return Name(recipe.pretext, recipe.arch, recipe.data.partition(":")[0], variant, keep)

    def keeps(self) -> tuple[float, ...]:
        """The nominal keep rates of the family, the unpruned parent's first; none where no model is published."""
        if self.recipe.mask.family:
            return ()
        return (1.0, *self.recipe.ladder.rungs)

    def folder_of(self, keep: float) -> Path:
        """Where the model of a rung lies."""
        return self.zoo / self.name(keep).folder

    def manifest(self, keep: float) -> Manifest | None:
        """The manifest of a rung that this recipe has written, or None.

        Raises:
            OutputExistsError: Something else is there, such as another recipe's model, and `force` is not set.
        """
        path = self.folder_of(keep)
        try:
            manifest = Manifest.load(path)
            if manifest.recipe_sha256 == self.recipe.sha256():
                return manifest
        except ManifestError:
            pass  # nothing there, or nothing that this version can read
        if path.exists() and not self.force:
            raise OutputExistsError(
                f"{path} is not of this recipe.",
                "Give the recipe a variant, choose another --zoo, or --force to replace it.",
            )
        return None

    def finished(self) -> list[Manifest] | None:
        """The family's manifests if the run has ended and its models are all there, else None."""
        there = self.manifests()
        return there if len(there) == len(self.keeps()) and (self.path / "finished.json").exists() else None

    def manifests(self) -> list[Manifest]:
        """The manifests of those rungs that this recipe has written so far."""
        found = (self.manifest(keep) for keep in self.keeps())
        return [manifest for manifest in found if manifest is not None]

    def finish(self) -> None:
        """State that the run has ended; on rank 0."""
        if not ranks.is_first():
            return
        names = [str(self.name(keep)) for keep in self.keeps()]
        write_atomic(self.path / "finished.json", json.dumps({"schema": 1, "models": names}, indent=1) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, all processes of a training together; the lock dies with rank 0.

        Raises:
            RunBusyError: Another training holds it.
        """
        with ExitStack() as held:
            ranks.on_first(lambda: held.enter_context(self._locked()))
            yield

    @contextmanager
    def _locked(self) -> Iterator[None]:
        write_atomic(self.path / "recipe.toml", self.recipe.to_toml())
        with open(self.path / ".lock", "w") as handle:
            patience = time.monotonic() + (RESTARTED if int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0) else 0)
            while not _lock(handle):
                if time.monotonic() >= patience:
                    raise RunBusyError(f"another process trains in {self.path}.", "Wait for it, or stop it.")
                time.sleep(0.1)
            self._sweep()
            yield

    def _sweep(self) -> None:
        """Remove what killed processes left half written; `recipe.toml` alone is written without the lock."""
        for stray in self.path.rglob(".*.tmp"):
            if not stray.name.startswith(".recipe.toml."):
                stray.unlink(missing_ok=True)
        for keep in self.keeps():
            sweep(self.folder_of(keep))


def _lock(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
