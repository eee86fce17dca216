"""Starts a command that ends when its parent does: `python -P -m protocols.tethered COMMAND …`.

A supervisor that is killed would leave its children behind, on the ports and files that the next one needs. Linux alone can promise
that to a program that knows nothing of it; elsewhere the command merely starts.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def tethered(command: list[str]) -> list[str]:
    """The command line that starts `command` so; its process id is the command's own."""
    return [sys.executable, "-P", "-m", "protocols.tethered", str(os.getpid()), *command]


def main(arguments: list[str]) -> None:
    """Becomes the command. Raises OSError where there is none."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before this was asked
            return
    os.execvp(command[0], command)  # noqa: S606 (the whole purpose)


if __name__ == "__main__":
    main(sys.argv[1:])
