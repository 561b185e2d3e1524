"""Masks and maps in the format that the next program reads.

A format is one function, registered by ``output_format``: from what is to be exported it tells which files there will
be, and how each is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from AmbiguousSegLib import __version__
from AmbiguousSegLib.files import write_together
from AmbiguousSegLib.labels import Label, segments_of_mask
from AmbiguousSegLib.registry import Registry
from AmbiguousSegLib.volume.dicom_seg import write_dicom_seg
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.writing import write_nifti, write_segmentation, write_volume

log = logging.getLogger(__name__)

DICOM_FILE = "segmentations.dcm"
NamedMask = tuple[str, str, np.ndarray]
"""Name of the file without its suffix, title for people, label map uint8 ``(Z, Y, X)`` (bool: of one class)."""
Files = Iterable[tuple[str, Callable[[Path], object]]]
"""Name of each file, and what writes it to the path that it is given."""


@dataclass(frozen=True)
class Content:
    """What is exported; the attributes are the arguments of ``export_masks``."""

    masks: Sequence[NamedMask]
    maps: Mapping[str, np.ndarray]
    geometry: Geometry
    labels: Sequence[Label]
    source_files: Sequence[Path | str] = ()
    model_name: str = ""
    on_note: Callable[[str], None] = log.warning


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        name: under which it is registered.
        title: for people.
        suffix: of the files of masks.
        files: the function that is the format.
    """

    name: str
    title: str
    suffix: str
    files: Callable[[Content], Files]


# All stand in this file: other modules of the room need packages that Slicer installs only when it samples.
FORMATS: Registry[Format] = Registry("output format")


def output_format(name: str, title: str, suffix: str) -> Callable[[Callable[[Content], Files]], Format]:
    """Decorator that makes a function of a ``Content`` the format ``name``; it writes nothing itself."""
    return lambda files: FORMATS.register(name)(Format(name, title, suffix, files))


@output_format("seg_nrrd", "Slicer segmentation (.seg.nrrd)", ".seg.nrrd")
def seg_nrrd(content: Content) -> Files:
    """A segmentation for each mask, with a segment for each class, and NRRD for maps."""
    for stem, title, mask in content.masks:
        labels, ids = segments_of_mask(content.labels, title, stem)
        write = partial(write_segmentation, label_map=mask, geometry=content.geometry, labels=labels, ids=ids)
        yield f"{stem}.seg.nrrd", write
    for name, values in content.maps.items():
        yield f"{name}.nrrd", partial(write_volume, array=values, geometry=content.geometry)


@output_format("nifti", "NIfTI (.nii.gz)", ".nii.gz")
def nifti(content: Content) -> Files:
    """A label map for each mask, and maps."""
    for name, array in (*((stem, mask) for stem, _, mask in content.masks), *content.maps.items()):
        yield f"{name}.nii.gz", partial(write_nifti, array=array, geometry=content.geometry)


@output_format("dicom", "DICOM SEG", ".dcm")
def dicom(content: Content) -> Files:
    """All masks as segments of one DICOM segmentation, which holds no maps; without masks there is none."""
    if content.masks and not content.source_files:
        raise ValueError(
            "A DICOM segmentation refers to the series it was made from; what was not read from a DICOM series is "
            f"exported as {' or '.join(FORMATS[name].suffix for name in FORMATS if name != 'dicom')}."
        )

    def write(path: Path) -> None:
        empty = write_dicom_seg(
            path,
            [(title, mask) for _, title, mask in content.masks],
            content.geometry,
            content.source_files,
            content.labels,
            model_name=content.model_name or "AmbiguousSeg",
            software_version=__version__,
        )
        if empty:
            told = ", ".join(empty)
            content.on_note(f"Empty, so segments without a slice, which other software may not list: {told}.")
        if content.maps:
            content.on_note(f"Not part of a DICOM segmentation, left out: {', '.join(content.maps)}.")

    return [(DICOM_FILE, write)] if content.masks else []


def export_masks(
    folder: Path | str,
    form: str,
    named_masks: Sequence[NamedMask],
    maps: Mapping[str, np.ndarray],
    geometry: Geometry,
    labels: Sequence[Label],
    source_files: Sequence[Path | str] = (),
    model_name: str = "",
    overwrite: bool = False,
    on_note: Callable[[str], None] = log.warning,
    on_file: Callable[[str], None] = lambda _name: None,
) -> list[Path]:
    """Write masks and maps to ``folder``; all files are complete before the first takes its place.

    Args:
        form: name of a format of ``FORMATS``.
        named_masks: a file each, or segments of a DICOM segmentation.
        maps: float32 ``(Z, Y, X)`` by the name of their file without its suffix; NRRD beside ``.seg.nrrd``. DICOM
            segmentations hold none: they are left out, and ``on_note`` is told.
        geometry: grid of masks and maps.
        labels: the classes 1 to K of the masks; the segments have their colours and terminology.
        source_files: for DICOM, the files of the series that was segmented.
        model_name: for DICOM, named as the algorithm.
        overwrite: replace files of the same names; others are never touched.
        on_note: called with a sentence for whatever the files do not show as it was given; by default a warning.
        on_file: called with the name of each file before it is written; what it raises ends the export, and nothing
            is left behind.

    Returns:
        The files written.

    Raises:
        ValueError: an unknown format, nothing to write, names that are no file names or collide, masks that do not fit
            the grid, a series that does not; one line.
        FileExistsError: a file of one of the names is there. ImportError: DICOM without highdicom.
        OSError: no space or no permission; nothing is left behind.
    """
    folder = Path(folder)
    for name in (*(stem for stem, _, _ in named_masks), *maps):
        if not name or Path(name).name != name or set(name) & set('<>:"/\\|?*'):
            raise ValueError(f"{name!r} cannot be the name of a file; use letters, digits, dashes and underscores.")
    content = Content(named_masks, maps, geometry, labels, source_files, model_name, on_note)
    files = list(FORMATS[form].files(content))
    if not files:
        raise ValueError("There is nothing to export; choose at least one mask.")
    names = [name for name, _ in files]
    twice = sorted({name for name in names if [n.lower() for n in names].count(name.lower()) > 1})
    if twice:
        raise ValueError(f"Two of the files would be named {twice[0]}; give each mask and map a name of its own.")
    present = [name for name in names if (folder / name).exists()]
    if present and not overwrite:
        raise FileExistsError(f"{folder / present[0]} exists; choose another folder, or overwrite it.")

    def write(temporary: Path) -> list[str]:
        for name, write_file in files:
            on_file(name)
            write_file(temporary / name)
        return names

    return write_together(folder, write)
