"""Talk to the processes that hold the engines, and let them run in turns, one at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import Any

from sslprune.bench import child
from sslprune.errors import BenchError

PATIENCE = 600.0
"""Seconds that an engine may take to open, or for one turn."""


class Child:
    """A process with one engine, open and warm.

    Args:
        job: What to open, see `contest.Job`.
        label: What to call it in errors.
        log: A file for what it prints.
        python: The interpreter, by default the one that runs this.

    Attributes:
        facts: What it said of itself when it was open.

    Raises:
        BenchError: It could not be opened.
    """

    def __init__(self, job: Mapping[str, Any], label: str, log: Path, python: Path | None = None) -> None:
        self.label = label
        self._log = log
        program = [sys.executable, "-m", child.__name__] if python is None else [str(python), child.__file__]
        with open(log, "wb") as output:
            try:
                self._process = subprocess.Popen(
                    program,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=output,
                    env=_environment(job["threads"], own=python is None),
                )
            except OSError as error:
                raise BenchError(
                    f"{label}: {program[0]} cannot be run: {error.strerror}.", "Give the path of a Python interpreter."
                ) from error
        try:
            self.facts = self._ask(json.dumps(job))
        except BaseException:
            self.close()
            raise

    def turn(self, settle: int = 0) -> float:
        """Run once; the seconds that took, as the process itself measured them.

        Args:
            settle: Runs before it that are not timed.

        Raises:
            BenchError: It died.
        """
        return float(self._ask(str(settle))["seconds"])

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what was not yet written reaches nobody
                if pipe:
                    pipe.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watch = Timer(PATIENCE, self._process.kill)
        watch.start()
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        except (OSError, ValueError):  # the pipe is broken, or ended
            answer = {"failed": self._last_words()}
        finally:
            watch.cancel()
        if failure := answer.get("failed"):
            raise BenchError(f"the engine {self.label} failed: {failure}", "Leave it out of --against.")
        return answer

    def _last_words(self) -> str:
        self._process.kill()
        code = self._process.wait()
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"its process ended with {code}" + (f": {lines[-1].strip()}" if lines else "")


def in_turns(
    children: Mapping[str, Child], rounds: int, settle: int = 0
) -> tuple[dict[str, list[float]], dict[str, BenchError]]:
    """One run of each in every round, a different one first each time.

    Args:
        children: By name.
        rounds: How many runs each gets.
        settle: Runs before each of them that are not timed: they warm caches that the others' turns have cooled.

    Returns:
        Seconds by name, in order; and the failures of those that died, whose seconds are left out.
    """
    seconds: dict[str, list[float]] = {name: [] for name in children}
    failures: dict[str, BenchError] = {}
    for number in range(rounds):
        names = [name for name in children if name not in failures]
        first = number % max(1, len(names))
        for name in names[first:] + names[:first]:
            try:
                seconds[name].append(children[name].turn(settle))
            except BenchError as error:
                failures[name] = error
                del seconds[name]
    return seconds, failures


def _environment(threads: int, *, own: bool) -> dict[str, str]:
    """Threads limited for libraries that look there; for our own interpreter, this sslprune and no other."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    environment["NM_DISABLE_ANALYTICS"] = "True"
    here = str(Path(child.__file__).parents[2])
    if own:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [here, environment.get("PYTHONPATH")]))
    else:
        environment.pop("PYTHONPATH", None)
    return environment
