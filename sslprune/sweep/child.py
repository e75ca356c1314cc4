"""`python -m sslprune.sweep.child PARENT train ...`: the command `sslprune`, which dies when its parent dies.

Without this, a sweep that is killed would leave trainings behind that hold their folders against the next sweep. Linux
only; elsewhere such a training goes on to its end.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Of `prctl(2)`: the signal that this process gets when its parent dies."""


def main() -> None:
    """Tie this process to its parent, then become the command."""
    parent = int(sys.argv.pop(1))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before it could matter
            os._exit(1)
    runpy.run_module("sslprune", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
