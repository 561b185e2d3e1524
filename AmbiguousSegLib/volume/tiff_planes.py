"""What the pages of a TIFF are, as far as the programs that wrote it say: slices, channels or points of time."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from AmbiguousSegLib.volume.file_checks import shown

_UNNAMED = "Q"
_PLANE = ("Y", "X", "S")  # axes within a page
_WORDS = {"T": "points of time", "C": "channels", "Z": "slices", _UNNAMED: "pages"}


class Planes(NamedTuple):
    """How pages make a picture.

    Attributes:
        pages: indices of the pages, ``(Z, C)``.
        scale: slope and offset of the stored values, with which ImageJ keeps signs; None: they are the values.
    """

    pages: np.ndarray
    scale: tuple[float, float] | None = None


def planes_of(path: Path, description: str, pages: int, samples: int) -> Planes:
    """What the ``pages`` of a TIFF are, of ``samples`` per pixel each. Without a word about it they are slices.

    Args:
        description: text of its first page.

    Raises:
        ValueError: points of time, or other axes that are no slices or channels; fewer or more pages than are told.
    """
    if description.startswith("ImageJ="):
        axes, scale = _imagej(path, description)
    elif "<OME" in description[:1000]:
        axes, scale = _ome(path, description, samples), None
    elif description.startswith('{"shape"'):
        axes, scale = _tifffile(description), None
    else:
        axes, scale = [], None
    axes = [(name, extent) for name, extent in axes if extent != 1] or [(_UNNAMED, pages)]
    if math.prod(extent for _, extent in axes) != pages:
        told = " × ".join(f"{extent} {_WORDS.get(name, f'along {name}')}" for name, extent in axes)
        raise ValueError(
            f"{shown(path)} says that it has {told}, but has {pages} page(s); save it as one file with a page for each."
        )
    slices = [(name, extent) for name, extent in axes if name != "C"]
    other = next((pair for pair in slices if pair[0] not in ("Z", "I", _UNNAMED)), slices[1] if slices[1:] else None)
    if other is not None or len(axes) - len(slices) > 1:
        name, extent = other or axes[0]
        raise ValueError(
            f"{shown(path)} holds {extent} {_WORDS.get(name, f'pictures along an axis {name}')}, expected one picture "
            "or stack of slices; save the part that is meant as a file of its own."
        )
    numbers = np.arange(pages).reshape([extent for _, extent in axes])
    if ("C" in dict(axes)) and axes[0][0] == "C":
        numbers = np.moveaxis(numbers, 0, -1)
    return Planes(numbers.reshape(-1, dict(axes).get("C", 1)), scale)


def _imagej(path: Path, description: str) -> tuple[list[tuple[str, int]], tuple[float, float] | None]:
    told = dict(line.split("=", 1) for line in description.splitlines() if "=" in line)

    def number(key: str) -> int:
        text = told.get(key, "1").strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 1

    axes = [("T", number("frames")), ("Z", number("slices")), ("C", number("channels"))]
    if math.prod(extent for _, extent in axes) == 1:
        axes = [("Z", number("images"))]
    function = told.get("cf", "").strip()
    if not function:
        return axes, None
    try:
        scale = float(told["c1"]), float(told["c0"])
    except (KeyError, ValueError):
        scale = math.nan, math.nan
    if function != "0" or not np.isfinite(scale).all():
        raise ValueError(
            f"{shown(path)} has values that ImageJ calibrates by its function {function!r}, which is not read; convert "
            "it to 32 bits there, which applies it."
        )
    return axes, None if scale == (1.0, 0.0) else scale


def _ome(path: Path, description: str, samples: int) -> list[tuple[str, int]]:
    pixels = re.findall(r"<(?:\w+:)?Pixels\b([^>]*)>", description)
    if len(pixels) != 1:
        raise ValueError(
            f"{shown(path)} holds {len(pixels)} images of OME, expected one; save it as a file of its own."
        )
    told: dict[str, Any] = dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', pixels[0]))
    extents = {}
    for name in "CZT":
        text = told.get(f"Size{name}", "1")
        extents[name] = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    extents["C"] = max(extents["C"] // samples, 1)
    order = told.get("DimensionOrder", "XYCZT")
    if sorted(order) != sorted("XYCZT"):
        raise ValueError(f"{shown(path)} is damaged: OME's DimensionOrder is {order!r}; save it again.")
    return [(name, extents[name]) for name in reversed(order) if name in extents]


def _tifffile(description: str) -> list[tuple[str, int]]:
    """Axes of a file by tifffile, whose last ones may be those of a page."""
    try:
        told = json.loads(description)
        shape, axes = [int(n) for n in told["shape"]], str(told.get("axes", ""))
    except (ValueError, TypeError, KeyError, RecursionError):
        return []
    if len(axes) != len(shape):
        return []
    return [(name, extent) for name, extent in zip(axes, shape) if name not in _PLANE]
