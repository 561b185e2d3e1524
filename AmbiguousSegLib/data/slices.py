"""Slices of cases as the network sees them, in training exactly as in sampling, read when they are needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np

from AmbiguousSegLib.data.inspection import Inspection, inspect
from AmbiguousSegLib.data.readers import Case, load_case
from AmbiguousSegLib.volume.prepared import PreparedVolume
from AmbiguousSegLib.volume.preprocessing import Preprocessing

Key = TypeVar("Key")
Value = TypeVar("Value")
Limits = tuple[tuple[float, float], ...]


class _Kept(Generic[Key, Value]):
    """What was used last, up to a number of bytes; one thing alone may be larger."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._total, self._last = most_bytes, 0, 0
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def make_room(self) -> None:
        """For one more as large as the last one, so that the two are not held together if there is no room for both."""
        self._shrink(self._most - self._last)

    def put(self, key: Key, value: Value, size: int) -> None:
        self._shrink(self._most - size)
        self._entries[key], self._last = (value, size), size
        self._total += size

    def _shrink(self, most: int) -> None:
        while self._entries and self._total > most:
            self._total -= self._entries.popitem(last=False)[1][1]


@dataclass(frozen=True)
class Slice:
    """A slice of a case, by its number as ``Preprocessing.prepare`` counts, and whether anybody marked it."""

    case: Case
    number: int
    marked: bool
    of: int

    @property
    def identity(self) -> str:
        """That of the case, with the slice's number where the case has several (``of``)."""
        return self.case.identity if self.of == 1 else f"{self.case.identity}/slice_{self.number:04d}"


class SliceStore:
    """Images and masks of the slices of some cases.

    In memory are the slices used last, up to ``cache_bytes``, and beside them the cases of several slices opened last,
    up to as much again, or one alone. A case in memory takes 4 bytes a voxel and channel and 1 a voxel and rater;
    prepared data (``layouts.prepared``) are opened without being read. A copy in another process starts empty.

    Args:
        preprocessing: how slices are made; without the map of a point, which is the business of who asks for them.
        limits: of each case, by its identity, as ``Preprocessing.limits`` gives them; computed where they are missing.
    """

    def __init__(self, preprocessing: Preprocessing, classes: int, limits: dict[str, Limits], cache_bytes: int) -> None:
        self.preprocessing, self.classes = preprocessing, classes
        self._limits, self._cache_bytes = limits, cache_bytes
        self._slices: _Kept[tuple[Case, int], tuple[np.ndarray, np.ndarray]] = _Kept(cache_bytes)
        self._cases: _Kept[Case, tuple[PreparedVolume, np.ndarray]] = _Kept(cache_bytes)

    def __getstate__(self) -> dict[str, Any]:
        kept: dict[str, Any] = {"_slices": _Kept(self._cache_bytes), "_cases": _Kept(self._cache_bytes)}
        return {**self.__dict__, **kept}

    def load(self, case: Case, number: int) -> tuple[np.ndarray, np.ndarray]:
        """A slice as ``Preprocessing`` makes it, before any crop: what sampling feeds the network for the same image.

        Returns:
            Image float32 ``(C, H, W)`` in [0, 1] and masks, uint8 label maps ``(R, H, W)``; not to be written to.

        Raises:
            ValueError: as ``load_case`` and ``Preprocessing.prepare``; the case is named.
        """
        found = self._slices.get((case, number))
        if found is None:
            prepared, masks = self._open(case)
            found = prepared.image(number).numpy(), prepared.label_maps(masks, number)
            self._slices.put((case, number), found, sum(array.nbytes for array in found))
        return found

    def label_maps(self, case: Case, number: int, masks: np.ndarray) -> np.ndarray:
        """Other label maps on a case's grid, uint8 ``(R, Z, Y, X)``, as ``load`` gives the raters' of a slice."""
        return self._open(case)[0].label_maps(masks, number)

    def _open(self, case: Case) -> tuple[PreparedVolume, np.ndarray]:
        found = self._cases.get(case)
        if found is None:
            self._cases.make_room()
            values, geometry, masks = load_case(case, self.classes)
            try:
                pointless = replace(self.preprocessing, point_sigma_mm=None)
                prepared = pointless.prepare(values, geometry, limits=self._limits.get(case.identity))
            except ValueError as error:
                raise ValueError(f"{case.identity}: {error}") from error
            found = prepared, masks
            if len(prepared.slice_indices) > 1:
                read = 0 if isinstance(values, np.memmap) else values.nbytes
                self._cases.put(case, found, read + masks.nbytes)
        return found


def index(
    cases: Iterable[Case],
    preprocessing: Preprocessing,
    classes: int,
    on_case: Callable[[int], None] | None = None,
    leave_out: tuple[int, int] = (0, 0),
) -> tuple[list[Slice], list[Inspection], dict[str, Limits]]:
    """All slices of some cases, what was seen of the cases, and their intensity limits.

    Every case is read whole, once, unless it was inspected before; so what cannot be read or used is found here.

    Args:
        on_case: called with the number of cases read so far.
        leave_out: as ``DataConfig.leave_out``.

    Raises:
        ValueError: as ``inspect`` and ``Preprocessing.limits``; other channels than ``preprocessing`` names.
    """
    slices: list[Slice] = []
    seen: list[Inspection] = []
    limits: dict[str, Limits] = {}
    for number, case in enumerate(cases, start=1):
        found = inspect(case, classes)
        limits[case.identity] = _limits(case, found, preprocessing)
        count, marked = found.marked_slices(preprocessing.plane)
        marks, kept = set(marked), range(leave_out[0], count - leave_out[1])
        if count > 1 and not kept:
            raise ValueError(f"{case.identity}: of {count} slices none is left; lower dataset.leave_out {leave_out}.")
        slices.extend(Slice(case, i, i in marks, count) for i in (kept if count > 1 else range(1)))
        seen.append(found)
        if on_case is not None:
            on_case(number)
    return slices, seen, limits


def _limits(case: Case, found: Inspection, preprocessing: Preprocessing) -> Limits:
    rules, names = preprocessing.rules, preprocessing.channels
    if len(found.values) != len(names):
        raise ValueError(
            f"{case.identity}: the image has {len(found.values)} channel(s), dataset.channels names {len(names)} "
            f"({', '.join(names)}); name each of the image's channels in dataset.channels, and give the method as many "
            "(method_config.image_channels)."
        )
    try:
        if any(rule.rule == "percentile" for rule in rules):
            channels = case.load_image()[0]
        limits = []
        for k, (rule, values, name) in enumerate(zip(rules, found.values, names)):
            rule.check_stored(found.stored, name)  # of the original: prepared data may be of a smaller type
            if rule.rule == "percentile":
                limits.append(rule.limits(channels[k], name))
            else:
                limits.append(rule.limits_of_extremes(values.least, values.greatest, name))
        return tuple(limits)
    except ValueError as error:
        raise ValueError(f"{case.identity}: {error}") from error
