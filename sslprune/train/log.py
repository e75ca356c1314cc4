"""What a training says while it runs: JSON lines for programs, a progress bar with rate and time left for people."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from sslprune import jsonl, ranks


class Log:
    """Appends to `train.log.jsonl`; rows have the wall-clock time, so logs are never compared bit for bit.

    Of several processes rank 0 alone writes and draws.

    Args:
        path: The log file.
        progress: Whether to draw bars on stderr.
    """

    def __init__(self, path: Path, *, progress: bool) -> None:
        self.path = path
        self.progress = progress and ranks.is_first()

    def write(self, event: str, **values: Any) -> None:
        """Append one row."""
        if ranks.is_first():
            jsonl.append(self.path, [{"event": event, "time": round(time.time(), 3), **values}], sync=False)

    def bar(self, *, total: int, initial: int, label: str) -> Any:
        """A progress bar (tqdm) over the updates of a round."""
        from tqdm import tqdm

        return tqdm(
            total=total,
            initial=initial,
            desc=label,
            unit="it",
            disable=not self.progress,
            file=sys.stderr,
            mininterval=0.5,
        )
