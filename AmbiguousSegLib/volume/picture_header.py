"""What a picture's header says, and the one rule by which its samples become values: of any format, in all doors."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from AmbiguousSegLib.volume.file_checks import check_declared, shown

DECODER_ERRORS = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, struct.error)
"""What Pillow raises for data that is damaged."""

_FEWEST_BITS = 8  # greys of fewer bits become those of 8


@dataclass(frozen=True, eq=False)
class PictureHeader:
    """A picture as its file describes it, before its pixels are read.

    Attributes:
        kind: name of the format: "PNG".
        shape: slices, rows and columns as stored.
        samples: numbers for each pixel, of which ``alpha`` is the last.
        bits: of each sample.
        form: "u" for unsigned integers, "i" for signed ones, "f" for floats.
        palette: colours ``(n, 3)``, uint8 or uint16, that the one sample numbers; None: it is no number of a colour.
        opacity: of the colours of the palette, uint8 ``(n,)``; None: all are opaque.
        clear: the one value of a pixel that is transparent; None: none is.
        alpha: the last sample is the opacity.
        white_is_zero: the one sample is 0 for white.
        turn: how the picture is to be turned to stand upright, 1 to 8 as EXIF and TIFF number it; 1: not at all.
    """

    kind: str
    shape: tuple[int, int, int]
    samples: int
    bits: int
    form: str = "u"
    palette: np.ndarray | None = None
    opacity: np.ndarray | None = None
    clear: tuple[int, ...] | None = None
    alpha: bool = False
    white_is_zero: bool = False
    turn: int = 1

    @property
    def upright_shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns of the upright picture."""
        slices, rows, columns = self.shape
        return (slices, columns, rows) if self.turn >= 5 else self.shape

    @property
    def components(self) -> int:
        """Numbers for each pixel that ``true_values`` gives of an image: 1 for greys, 3 for colours."""
        if self.palette is not None:
            return 1 if _is_grey(self.palette) else 3
        return self.samples - self.alpha

    def check_size(self, path: Path, held: int | None, compressed: bool) -> None:
        """ValueError for more pixels than ``held`` bytes can hold or memory can take, as ``check_declared``."""
        slices, rows, columns = self.shape
        if min(self.shape) < 1:
            raise ValueError(f"{shown(path)} declares {columns} × {rows} pixels; it is damaged, copy it again.")
        check_declared(path, slices * rows * columns * self.samples, self.bits / 8, held, compressed)


def true_values(header: PictureHeader, stored: np.ndarray, labels: bool, path: Path) -> np.ndarray:
    """Values of a picture, upright: ``(Z, Y, X)`` of one component, else ``(Z, Y, X, C)``.

    Greys and colours are as stored, those of fewer than 8 bits on the scale of 8 bits (4 bits: 0, 17, 34, … 255), white
    being the highest value whichever way it is stored. A palette of greys gives them, one of colours red, green and
    blue. What marks transparency is dropped where all is opaque.

    Args:
        stored: samples ``(Z, Y, X, S)``.
        labels: the file holds labels: of a palette they are the numbers of its colours, of few bits what is stored.

    Raises:
        ValueError: a part is transparent; labels in a palette of greys that does not go from black to white, so that
            numbers and greys contradict each other.
    """
    if header.palette is not None:
        values = _of_palette(header, stored, labels, path)
    else:
        values = stored
        if header.white_is_zero:
            values = (1 << header.bits) - 1 - values
        if header.clear is not None and (stored == np.array(header.clear)).all(-1).any():
            raise _transparent(path)
        if header.alpha:
            if (values[..., -1] != (1.0 if header.form == "f" else (1 << header.bits) - 1)).any():
                raise _transparent(path)
            values = values[..., :-1]
        if header.form == "u" and header.bits < _FEWEST_BITS and not labels:
            values = values * np.uint8(255 // ((1 << header.bits) - 1))
    values = values[..., 0] if values.shape[-1] == 1 else values
    return _upright(values, header.turn)


def damaged(path: Path) -> ValueError:
    """The error to raise for pixels that cannot be decoded."""
    return ValueError(f"{shown(path)} is cut off or damaged: its pixels cannot be unpacked; copy or save it again.")


def _of_palette(header: PictureHeader, stored: np.ndarray, labels: bool, path: Path) -> np.ndarray:
    palette = header.palette if header.palette is not None else np.zeros((0, 3), np.uint8)
    highest = int(stored.max())
    if highest >= len(palette):
        raise ValueError(
            f"{shown(path)} is damaged: a pixel has the colour number {highest}, its palette holds {len(palette)} "
            "colours; save it again."
        )
    grey = _is_grey(palette)
    if labels:
        used = palette[np.unique(stored), 0].astype(int)
        if grey and (np.diff(used) <= 0).any():
            raise ValueError(
                f"{shown(path)} has a palette in which a higher number is a darker grey, so that it cannot be told "
                "which of both are the labels; save it as a grey image without a palette."
            )
        return stored
    if header.opacity is not None and (header.opacity[np.unique(stored)] < 255).any():
        raise _transparent(path)
    return palette[stored[..., 0], :1] if grey else palette[stored[..., 0]]


def _is_grey(palette: np.ndarray) -> bool:
    return bool((palette == palette[:, :1]).all())


def _transparent(path: Path) -> ValueError:
    return ValueError(
        f"{shown(path)} is partly transparent, so that what it shows depends on what lies behind it; save it without "
        "an alpha channel or transparent colour."
    )


def _upright(values: np.ndarray, turn: int) -> np.ndarray:
    """``values (Z, Y, X, …)`` turned as the orientation of TIFF and EXIF says."""
    if turn >= 5:
        values = values.swapaxes(1, 2)
    if turn in (3, 4, 7, 8):
        values = values[:, ::-1]
    if turn in (2, 3, 6, 7):
        values = values[:, :, ::-1]
    return np.ascontiguousarray(values)
