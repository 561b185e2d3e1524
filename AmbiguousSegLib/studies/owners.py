"""Which process something belongs to, and whether that process is gone."""

from __future__ import annotations

import os
import re
import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

_HOST = re.compile(r"[^A-Za-z0-9]+")
_TEXT = re.compile(r"(?P<host>[A-Za-z0-9_]*)-(?P<pid>[0-9]+)-(?P<started>[0-9]*)-(?P<token>[0-9a-f]{8})")


@dataclass(frozen=True)
class Owner:
    """A process, and a token that tells what it makes apart.

    Attributes:
        host: name of its machine, in letters and digits.
        started: when the process started, in ticks of the machine; empty where the system does not tell. A process
            that has got the number of another one is told apart by it.
    """

    host: str
    pid: int
    started: str
    token: str

    @classmethod
    def this(cls) -> Owner:
        """This process, with a token that is new each time."""
        _, started = _state(os.getpid())
        return cls(_this_host(), os.getpid(), started, secrets.token_hex(4))

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """The owner that ``str`` gave ``text`` of; None for any other text."""
        match = _TEXT.fullmatch(text)
        return Owner(match["host"], int(match["pid"]), match["started"], match["token"]) if match else None

    def __str__(self) -> str:
        return f"{self.host}-{self.pid}-{self.started}-{self.token}"

    @property
    def gone(self) -> bool:
        """Whether the process surely has ended; of another machine's nothing is known."""
        if self.host != _this_host():
            return False
        alive, started = _state(self.pid)
        return not alive or bool(self.started and started and self.started != started)

    @property
    def in_words(self) -> str:
        """Such as "process 4711 on ward3"."""
        return f"process {self.pid} on {self.host}"


def _this_host() -> str:
    return _HOST.sub("_", socket.gethostname())[:24]


def _state(pid: int) -> tuple[bool, str]:
    """Whether a process runs, and when it started, if the system tells that."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return False, ""
        return fields[0] not in "ZX", fields[19]
    return _runs(pid), ""


if sys.platform == "win32":

    def _runs(pid: int) -> bool:
        import ctypes

        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.OpenProcess.restype = ctypes.c_void_p
        handle = kernel.OpenProcess(0x00101000, False, pid)  # SYNCHRONIZE, PROCESS_QUERY_LIMITED_INFORMATION
        if not handle:
            return ctypes.get_last_error() == 5  # it is there, and somebody else's
        try:
            return kernel.WaitForSingleObject(ctypes.c_void_p(handle), 0) == 0x102  # it has not ended
        finally:
            kernel.CloseHandle(ctypes.c_void_p(handle))

else:

    def _runs(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it is somebody else's
            return True
        return True
