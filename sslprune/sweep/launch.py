"""One cell as a process of its own: `sslprune train`, its output in a log, its end as an outcome."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sslprune.errors import StorageError
from sslprune.sweep.cells import Cell
from sslprune.sweep.place import Place

PATIENCE = 10.0
"""Seconds that an interrupted training has to put its things away."""


@dataclass(frozen=True)
class Outcome:
    """How a cell ended.

    Args:
        cell: Its name.
        state: "finished"; "failed"; "not run", because a cell that it needs has not finished.
        seconds: How long it ran now; 0 where it had finished before.
        error: What went wrong, as the training said it; empty where nothing did.
    """

    cell: str
    state: Literal["finished", "failed", "not run"]
    seconds: float = 0.0
    error: str = ""


@dataclass
class Training:
    """A cell's process while it runs."""

    cell: Cell
    process: subprocess.Popen[bytes]
    log: Path
    said_before: int
    since: float

    def outcome(self) -> Outcome | None:
        """How it ended; None while it runs."""
        if (code := self.process.poll()) is None:
            return None
        seconds = time.monotonic() - self.since
        if code == 0:
            return Outcome(self.cell.name, "finished", seconds)
        return Outcome(self.cell.name, "failed", seconds, last_words(self.log, code, since=self.said_before))


def stop(trainings: Sequence[Training]) -> None:
    """Interrupt them all, and wait until they are gone."""
    for training in trainings:
        training.process.send_signal(signal.SIGINT)
    for training in trainings:
        try:
            training.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            training.process.kill()
            training.process.wait()


def launch(cell: Cell, place: Place, *, where: str = "here") -> Training:
    """Start a cell's training in a session of its own: what a terminal's Ctrl-C means to it, the sweep decides.

    Args:
        cell: What to run.
        place: Where; the cell's recipe is written already.
        where: What the log says of the machine.

    Raises:
        StorageError: Its log cannot be written.
    """
    path = place.log(cell)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as log:
            log.write(f"== {time.strftime('%Y-%m-%d %H:%M:%S')} {where}: {place.line(cell)}\n".encode())
            log.flush()
            said = log.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", "sslprune.sweep.child", str(os.getpid()), *place.train(cell)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
    except OSError as error:
        hint = "Free some space or choose another --runs."
        raise StorageError(f"cannot write {path}: {error.strerror or error}", hint) from error
    return Training(cell, process, path, said, time.monotonic())


def last_words(log: Path, code: int, *, since: int = 0) -> str:
    """Why a training ended: its named error with the hint, else the signal that killed it, else its last line.

    Args:
        log: What it printed.
        code: Its exit code, negative for a signal.
        since: Where this life begins in the log, in bytes.
    """
    lines = log.read_bytes()[since:].decode(errors="replace").splitlines()
    named = [number for number, line in enumerate(lines) if line.startswith("sslprune: ")]
    if code > 0 and named:
        return "\n".join(lines[named[-1] :]).removeprefix("sslprune: ")
    if code < 0:
        return f"killed by {signal.Signals(-code).name}\nSee {log}; out of memory is one reason."
    said = next((line for line in reversed(lines) if line.strip()), f"exit code {code}")
    return f"{said}\nSee {log}."
