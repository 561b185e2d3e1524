"""Frozen dataclasses to and from plain JSON types, with errors that name the key."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

LARGEST = 2**63 - 1  # whole number that arrays and random numbers can take


def to_dict(config: Any) -> dict[str, Any]:
    """Nested dict of JSON types; tuples become lists."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, Mapping):
            return {key: plain(v) for key, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, (tuple, list)) else value

    return plain(config)


def from_dict(cls: type[T], data: Mapping[str, Any], where: str | None = None) -> T:
    """Instance of the dataclass ``cls``.

    Args:
        where: dotted path of ``data`` in its file, for messages: "" for the file itself; None: the name of ``cls``.

    Raises:
        ValueError: unknown or missing key, or a value of the wrong type; the message names the key.
    """
    place = cls.__name__ if where is None else where
    prefix = f"{place}." if place else ""
    if not isinstance(data, Mapping):
        raise ValueError(f"{place or 'The file'} must be a mapping of settings, got {_kind(data)}.")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - set(fields), key=str)
    if unknown:
        raise ValueError(f"Unknown key {prefix}{unknown[0]}; known keys: {', '.join(fields)}.")
    required = {
        name
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    missing = sorted(required - set(data))
    if missing:
        raise ValueError(f"Missing key {prefix}{missing[0]}; add it.")
    hints = _hints(cls)  # type: ignore[arg-type]
    return cls(**{name: _value(hints[name], value, f"{prefix}{name}") for name, value in data.items()})


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def check_field(owner: object, condition: bool, key: str, expected: str) -> None:
    """ValueError that names the field ``key`` of a configuration and what was ``expected``, unless ``condition``."""
    if not condition:
        raise ValueError(f"{type(owner).__name__}.{key} must be {expected}, got {getattr(owner, key)!r}.")


@cache
def _hints(cls: type) -> dict[str, Any]:
    """Types of the fields; kept, as finding them takes a millisecond and a file may hold thousands of entries."""
    return typing.get_type_hints(cls)


def check_value(hint: Any, value: Any, where: str) -> None:
    """ValueError that names ``where`` unless a value of JSON is of this type, as a field of a configuration is."""
    _value(hint, value, where)


def _looks_like(hint: Any) -> type | None:
    return dict if dataclasses.is_dataclass(hint) else typing.get_origin(hint)


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        # The choice that the value looks like goes first: its error is the one to show.
        alike = dict if isinstance(value, Mapping) else tuple if isinstance(value, (list, tuple)) else None
        choices = sorted((a for a in arguments if a is not type(None)), key=lambda a: _looks_like(a) is not alike)
        errors = []
        for choice in choices:
            try:
                return _value(choice, value, where)
            except ValueError as error:
                errors.append(error)
        raise errors[0]
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{where} must be a list, got {value!r}.")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_value(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        if len(value) != len(arguments):
            raise ValueError(f"{where} must hold {len(arguments)} values, got {value!r}.")
        return tuple(_value(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(arguments, value)))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} must be a mapping, got {value!r}.")
        for key in value:
            if not isinstance(key, str):  # YAML makes numbers, null, true and false of what is not in quotes
                raise ValueError(f"{where}: every name must be text, got {key!r}; put it in quotes.")
        return {key: _value(arguments[1], v, f"{where}.{key}") for key, v in value.items()}
    if hint is Any:
        return value
    if hint in (int, float) and isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        raise ValueError(f"{where} must be a number of at most 2**63 - 1, got one of {value.bit_length()} bits.")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint in (int, float) and isinstance(value, bool)):
        raise ValueError(f"{where} must be {hint.__name__}, got {value!r}.")
    return value
