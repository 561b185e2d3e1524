"""Which frames of DICOM files are one volume, in which order, and on which grid; what is not one is refused by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from AmbiguousSegLib.volume.dicom_headers import TELLING, Frame
from AmbiguousSegLib.volume.file_checks import shown
from AmbiguousSegLib.volume.geometry import Geometry

_SERIES_TOLERANCE = 0.05  # of the slice distance: larger steps of the positions mean missing slices or a tilt
_PLANE_TOLERANCE = 0.1  # of a pixel: how far ends of rows and columns may lie from those of the other slices
_FEWEST = 3  # slices of a volume of its own among others of a series
_MOST_LISTED = 8
_PASS = "pass"  # in place of an attribute: a run of the slices' numbers
_BY_CHANCE = ("TriggerTime", "FrameReferenceTime", "AcquisitionTime", "ContentTime")  # may differ in one volume


def chosen(frames: Sequence[Frame], place: Path, series: str | None) -> list[Frame]:
    """Frames of one volume in the order of their places, along the normal of their plane.

    Args:
        place: the folder or file they are from.
        series: UID of a series or, where it holds several volumes, ``UID,attribute=value``, attribute
            being one of DICOM's or "pass", a run of the slices' numbers; None: there is one.

    Raises:
        ValueError: several series or volumes (``series`` may choose one of those listed); a slice of another size,
            orientation or pixel spacing; slices missing, doubled, unevenly spaced or shifted by a tilt. One line each.
    """
    by_series: dict[str, list[Frame]] = {}
    for frame in frames:
        by_series.setdefault(frame.series, []).append(frame)
    uid, _, part = (series or "").partition(",")
    if len(by_series) > 1 if series is None else uid not in by_series:
        found = "; ".join(_about(uid, own) for uid, own in list(by_series.items())[:_MOST_LISTED])
        more = f"; and {len(by_series) - _MOST_LISTED} more" if len(by_series) > _MOST_LISTED else ""
        asked = f", none of them {uid}" if series is not None else ", expected one"
        raise ValueError(
            f"{shown(place)} holds {len(by_series)} DICOM series{asked}. Choose one by --series UID, or move it to a "
            f"folder of its own: {found}{more}."
        )
    own = by_series[uid] if series is not None else next(iter(by_series.values()))
    if part:
        name, _, value = part.partition("=")
        if name == _PASS:
            runs = _passes(_ordered(own, place, named=True))
            if value not in map(str, range(1, 1 + len(runs))):
                raise ValueError(f"{shown(place)}: series {uid} has {len(runs) or 1} pass(es), none of them {value!r}.")
            return runs[int(value) - 1]
        kept = [frame for frame in own if frame.telling.get(name) == value]
        if not kept:
            values = ", ".join(sorted({frame.telling.get(name, "none") for frame in own})[:_MOST_LISTED])
            raise ValueError(f"{shown(place)}: no slice of series {uid} has {part}; it has {name} {values}.")
        own = kept
    return _ordered(own, place, series is not None)


def _about(uid: str, frames: Sequence[Frame]) -> str:
    title = ", ".join(text for text in (frames[0].modality, frames[0].title) if text)
    files = len({frame.file for frame in frames})
    return f"{uid} ({title + ', ' if title else ''}{files} files, e.g. {shown(frames[0].file.name)})"


def _ordered(frames: list[Frame], place: Path, named: bool) -> list[Frame]:
    """``named``: the series was asked for, so that it is one volume however its slices are numbered."""
    if len(frames) == 1:
        return frames
    for frame in frames:
        if frame.position is None or frame.along is None:
            raise ValueError(
                f"{frame.name}: the DICOM files tell no slice positions, so they do not make a volume; give one file."
            )
    odd = odd_one(frames)
    if odd:
        raise ValueError(f"{odd}{_choices_text(frames) or '; move what is no slice of the volume to another folder.'}")
    ordered = sorted(frames, key=lambda frame: float(np.dot(frame.position or (), normal_of(frames[0]))))
    positions = np.array([frame.position for frame in ordered])
    normal = normal_of(frames[0])
    steps = np.diff(positions, axis=0)
    along = steps @ normal
    same = np.flatnonzero(np.linalg.norm(steps, axis=1) <= _SERIES_TOLERANCE * min(frames[0].spacing or (1.0,)))
    if len(same):
        first, second = ordered[same[0]], ordered[same[0] + 1]
        copies = " (copies of one)" if first.instance == second.instance and first.file != second.file else ""
        raise ValueError(
            f"{first.name} and {second.name} lie at the same place{copies}: slices are doubled, or the series holds "
            f"several volumes{_choices_text(frames) or '; move one of them to another folder.'}"
        )
    allowed = _SERIES_TOLERANCE * abs(np.median(along))
    if not np.ptp(along) < allowed:
        raise ValueError(
            f"{shown(place)}: slices are missing, doubled or unevenly spaced (steps from {along.min():.4g} to "
            f"{along.max():.4g} mm, {ordered[int(along.argmax())].name} is before the longest)"
            + (_choices_text(frames) or "; complete the series, or load it in Slicer and export a regular volume.")
        )
    if np.linalg.norm(steps - along[:, None] * normal, axis=1).max() > allowed:
        raise ValueError(
            f"{shown(place)}: slices are shifted against each other (tilted gantry); load the series in Slicer with "
            "acquisition geometry regularization and export the corrected volume."
        )
    name = _interleaved(ordered)
    if name:
        values = sorted({frame.telling.get(name, "none") for frame in ordered})
        raise ValueError(
            f"{shown(place)}: slices of {name} {' and '.join(values[:_MOST_LISTED])} lie between "
            f"each other, so the series holds several volumes{_choices_text(frames) or '; give one of them.'}"
        )
    runs = _passes(ordered)
    if runs and not named:
        uid = ordered[0].series
        raise ValueError(
            f"{shown(place)}: the slices' numbers run through the volume {len(runs)} times, as those of several "
            f"acquisitions do. Choose one by --series {uid},pass=1 to {len(runs)}, or all of them by --series {uid}."
        )
    return ordered


def _plane(frame: Frame) -> np.ndarray:
    """Vectors in mm from the first pixel to the ends of first row and first column, ``(2, 3)``."""
    rows, columns = frame.spacing or (1.0, 1.0)
    lengths = [max(frame.columns - 1, 1) * columns, max(frame.rows - 1, 1) * rows]
    return np.reshape(frame.along or (), (2, 3)) * np.reshape(lengths, (2, 1))


def normal_of(frame: Frame) -> np.ndarray:
    """Unit vector along which slices follow each other: row × column."""
    normal = np.cross(*np.reshape(frame.along or (), (2, 3)))
    return normal / np.linalg.norm(normal)


def odd_one(frames: Sequence[Frame]) -> str:
    """What tells a slice apart that is not in the plane of most others; empty if there is none."""
    most = Counter((frame.rows, frame.columns, frame.along, frame.spacing) for frame in frames).most_common(1)[0][0]
    usual = next(f for f in frames if (f.rows, f.columns, f.along, f.spacing) == most)
    for frame in frames:
        if (frame.rows, frame.columns) != (usual.rows, usual.columns):
            return (
                f"{frame.name} has {frame.rows} × {frame.columns} pixels, the other slices {usual.rows} × "
                f"{usual.columns}"
            )
        moved = np.linalg.norm(_plane(frame) - _plane(usual), axis=1).max()
        if moved > _PLANE_TOLERANCE * min(usual.spacing or (1.0,)):
            names = ("pixel spacing", "spacing") if frame.along == usual.along else ("orientation", "along")
            mine, theirs = (" ".join(f"{number:.6g}" for number in getattr(f, names[1]) or ()) for f in (frame, usual))
            return f"{frame.name} has the {names[0]} {mine}, the other slices {theirs}"
    return ""


def _choices_text(frames: Sequence[Frame]) -> str:
    """How one of the volumes of a series can be chosen; empty if no attribute tells them apart."""
    for name in TELLING:
        groups: dict[str, list[Frame]] = {}
        for frame in frames:
            groups.setdefault(frame.telling.get(name, ""), []).append(frame)
        if len(groups) < 2 or "" in groups or not all(_is_stack(own) for own in groups.values()):
            continue
        listed = "; ".join(f"{own[0].series},{name}={value} ({len(own)})" for value, own in groups.items())
        if len(groups) > _MOST_LISTED:
            listed = f"{'; '.join(listed.split('; ')[:_MOST_LISTED])}; and {len(groups) - _MOST_LISTED} more"
        return f". Choose one by --series and one of: {listed}."
    return ""


def _is_stack(frames: Sequence[Frame]) -> bool:
    """Whether frames are slices of one plane at different, evenly spaced places."""
    if odd_one(frames):
        return False
    places = np.sort([float(np.dot(frame.position or (), normal_of(frames[0]))) for frame in frames])
    steps = np.diff(places)
    return len(steps) == 0 or bool(steps.min() > 0 and np.ptp(steps) < _SERIES_TOLERANCE * np.median(steps))


def _interleaved(ordered: Sequence[Frame]) -> str:
    """Attribute whose values belong to slices that lie between each other, as of two echoes; empty if there is none."""
    for name in TELLING:
        if name in _BY_CHANCE:
            continue
        places: dict[str, list[int]] = {}
        for index, frame in enumerate(ordered):
            places.setdefault(frame.telling.get(name, ""), []).append(index)
        spans = sorted((own[0], own[-1]) for own in places.values() if len(own) >= _FEWEST)
        if any(after[0] < before[1] for before, after in pairwise(spans)):
            return name
    return ""


def _passes(ordered: Sequence[Frame]) -> list[list[Frame]]:
    """Runs of the slices' numbers through the volume, where each of several is a stack of its own; else none."""
    numbers = [frame.order for frame in ordered]
    if None in numbers or len(set(numbers)) < len(numbers):
        return []
    sequence = np.argsort(np.array(numbers, float)).tolist()
    if sequence[0] > sequence[1]:  # numbered against the normal
        sequence = sequence[::-1]
    runs: list[list[Frame]] = [[ordered[sequence[0]]]]
    for before, index in pairwise(sequence):
        if index < before:
            runs.append([])
        runs[-1].append(ordered[index])
    alone = all(len(run) >= _FEWEST and _is_stack(run) for run in runs)
    return runs if len(runs) > 1 and alone else []


def grid_of(ordered: Sequence[Frame]) -> Geometry:
    """Grid of frames in their order. One slice is as thick as its file says, else 1 mm, without a place at the origin.

    Raises:
        ValueError: the file tells no number of pixels.
    """
    first = ordered[0]
    if min(first.rows, first.columns) < 1:
        raise ValueError(f"{first.name} has {first.rows} × {first.columns} pixels, expected some; export it again.")
    along = np.reshape(first.along or (1.0, 0, 0, 0, 1.0, 0), (2, 3))
    normal = np.cross(*along)
    distance = first.thickness or 1.0
    if len(ordered) > 1:
        whole = np.subtract(ordered[-1].position or (), first.position or ())
        distance = float(whole @ normal) / float(normal @ normal) ** 0.5 / (len(ordered) - 1)
    rows, columns = first.spacing or (1.0, 1.0)
    x, y, z = first.position or (0.0, 0.0, 0.0)
    return Geometry(
        (first.columns, first.rows, len(ordered)),
        (columns, rows, distance),
        (x, y, z),
        tuple(np.stack([*along, normal], axis=1).ravel().tolist()),
    )
