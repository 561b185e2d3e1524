"""The language of client and worker, whole: each message is a dataclass, and one JSON object in a line of ASCII.

Names and types of its keys stand in the dataclass alone: both sides write from it, and check what they read by it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from AmbiguousSegLib.configuration import from_dict, to_dict
from AmbiguousSegLib.hardware import Device

if TYPE_CHECKING:
    from AmbiguousSegLib.volume.crops import Crop  # loads NumPy, whose absence the worker must be able to tell

PROTOCOL = 2
LONGEST_LINE = 64 * 2**20  # bytes; what is longer than any message can be is not one
QUOTED = 200
FIRST_PID = 2  # of the lower numbers each means many processes, or the system's own

Voxel = tuple[int, int, int]


@dataclass(frozen=True)
class MaskFile:
    """A mask as ``Crop.save`` writes it, in a file of the job's folder."""

    file: str
    start: Voxel
    shape: Voxel

    def __post_init__(self) -> None:
        check_file_names(self.file)

    @classmethod
    def of(cls, file: str, crop: Crop) -> MaskFile:
        """What is to be said of a crop in this file."""
        return cls(file, *(tuple(map(int, place)) for place in (crop.start, crop.shape)))


@dataclass(frozen=True)
class Failure:
    """Why a job failed.

    Attributes:
        kind: "missing_package", "out_of_memory", "bad_input", "crashed", "killed", "garbage", "not_started" or
            "internal".
        message: what happened, in one line.
        remedy: what to do about it, in one line; empty where the message says it.
        details: for a report: traceback, or the worker's last log lines.
    """

    kind: str
    message: str
    remedy: str = ""
    details: str = ""


# To the worker.


@dataclass(frozen=True)
class Folder:
    """A job's private folder, before anything lies there: it goes with the client, however that ends."""

    job: int
    folder: str


@dataclass(frozen=True)
class Start:
    """Do a job; its folder is complete. What the arguments of each kind are stands in ``arguments.py``."""

    job: int
    kind: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Cancel:
    """Stop a job that was sent, or is to be."""

    job: int


# From the worker. Each job ends with one of Finished, Cancelled and Failed.


@dataclass(frozen=True)
class Ready:
    """The worker has loaded what it needs: ``Runner.about``. ``device_note``: see ``devices.device_note``."""

    protocol: int
    pid: int
    python: str
    torch: str
    devices: tuple[Device, ...]
    device_note: str

    def __post_init__(self) -> None:
        if self.pid < FIRST_PID:  # it is killed by it
            raise ValueError(f"pid must be that of a process, got {self.pid}.")


@dataclass(frozen=True)
class Progress:
    """See ``Listener.progress``."""

    job: int
    share: float
    seconds_left: float | None = None
    slices: int = 0
    slices_done: int = 0
    samples: int = 0
    samples_done: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be from 0 to 1, got {self.share}.")


@dataclass(frozen=True)
class Sample:
    """A sample is there."""

    job: int
    index: int
    mask: MaskFile


@dataclass(frozen=True)
class Finished:
    """A job is done; each says what its result is (``jobs.py``)."""

    job: int
    result: dict[str, Any]


@dataclass(frozen=True)
class Cancelled:
    """A job has stopped."""

    job: int


@dataclass(frozen=True)
class Failed:
    """A job has failed (None: all, because the worker cannot work); ``fatal``: the worker ends."""

    job: int | None
    failure: Failure
    fatal: bool


TO_WORKER = (Folder, Start, Cancel)
FROM_WORKER = (Ready, Progress, Sample, Finished, Cancelled, Failed)


class NotAMessage(ValueError):
    """A line that is no message; its text says why, and quotes the line's beginning."""


class OtherVersion(NotAMessage):
    """The worker is of another version than this side."""


def encode(message: Any) -> bytes:
    """One line with its line feed.

    Raises:
        TypeError: values that are no plain JSON types. ValueError: more than the other side reads.
    """
    content = {"type": type(message).__name__.lower(), **to_dict(message)}
    line = json.dumps(content, separators=(",", ":")).encode("ascii") + b"\n"
    if len(line) > LONGEST_LINE:
        raise ValueError(f"This is too much for one message ({len(line)} bytes); use fewer samples or masks.")
    return line


def decode(line: bytes, kinds: tuple[type, ...]) -> Any:
    """The message of a line, which must be one of ``kinds`` with all its keys, and no others. Raises NotAMessage."""
    try:
        content = json.loads(line)
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
        known, kind = {cls.__name__.lower(): cls for cls in kinds}, content.pop("type", None)
        if not isinstance(kind, str) or kind not in known:
            raise ValueError(f"unknown type {kind!r}")
        if known[kind] is Ready and content.get("protocol", PROTOCOL) != PROTOCOL:
            raise OtherVersion(f"Expected protocol {PROTOCOL}, got {content['protocol']!r}.")
        return from_dict(known[kind], content, kind)
    except OtherVersion:
        raise
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise not_a_message(line, str(error)[:QUOTED]) from error


def not_a_message(line: bytes, why: str) -> NotAMessage:
    """The exception for a line, quoted."""
    return NotAMessage(f"Expected a message in one line of JSON ({why}), got: {quoted(line)}")


def quoted(line: bytes) -> str:
    """The beginning of a line, for people."""
    return line[:QUOTED].decode("utf-8", "replace")


def check_file_names(*files: str) -> None:
    """ValueError for what is not the plain name of a file, on whatever system."""
    for file in files:
        if file in ("", ".", "..") or set(file) & set("/\\:\0"):
            raise ValueError(f"Expected the name of a file in the job's folder, got {file!r}.")


class Lines:
    """Puts lines together from pieces as they arrive, in whatever portions."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._bytes = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Complete lines, without line ends; blank ones are left out. What is incomplete waits for more.

        Raises:
            NotAMessage: a line that is too long, ended or not.
        """
        *ends, rest = data.split(b"\n")
        lines = []
        for end in ends:
            self._keep(end)
            lines.append(b"".join(self._pieces).rstrip(b"\r"))
            self._pieces, self._bytes = [], 0
        self._keep(rest)
        return [line for line in lines if line]

    def _keep(self, piece: bytes) -> None:
        self._bytes += len(piece)
        if piece:
            self._pieces.append(piece)
        if self._bytes > LONGEST_LINE:
            raise not_a_message(self._pieces[0], "a line without end")
