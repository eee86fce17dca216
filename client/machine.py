"""What this machine has: memory, disk and ports, asked from the system."""

from __future__ import annotations

import resource
import shutil
import socket
import sys
from pathlib import Path

import torch

_KIBIBYTE = 1024


def peak_memory() -> int:
    """Most bytes that this process has held; where a GPU was used, those on it are counted too."""
    unit = 1 if sys.platform == "darwin" else _KIBIBYTE
    own = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return own + (torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else 0)


def free_memory(device: str) -> int | None:
    """Bytes that a training on `device` may take; None where the system does not say, and for a GPU that is not there."""
    if device != "cpu":
        return _free_on_gpu(device)
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((_KIBIBYTE * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def free_disk(folder: Path) -> int:
    """Bytes that the file system of `folder`, or of the next one above that exists, has left."""
    existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    return shutil.disk_usage(existing).free


def port_is_free(port: int) -> bool:
    """Whether a process may listen at this port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_on_gpu(device: str) -> int | None:
    if not torch.cuda.is_available() or int(device.partition(":")[2] or 0) >= torch.cuda.device_count():
        return None
    free, _ = torch.cuda.mem_get_info(torch.device(device))
    return int(free)
