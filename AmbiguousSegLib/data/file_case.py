"""A case whose image and masks are files of their own, of any format that volumes and masks are read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from AmbiguousSegLib.volume.dicom_files import is_dicom
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.headers import read_header
from AmbiguousSegLib.volume.image import components_of, read_image
from AmbiguousSegLib.volume.io import on_grid, read_mask, read_volume
from AmbiguousSegLib.volume.segments import read_rater_maps

JPEG = (".jpg", ".jpeg")


@dataclass(frozen=True)
class RaterFile:
    """Where one rater's mask stands.

    Attributes:
        name: of the rater.
        path: file, or DICOM folder; None: the rater marked nothing.
        segment: the segment of a file with several (``.seg.nrrd``, DICOM SEG) that is this rater's; None: the file is.
        labels: pairs of a stored value and the label that it means (0: background), for files that number the classes
            in their own way; other values than these and 0 are refused. Empty: the values are the labels.
    """

    name: str
    path: Path | None
    segment: str | None = None
    labels: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class FileCase:
    """One image and its raters' masks in files; a ``readers.Case``. Nothing is read before it is asked for.

    Attributes:
        images: one file per channel, or one whose components are the channels; or DICOM folders.
        raters: where their masks stand.
        label_names: names of the labels 1 to K.
        series: which volume of a DICOM folder with several, as ``read_volume`` takes it.
        spacing_mm: edges of a pixel along rows and columns, of a picture, which does not know them; None: unknown.
        field_mm: the same told by the height and width of the whole picture.
        channel_names: what each of ``images`` is called in the data, if that lets ``dataset.channels`` choose and order
            them: a name, upper and lower case alike, and further ones as ``challenges.plain`` gives them.
    """

    identity: str
    subject: str
    images: tuple[Path, ...]
    raters: tuple[RaterFile, ...]
    label_names: tuple[str, ...] = ("lesion",)
    group: str = ""
    part: str = ""
    modality: str = ""
    series: str | None = None
    spacing_mm: tuple[float, float] | None = None
    field_mm: tuple[float, float] | None = None
    channel_names: tuple[tuple[str, ...], ...] = ()

    @property
    def rater_names(self) -> tuple[str, ...]:
        """Raters in the order of ``load_masks``."""
        return tuple(rater.name for rater in self.raters)

    def load_image(self) -> tuple[np.ndarray, Geometry]:
        """Channels ``(C, Z, Y, X)`` as stored, and their grid; ValueError as ``read_volume``."""
        values, geometry = read_volume(self.images, self.series)
        return values, self._told(geometry)

    def load_masks(self) -> np.ndarray:
        """Masks, uint8 ``(R, Z, Y, X)``; empty ones stay.

        With one class a file holds 0 and at most one other value, which is the lesion, whatever it is. JPEG blurs
        masks: there the lesion, the only class, is what lies above half of full scale, and something must if not all is
        0.

        Raises:
            ValueError: as ``read_raters``; a mask on another grid; values that are no labels; JPEG of several classes.
        """
        geometry = self._grid()
        return np.stack([load_rater(rater, geometry, self.label_names) for rater in self.raters])

    def _grid(self) -> Geometry:
        """That of the first image, by its header; of DICOM only the whole tells it."""
        first = self.images[0]
        whole = first.is_dir() or is_dicom(first)
        return Geometry.of(read_image(first, self.series)) if whole else read_header(first).geometry

    def _told(self, geometry: Geometry) -> Geometry:
        """The grid with what is told of a picture's pixels."""
        spacing = self.spacing_mm
        if self.field_mm is not None:
            spacing = (self.field_mm[0] / geometry.shape[1], self.field_mm[1] / geometry.shape[2])
        return geometry if spacing is None else replace(geometry, spacing_mm=(spacing[1], spacing[0], 1.0))


def load_rater(rater: RaterFile, geometry: Geometry, label_names: Sequence[str]) -> np.ndarray:
    """One rater's mask on the grid of the image: label map, uint8 ``(Z, Y, X)``; errors as ``FileCase.load_masks``."""
    if rater.path is None:
        return np.zeros(geometry.shape, np.uint8)
    if rater.path.suffix.lower() in JPEG:
        return _jpeg_mask(rater.path, geometry, len(label_names))
    if rater.labels:
        return _renumbered(rater.path, geometry, rater.labels)
    kind = "raters" if rater.segment is not None else "auto"
    masks, grid, part = read_rater_maps(rater.path, label_names, kind, geometry)
    if rater.segment is not None and rater.segment not in masks:
        raise ValueError(f"{rater.path} has no segment {rater.segment!r}; it has {', '.join(masks)}.")
    if rater.segment is None and len(masks) != 1:
        raise ValueError(
            f"{rater.path} holds the raters {', '.join(masks)}, expected one; name the segment that is meant, or "
            "the classes by the labels of the configuration."
        )
    return on_grid(geometry, masks[rater.segment or next(iter(masks))], grid, part, rater.path)


def _jpeg_mask(path: Path, geometry: Geometry, classes: int) -> np.ndarray:
    if classes > 1:
        raise ValueError(f"{path}: JPEG blurs labels: store masks of {classes} classes as PNG or TIFF.")
    mask = read_mask(path, geometry, threshold=0.5)
    image = read_image(path)  # kept while its voxels are looked at: components are views
    if not mask.any() and (brightest := max(component.max() for component in components_of(image))) > 0:
        raise ValueError(f"{path}: mask is not black and white: brightest value {brightest}, expected 255.")
    return mask.view(np.uint8)


def _renumbered(path: Path, geometry: Geometry, labels: Sequence[tuple[int, int]]) -> np.ndarray:
    """A label map whose stored values mean labels as these pairs say."""
    image = read_image(path, labels=True)
    stored = components_of(image)[0]
    mask, known = np.zeros(stored.shape, np.uint8), stored == 0
    for value, label in labels:
        here = stored == value
        mask[here], known = label, known | here
    if not known.all():
        raise ValueError(
            f"{path} holds the value {stored[~known].flat[0]:g}, expected 0 and {', '.join(str(v) for v, _ in labels)}"
            "; say which class it is, or remove it."
        )
    return on_grid(geometry, mask, Geometry.of(image), False, path)
