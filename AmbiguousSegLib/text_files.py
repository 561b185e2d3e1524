"""JSON and YAML from files, whoever wrote them: size, nesting and repetition are bounded before anything is made."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Hashable
from functools import cache
from pathlib import Path
from typing import Any

from AmbiguousSegLib.files import check_file, shown, size_text

MOST_BYTES = 16_000_000  # a list of 100,000 files
MOST_YAML_BYTES = 1_000_000
_PART_BYTES = 2**18
_DEEPEST = 16
_MOST_NODES = 10_000  # values of a YAML file, those of what it repeats by anchors counted again
_LONGEST_SCALAR = 10_000  # characters of a YAML value without quotes, which may be a number
_MARKS = re.compile(rb'\\.|["\[\]{}]', re.DOTALL)


def read_bytes(path: Path | str, most_bytes: int = MOST_BYTES) -> bytes:
    """The bytes of a file of text.

    Raises:
        FileNotFoundError, PermissionError, ValueError: as ``check_file``; more than ``most_bytes``.
    """
    check_file(path)
    data = bytearray()
    with open(path, "rb") as file:  # a part at a time: room is made for all that is asked for, however small the file
        while part := file.read(min(_PART_BYTES, most_bytes + 1 - len(data))):
            data += part
    if len(data) > most_bytes:
        raise ValueError(
            f"{shown(path)} is larger than {size_text(most_bytes)}, the most that is read of a list or description; is "
            "it the intended file?"
        )
    return bytes(data)


def read_json(path: Path | str, nan: bool = False) -> Any:
    """What a JSON file holds.

    Args:
        nan: NaN and Infinity, which JSON does not know, count as numbers.

    Raises:
        FileNotFoundError, PermissionError, ValueError: as ``read_bytes``; not JSON in UTF-8 (line and column are
            named), nested more than 16 deep, a key that an object holds twice. One line.
    """
    return parse_json(read_bytes(path), shown(path), nan)


def parse_json(data: bytes | str, name: str, nan: bool = False) -> Any:
    """``read_json`` of what a file, or whatever bears this name, holds."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if _is_deep(raw):
        raise ValueError(f"{name} is nested more than {_DEEPEST} deep; is it the intended file?")
    try:
        constant = None if nan else _no_number
        return json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 (byte {error.start}); save it as UTF-8.") from error
    except ValueError as error:
        raise ValueError(f"{name} is not valid JSON: {error}; correct it.") from error


def _is_deep(data: bytes) -> bool:
    """Whether brackets outside of strings are nested deeper than ``_DEEPEST``."""
    depth, inside = 0, False
    for found in _MARKS.finditer(data):
        mark = found[0]
        if mark == b'"':
            inside = not inside
        elif not inside and mark in b"[{":
            depth += 1
            if depth > _DEEPEST:
                return True
        elif not inside and mark in b"]}":
            depth -= 1
    return False


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def read_yaml(path: Path | str) -> Any:
    """What a YAML file holds, as plain types.

    Raises:
        FileNotFoundError, PermissionError, ValueError: as ``read_bytes``; not YAML in UTF-8 (the line is named), nested
            more than 16 deep, more values than any configuration has, as anchors can make of few, or a key that a
            mapping holds twice. One line. ImportError: without PyYAML.
    """
    return parse_yaml(read_bytes(path, MOST_YAML_BYTES), shown(path))


def parse_yaml(data: bytes | str, name: str) -> Any:
    """``read_yaml`` of what a file, or whatever bears this name, holds."""
    import yaml

    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        return yaml.load(text, _loader())  # a SafeLoader
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} cannot be read as YAML: it is not UTF-8 (byte {error.start}); save it so.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        told = " ".join(str(error.problem or error.context).split())
        raise ValueError(f"{name} cannot be read as YAML: {told[:200]}{line}; correct it.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a character, a date or number that is none
        told = " ".join(str(error).split())[:200]
        raise ValueError(f"{name} cannot be read as YAML: {told}; correct it.") from error


@cache
def _loader() -> type:
    """A SafeLoader that stops where it would make too much."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Counts values, and again those of what an alias repeats."""

        def __init__(self, stream: str) -> None:
            super().__init__(stream)
            self.depth, self.nodes, self.anchored = 0, 0, 0
            self.sizes: dict[str, int] = {}

        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()
            repeats = isinstance(event, yaml.AliasEvent)
            self.nodes += self.sizes.get(event.anchor, 0) if repeats else 1
            if repeats and self.anchored:
                raise _refused("an anchor repeats another one", event)
            if self.depth > _DEEPEST:
                raise _refused(f"it is nested more than {_DEEPEST} deep", event)
            if self.nodes > _MOST_NODES:
                raise _refused(f"it makes more than {_MOST_NODES:,} values", event)
            if isinstance(event, yaml.ScalarEvent) and event.style is None and len(event.value) > _LONGEST_SCALAR:
                raise _refused(f"a value has {len(event.value):,} characters; put text in quotes", event)
            before, named = self.nodes - 1, not repeats and event.anchor is not None
            self.depth, self.anchored = self.depth + 1, self.anchored + named
            node = super().compose_node(parent, index)
            self.depth, self.anchored = self.depth - 1, self.anchored - named
            if named:
                self.sizes[event.anchor] = self.nodes - before
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                    raise _refused(f"the key {key.value!r} occurs twice", key)
                seen.add(getattr(key, "value", None) if isinstance(key, yaml.ScalarNode) else id(key))
            return super().construct_mapping(node, deep)

    def _refused(problem: str, place: Any) -> yaml.MarkedYAMLError:
        return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)

    return Loader
