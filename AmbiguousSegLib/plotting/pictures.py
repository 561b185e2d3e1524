"""Contact sheets: images with masks drawn into them, as RGB arrays and PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import find_boundaries
from skimage.transform import resize

from AmbiguousSegLib.labels import DEFAULT_LABELS, Label
from AmbiguousSegLib.volume.writing import write_image

Color = tuple[int, int, int]
RATER, SAMPLE, CONSENSUS = (90, 220, 120), (255, 120, 60), (250, 220, 70)
WHITE = (255, 255, 255)
GAP = 2


def grey(image: np.ndarray) -> np.ndarray:
    """RGB uint8 ``(H, W, 3)`` of an image ``(H, W)`` in [0, 1]."""
    return np.repeat((255 * np.clip(image, 0, 1)).astype(np.uint8)[:, :, None], 3, axis=2)


def photograph(image: np.ndarray) -> np.ndarray:
    """RGB uint8 ``(H, W, 3)`` of channels ``(C, H, W)`` in [0, 1]: three are taken for colour, otherwise the first."""
    return (255 * np.clip(image, 0, 1)).astype(np.uint8).transpose(1, 2, 0) if len(image) == 3 else grey(image[0])


def outlined(picture: np.ndarray, mask: np.ndarray, color: Color) -> np.ndarray:
    """Copy of ``picture`` ``(H, W, 3)`` with the inner border of ``mask`` bool ``(H, W)`` in ``color``."""
    out = picture.copy()
    out[find_boundaries(mask, mode="inner") | (mask & _frame(mask.shape))] = color
    return out


def outlined_classes(picture: np.ndarray, label_map: np.ndarray, colors: Sequence[Color]) -> np.ndarray:
    """``outlined`` for each class of a label map ``(H, W)``, bool or uint8; ``colors`` are those of classes 1 to K."""
    for number, color in enumerate(colors, start=1):
        picture = outlined(picture, label_map == number, color)
    return picture


def colors_of(labels: Sequence[Label], single: Color) -> list[Color]:
    """Colours of the outlines of each class: the labels' own where there are several, otherwise ``single``."""
    if len(labels) == 1:
        return [single]
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in (label.color for label in labels)]


def heat(values: np.ndarray, largest: float) -> np.ndarray:
    """RGB uint8 of values ``(H, W)`` in [0, largest]: black, red, yellow, white."""
    level = 3 * np.clip(values / largest, 0, 1)[:, :, None] - np.arange(3)
    return (255 * np.clip(level, 0, 1)).astype(np.uint8)


def enlarged(picture: np.ndarray, factor: int) -> np.ndarray:
    """Every pixel ``factor`` times along both axes."""
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def fitted(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Picture ``(H, W, 3)`` uint8 stretched to ``size`` (height, width)."""
    return (255 * resize(picture, size, order=1, anti_aliasing=True)).round().astype(np.uint8)


def captioned(picture: np.ndarray, text: str, color: Color = WHITE, size: int = 12) -> np.ndarray:
    """Copy of ``picture`` with ``text`` in its upper left corner, in letters of ``size`` pixels."""
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size)
    draw.text((4, 2), text, fill=color, font=font, stroke_width=1, stroke_fill=(0, 0, 0))
    return np.asarray(canvas)


def sheet(rows: Sequence[Sequence[np.ndarray | None]]) -> np.ndarray:
    """Pictures in rows with thin gaps; None leaves a place empty. All pictures have one size."""
    first = next(picture for row in rows for picture in row if picture is not None)
    height, width = first.shape[:2]
    columns = max(len(row) for row in rows)
    out = np.full((len(rows) * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 40, np.uint8)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            if picture is not None:
                y, x = r * (height + GAP), c * (width + GAP)
                out[y : y + height, x : x + width] = picture
    return out


def ensemble_row(
    image: np.ndarray,
    raters: np.ndarray,
    samples: np.ndarray,
    most_raters: int,
    most_samples: int,
    labels: Sequence[Label] = DEFAULT_LABELS,
) -> list[np.ndarray | None]:
    """Row of a contact sheet: image, raters' outlines, samples' outlines, share of samples that mark a pixel at all.

    Args:
        image: ``(C, H, W)`` in [0, 1]. raters: label maps, bool or uint8 ``(M, H, W)``. samples: ``(N, H, W)`` of the
            same kind.
        labels: the classes; several are outlined in their own colours.
    """
    base = photograph(image)
    row: list[np.ndarray | None] = [base]
    row += [outlined_classes(base, mask, colors_of(labels, RATER)) for mask in raters[:most_raters]]
    row += [None] * (most_raters - min(most_raters, len(raters)))
    row += [outlined_classes(base, mask, colors_of(labels, SAMPLE)) for mask in samples[:most_samples]]
    return [*row, heat((samples != 0).mean(0), 1.0)]


def write_png(path: Path | str, picture: np.ndarray) -> None:
    """Write RGB uint8 ``(H, W, 3)``. OSError: as ``write_image``."""
    write_image(path, sitk.GetImageFromArray(np.ascontiguousarray(picture), isVector=True), compress=False)


def _frame(shape: tuple[int, int]) -> np.ndarray:
    frame = np.ones(shape, bool)
    frame[1:-1, 1:-1] = False
    return frame
