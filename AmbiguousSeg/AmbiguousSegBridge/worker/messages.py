"""The language of bridge and worker: one JSON object per line, in ASCII, each with its ``type``."""

from __future__ import annotations

import json
from typing import Any

PROTOCOL = 1
LONGEST_LINE = 64 * 2**20  # bytes; what is longer than any message can be is not one
QUOTED = 200

Message = dict[str, Any]


_PARTS: dict[str, dict[str, type]] = {
    "folder": {"folder": str},
    "job": {"job": int, "folder": str, "kind": str, "arguments": dict},
    "cancel": {"job": int},
}


class NotAMessage(ValueError):
    """A line that is no message; its text quotes the line's beginning."""


def encode(message: Message) -> bytes:
    """One line with its line feed. Raises TypeError for values that are no plain JSON types."""
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> Message:
    """The message of one line. Raises NotAMessage."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise _not_a_message(line) from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise _not_a_message(line)
    return message


def decode_request(line: bytes) -> Message:
    """A message to the worker, of a type that it knows and with all its parts. Raises NotAMessage."""
    message = decode(line)
    parts = _PARTS.get(message["type"])
    if parts is None or not all(type(message.get(name)) is kind for name, kind in parts.items()):
        raise _not_a_message(line)
    return message


class Lines:
    """Puts lines together from pieces as they arrive, in whatever portions."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Complete lines, without line ends; blank ones are left out. What is incomplete waits for more.

        Raises:
            NotAMessage: a line without end.
        """
        *ends, rest = data.split(b"\n")
        lines = []
        for end in ends:
            lines.append(b"".join([*self._pieces, end]).rstrip(b"\r"))
            self._pieces = []
        if rest:
            self._pieces.append(rest)
            if sum(map(len, self._pieces)) > LONGEST_LINE:
                raise _not_a_message(self._pieces[0])
        return [line for line in lines if line]


def _not_a_message(line: bytes) -> NotAMessage:
    text = line.decode("utf-8", "replace")[:QUOTED]
    return NotAMessage(f"Expected a JSON object with a type and its parts, got: {text}")
