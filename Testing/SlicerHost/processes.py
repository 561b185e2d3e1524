"""Whether processes have ended."""

from __future__ import annotations

import os
import subprocess


def alive(pid: int) -> bool:
    """Zombies count: whoever started a process has to fetch it."""
    if os.name != "posix":
        return str(pid) in subprocess.run(["tasklist", "/FI", f"PID eq {pid}"], capture_output=True, text=True).stdout
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
