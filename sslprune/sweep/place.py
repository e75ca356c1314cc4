"""Where a sweep's runs, models and own files lie, and how each cell stands there."""

from __future__ import annotations

import fcntl
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sslprune.errors import OutputExistsError, RunBusyError, StorageError
from sslprune.files import write_atomic
from sslprune.run_folder import RunFolder
from sslprune.sweep.cells import Cell

State = Literal["finished", "started", "to do"]


@dataclass(frozen=True)
class Place:
    """A sweep's places and what all its cells share.

    Args:
        sweep: The sweep's own folder, `{runs}/sweep-{grid}`: recipes, logs, lock.
        runs: Where run folders go.
        zoo: The zoo that models go to.
        flags: What every `sslprune train` is given besides, such as ("--device", "cuda").
    """

    sweep: Path
    runs: Path
    zoo: Path
    flags: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, grid: str, cells: Sequence[Cell], *, runs: Path | None, zoo: Path | None, flags: Sequence[str] = ()
    ) -> Place:
        """The places of a grid's sweep, by the rules of `RunFolder.of`; absolute, since other processes go there."""
        folder = RunFolder.of(cells[0].recipe, runs=runs, zoo=zoo)
        base = folder.path.parent.absolute()
        return cls(base / f"sweep-{grid}", base, folder.zoo.absolute(), tuple(flags))

    def folder(self, cell: Cell) -> RunFolder:
        """The cell's run folder."""
        return RunFolder.of(cell.recipe, runs=self.runs, zoo=self.zoo)

    def recipe(self, cell: Cell) -> Path:
        """The cell's recipe file."""
        return self.sweep / "recipes" / f"{cell.name}.toml"

    def log(self, cell: Cell) -> Path:
        """What the cell's `sslprune train` has printed, one life after the other."""
        return self.sweep / "logs" / f"{cell.name}.log"

    def train(self, cell: Cell) -> list[str]:
        """The arguments of `sslprune` that run the cell."""
        places = ["--runs", str(self.runs), "--zoo", str(self.zoo)]
        return ["train", str(self.recipe(cell)), *places, *self.flags]

    def line(self, cell: Cell) -> str:
        """The shell's command that runs the cell."""
        return shlex.join(["sslprune", *self.train(cell)])

    def state(self, cell: Cell) -> State:
        """How the cell stands. One whose models' names are taken by another recipe is to do, and will say so."""
        folder = self.folder(cell)
        try:
            if folder.finished() is not None:
                return "finished"
        except OutputExistsError:
            pass
        return "started" if folder.path.exists() else "to do"

    def write_recipes(self, cells: Sequence[Cell]) -> None:
        """Write every cell's recipe, where it is not there yet.

        Raises:
            StorageError: The disk is full or not writable.
        """
        for cell in cells:
            path, text = self.recipe(cell), cell.recipe.to_toml()
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                write_atomic(path, text)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the sweep; the lock dies with the process.

        Raises:
            RunBusyError: Another process holds it.
        """
        try:
            self.sweep.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.sweep / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            hint = "Free some space or choose another --runs."
            raise StorageError(f"cannot write {self.sweep}: {error.strerror or error}", hint) from error
        with open(lock, "w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunBusyError(f"another process sweeps {self.sweep}.", "Wait for it, or stop it.") from error
            yield
