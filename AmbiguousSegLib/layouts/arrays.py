"""Cases in the arrays of an ``.npz`` file, one along the first axis of each array; an entry of a list names them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.layouts.listed import check_part, identity_of
from AmbiguousSegLib.layouts.names import subject_finder
from AmbiguousSegLib.layouts.npz_file import ArrayHeader, array_headers, held_array, read_array
from AmbiguousSegLib.volume.file_checks import shown
from AmbiguousSegLib.volume.geometry import Geometry

_log = logging.getLogger(__name__)

_AXES = {3: "nyx", 4: "ncyx", 5: "nczyx"}
_UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class ArrayEntry:
    """What a list says of an ``.npz`` file with n cases.

    Attributes:
        npz: path, relative to the list.
        image: name of the array with the images, real numbers: ``(n, H, W)``, ``(n, C, H, W)`` or ``(n, C, D, H, W)``.
        raters: name of the array with the raters' label maps, bool or whole numbers: ``(n, R, H, W)`` or
            ``(n, R, D, H, W)``; without the axis R, of one rater.
        subject: name of an array with a text or whole number for each case: whom it shows.
        identity: the same: names of the cases. Else they are numbered: ``train/0007``.
        spacing: name of an array with mm ``(n,)``, ``(n, 2)`` (rows, columns) or ``(n, 3)`` (slices, rows, columns); or
            one, two or three numbers for all.
        group, part, modality: name of an array with a text for each case, or a text for all.
        axes: order of the image's axes, n first, where it is another: "nzyx" for volumes of one channel, "nyxc".
        rater_axes: the same for the masks, where r is the axis of the raters.
        rater_names: R texts; else rater1, rater2, ….
    """

    npz: str
    image: str
    raters: str
    subject: str | None = None
    identity: str | None = None
    spacing: str | float | tuple[float, ...] | None = None
    group: str = ""
    part: str = ""
    modality: str = ""
    axes: str | None = None
    rater_axes: str | None = None
    rater_names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ArrayCase:
    """One case of an ``.npz`` file; a ``readers.Case``.

    Attributes:
        file: the ``.npz`` file; its arrays are read once in each process and held, the last eight.
        index: place along the first axis.
        image, raters: names of the arrays.
        axes, rater_axes: their axes behind the first: "cyx", "rzyx".
        spacing_mm: along z, y, x.
        classes: K, number of labels.
    """

    file: Path
    index: int
    identity: str
    subject: str
    image: str
    raters: str
    axes: str
    rater_axes: str
    rater_names: tuple[str, ...]
    spacing_mm: tuple[float, float, float]
    classes: int = 1
    group: str = ""
    part: str = ""
    modality: str = ""

    def load_image(self) -> tuple[np.ndarray, Geometry]:
        """Values ``(C, Z, Y, X)`` of the type they are stored in, and their grid; ValueError for a damaged file."""
        values = _turned(self._held(0)[self.index], self.axes, "czyx")
        depth, height, width = values.shape[1:]
        geometry = Geometry((width, height, depth), self.spacing_mm[::-1], (0.0, 0.0, 0.0), _UPRIGHT)
        return np.array(values, values.dtype.newbyteorder("="), order="C"), geometry

    def load_masks(self) -> np.ndarray:
        """Label maps, uint8 ``(R, Z, Y, X)``; empty ones stay.

        With one class a mask holds 0 and at most one other value, which is the lesion, whatever it is.

        Raises:
            ValueError: other values; a damaged file.
        """
        stored = _turned(self._held(1)[self.index], self.rater_axes, "rzyx")
        return np.stack([self._label_map(name, mask) for name, mask in zip(self.rater_names, stored)])

    def _label_map(self, rater: str, mask: np.ndarray) -> np.ndarray:
        top = 1 if mask.dtype == bool else mask.max()
        if self.classes == 1:
            if top >= 0 and np.all((mask == 0) | (mask == top)):
                return (mask != 0).astype(np.uint8)
            expected = "0 and one positive value"
        else:
            if mask.min() >= 0 and top <= self.classes and np.array_equal(mask, np.rint(mask)):
                return mask.astype(np.uint8)
            expected = f"whole numbers, 0 for background and 1 to {self.classes} for the labels"
        values = ", ".join(f"{v:g}" for v in np.unique(mask)[:5])
        raise ValueError(
            f"{shown(self.file)}: the mask of {rater} for {self.identity} holds the values {values}, expected "
            f"{expected}; correct {self.raters}, or name every label."
        )

    def _held(self, which: int) -> np.ndarray:
        array = held_array(self.file, (self.image, self.raters)[which])
        if self.index >= len(array):
            raise ValueError(f"{shown(self.file)} has changed since it was listed; start again.")
        return array


def read_arrays(data: Mapping[str, Any], folder: Path, config: DataConfig, classes: int) -> list[ArrayCase]:
    """Cases of an entry of a list in ``folder``, checked by the headers of its arrays; pixels are read later.

    Raises:
        FileNotFoundError, ValueError: no such file; not an ``.npz``, or damaged; an unknown key, a missing array,
            shapes or types that do not fit; a spacing that is not positive; an unknown part; as ``subject_finder``.
    """
    entry = from_dict(ArrayEntry, data, "")
    file = folder / entry.npz
    headers = array_headers(file)
    for key in ("image", "raters", "subject", "identity"):
        if (name := getattr(entry, key)) is not None and name not in headers:
            raise ValueError(f"{shown(file)} has no array {name!r} for {key}; it has {', '.join(headers)}.")
    axes, rater_axes = _axes(entry, file, headers[entry.image], headers[entry.raters])
    sizes = {**dict(zip(rater_axes, headers[entry.raters].shape)), **dict(zip(axes, headers[entry.image].shape))}
    count, raters = sizes["n"], sizes.get("r", 1)
    names = entry.rater_names or tuple(f"rater{k}" for k in range(1, raters + 1))
    if len(names) != raters or len(set(names)) != raters:
        raise ValueError(f"rater_names must be {raters} different texts, got {', '.join(names)}.")

    def texts(key: str) -> list[str] | None:
        """A text for each case: of an array, or the same for all; None if there is none."""
        name = getattr(entry, key)
        if name in headers and (key in ("subject", "identity") or len(headers[name].shape) == 1):
            return _texts(file, name, key, headers[name], count)
        return None if name is None else [name] * count

    start = identity_of(file.with_suffix(""), folder) if file.is_relative_to(folder) else file.stem
    digits, subject_of = max(4, len(str(count - 1))), subject_finder(config.subject_pattern)
    identities = texts("identity") or [f"{start}/{index:0{digits}}" for index in range(count)]
    parts = texts("part") or []
    for part in dict.fromkeys(parts):
        check_part(part)
    columns = {
        "identity": identities,
        "subject": texts("subject") or [subject_of(identity) for identity in identities],
        "group": texts("group") or [],
        "part": parts,
        "modality": texts("modality") or [],
        "spacing_mm": _spacings(file, entry.spacing, headers, sizes) or [_told(file, config, sizes)] * count,
    }
    same = {"image": entry.image, "raters": entry.raters, "axes": axes[1:], "rater_axes": rater_axes[1:]}
    return [
        ArrayCase(file, index, **same, rater_names=names, classes=classes, **dict(zip(columns, values)))  # type: ignore
        for index, values in enumerate(zip(*columns.values()))
    ]


def _axes(entry: ArrayEntry, file: Path, image: ArrayHeader, raters: ArrayHeader) -> tuple[str, str]:
    """Letters of the axes of the images and of the masks, checked."""
    if image.dtype.kind not in "iuf" or raters.dtype.kind not in "biuf":
        raise ValueError(
            f"{shown(file)}: {entry.image} of type {image.dtype} and {entry.raters} of type {raters.dtype}, expected "
            "real numbers and label maps (bool or whole numbers); convert them."
        )
    axes = entry.axes or _AXES.get(len(image.shape), "?")
    place = axes.replace("c", "")
    rater_axes = entry.rater_axes or (place if len(raters.shape) == len(place) else f"nr{place[1:]}")
    _check_axes(file, entry.image, image, axes, "nczyx", "axes")
    _check_axes(file, entry.raters, raters, rater_axes, "nrzyx", "rater_axes")
    sizes, rater_sizes = dict(zip(axes, image.shape)), dict(zip(rater_axes, raters.shape))
    if any(sizes.get(axis, 1) != rater_sizes.get(axis, 1) for axis in "nzyx"):
        raise ValueError(
            f"{shown(file)}: {entry.raters} of shape {raters.shape}, read as ({', '.join(rater_axes)}), does not fit "
            f"{entry.image} of shape {image.shape}, read as ({', '.join(axes)}); correct axes or rater_axes."
        )
    return axes, rater_axes


def _check_axes(file: Path, name: str, header: ArrayHeader, axes: str, known: str, key: str) -> None:
    fits = len(axes) == len(header.shape) and axes[:1] == "n" and {"y", "x"} <= set(axes) <= set(known)
    if not fits or len(set(axes)) != len(axes):
        raise ValueError(
            f"{shown(file)}: {name} of shape {header.shape} cannot be read with {key} {axes!r}; give a letter of "
            f"{known} for each axis, n first, each once, y and x among them."
        )
    if 0 in header.shape:
        raise ValueError(f"{shown(file)}: {name} of shape {header.shape} is empty; is it the intended file?")


def _turned(array: np.ndarray, axes: str, wanted: str) -> np.ndarray:
    """An array with these axes as one with the axes ``wanted``; those it lacks have the length 1."""
    turned = array.transpose([axes.index(axis) for axis in wanted if axis in axes])
    return turned[tuple(slice(None) if axis in axes else None for axis in wanted)]


def _told(file: Path, config: DataConfig, sizes: Mapping[str, int]) -> tuple[float, float, float]:
    """Spacing where the list gives none."""
    if "z" in sizes:
        _log.warning("%s: no spacing is given; voxels are taken to be cubes of 1 mm.", shown(file))
    elif config.field_mm is not None:
        return 1.0, config.field_mm[0] / sizes["y"], config.field_mm[1] / sizes["x"]
    return 1.0, 1.0, 1.0


def _spacings(
    file: Path, spacing: str | float | Sequence[float] | None, headers: Mapping[str, ArrayHeader], sizes: dict[str, int]
) -> list[tuple[float, float, float]] | None:
    """Spacing along z, y, x in mm of each case; None if none is given."""
    count, deep = sizes["n"], "z" in sizes
    if spacing is None:
        return None
    if isinstance(spacing, str):
        if spacing not in headers:
            raise ValueError(f"{shown(file)} has no array {spacing!r} for spacing; it has {', '.join(headers)}.")
        if headers[spacing].dtype.kind not in "iuf":
            raise ValueError(f"{shown(file)}: spacing {spacing} is of type {headers[spacing].dtype}, expected numbers.")
        told = np.asarray(read_array(file, spacing), float)
    else:
        told = np.broadcast_to(np.atleast_1d(np.asarray(spacing, float)), (count, np.size(spacing)))
    shape, told = told.shape, told[:, None] if told.ndim == 1 else told
    if told.ndim != 2 or len(told) != count or told.shape[1] not in ((1, 3) if deep else (1, 2, 3)):
        raise ValueError(
            f"{shown(file)}: spacing of shape {shape} for {count} {'volumes' if deep else 'pictures'}, expected mm "
            f"({count},){'' if deep else f', ({count}, 2) for rows and columns'} or ({count}, 3) for slices, rows, "
            "columns."
        )
    if (wrong := np.flatnonzero(~(np.isfinite(told) & (told > 0)).all(axis=1))).size:
        raise ValueError(
            f"{shown(file)}: {spacing} of case {wrong[0]} is {told[wrong[0]].tolist()} (and so of {wrong.size - 1} "
            "more), expected positive mm; correct it."
        )
    if told.shape[1] == 1:
        told = told.repeat(3, axis=1) if deep else np.insert(told.repeat(2, axis=1), 0, 1.0, axis=1)
    elif told.shape[1] == 2:
        told = np.insert(told, 0, 1.0, axis=1)
    return [(float(z), float(y), float(x)) for z, y, x in told]


def _texts(file: Path, name: str, key: str, header: ArrayHeader, count: int) -> list[str]:
    """A text for each case."""
    if header.shape != (count,) or header.dtype.kind not in "USiu":
        raise ValueError(
            f"{shown(file)}: {name} for {key} is {header.dtype} of shape {header.shape}, expected texts or whole "
            f"numbers ({count},)."
        )
    try:
        texts = [t.decode() if isinstance(t, bytes) else str(t) for t in read_array(file, name).tolist()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{shown(file)}: {name} holds text that is not UTF-8; store it as such.") from error
    if key in ("subject", "identity") and "" in texts:
        raise ValueError(f"{shown(file)}: {name} for {key} is empty at {texts.index('')}; name every {key}.")
    if key == "identity" and len(set(texts)) < count:
        twice, _ = Counter(texts).most_common(1)[0]
        raise ValueError(f"{shown(file)}: {name} for identity holds {twice!r} twice; give each case its own name.")
    return texts
