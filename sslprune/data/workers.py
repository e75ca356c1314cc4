"""How many processes decode images."""

from __future__ import annotations

import os


def default_workers() -> int:
    """The cores that this process may use, shared with the other trainings that torchrun started on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
