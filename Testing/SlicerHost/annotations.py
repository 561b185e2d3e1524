"""Defaults and limits of parameters, as annotated: ``Annotated[int, WithinRange(1, 9), Default(3)]``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


class Default:
    """The value of a parameter that has none yet; ``generator`` makes a new one each time."""

    def __init__(self, value=None, *, generator: Callable | None = None):
        self._value, self._generator = value, generator

    @property
    def value(self):
        return self._value if self._generator is None else self._generator()


@dataclass
class Decimals:
    """Decimals of the widget."""

    value: int


@dataclass
class SingleStep:
    """Step of the widget."""

    value: float


class Validator:
    """Refuses values, by raising ValueError or TypeError in ``validate``."""

    def validate(self, value) -> None:
        raise NotImplementedError


@dataclass
class NotNone(Validator):
    def validate(self, value) -> None:
        if value is None:
            raise ValueError("Value must not be None")


@dataclass
class IsInstance(Validator):
    classtype: type | tuple

    def validate(self, value) -> None:
        if value is not None and not isinstance(value, self.classtype):
            raise TypeError(f"Value must be of type {self.classtype}, got {value!r}")


@dataclass
class WithinRange(Validator):
    minimum: float
    maximum: float

    def validate(self, value) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must lie in [{self.minimum}, {self.maximum}], got {value}")


@dataclass
class Minimum(Validator):
    minimum: float

    def validate(self, value) -> None:
        if value < self.minimum:
            raise ValueError(f"Value must be at least {self.minimum}, got {value}")


@dataclass
class Maximum(Validator):
    maximum: float

    def validate(self, value) -> None:
        if value > self.maximum:
            raise ValueError(f"Value must be at most {self.maximum}, got {value}")


@dataclass
class Choice(Validator):
    choices: Sequence

    def validate(self, value) -> None:
        if value not in self.choices:
            raise ValueError(f"Value must be one of {self.choices}, got {value!r}")
