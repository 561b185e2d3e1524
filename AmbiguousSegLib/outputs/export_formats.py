"""Masks and maps in the format that the next program reads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path

import numpy as np

from AmbiguousSegLib import __version__
from AmbiguousSegLib.card import Label
from AmbiguousSegLib.files import write_together
from AmbiguousSegLib.volume.dicom_seg import write_dicom_seg
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.io import write_nifti, write_segmentation, write_volume

log = logging.getLogger(__name__)

DICOM_FILE = "segmentations.dcm"
NamedMask = tuple[str, str, np.ndarray]
"""Name of the file without its suffix, title for people, bool ``(Z, Y, X)``."""


class Form(Enum):
    """Format of the files; the values are the suffixes of masks, except for DICOM, where all masks are one file."""

    SEG_NRRD = "seg.nrrd"
    NIFTI = "nii.gz"
    DICOM = "dicom"

    def label(self) -> str:
        """For people."""
        return {"seg.nrrd": "Slicer segmentation (.seg.nrrd)", "nii.gz": "NIfTI (.nii.gz)"}.get(self.value, "DICOM SEG")


def file_names(form: Form, masks: Sequence[str], maps: Sequence[str]) -> list[str]:
    """Names of the files that masks and maps of these names become.

    Raises:
        ValueError: a name that is no file name, or two files of one name.
    """
    for name in (*masks, *maps):
        if not name or Path(name).name != name or set(name) & set('<>:"/\\|?*'):
            raise ValueError(f"{name!r} cannot be the name of a file; use letters, digits, dashes and underscores.")
    if form is Form.DICOM:
        return [DICOM_FILE]
    suffix = {Form.SEG_NRRD: "nrrd", Form.NIFTI: "nii.gz"}[form]
    names = [*(f"{name}.{form.value}" for name in masks), *(f"{name}.{suffix}" for name in maps)]
    twice = sorted({name for name in names if [n.lower() for n in names].count(name.lower()) > 1})
    if twice:
        raise ValueError(f"Two of the files would be named {twice[0]}; give each mask and map a name of its own.")
    return names


def export_masks(
    folder: Path | str,
    form: Form,
    named_masks: Sequence[NamedMask],
    maps: Mapping[str, np.ndarray],
    geometry: Geometry,
    label: Label,
    source_files: Sequence[Path | str] = (),
    model_name: str = "",
    overwrite: bool = False,
    on_note: Callable[[str], None] = log.warning,
    on_file: Callable[[str], None] = lambda _name: None,
) -> list[Path]:
    """Write masks and maps to ``folder``; all files are complete before the first takes its place.

    Args:
        named_masks: one file each, or one segment each of a DICOM segmentation.
        maps: float32 ``(Z, Y, X)`` by the name of their file without its suffix; NRRD beside ``.seg.nrrd``. DICOM
            segmentations hold none: they are left out, and ``on_note`` is told.
        geometry: grid of masks and maps.
        label: colour and terminology of the segments.
        source_files: for DICOM, the files of the series that was segmented.
        model_name: for DICOM, named as the algorithm.
        overwrite: replace files of the same names; others are never touched.
        on_note: called with a sentence for whatever the files do not show as it was given; by default a warning.
        on_file: called with the name of each file before it is written; what it raises ends the export, and nothing
            is left behind.

    Returns:
        The files written.

    Raises:
        ValueError: nothing to write, names that are no file names or collide, masks that do not fit the grid, a
            series that does not; one line.
        FileExistsError: a file of one of the names is there. ImportError: DICOM without highdicom.
        OSError: no space or no permission; nothing is left behind.
    """
    folder = Path(folder)
    if not named_masks and (form is Form.DICOM or not maps):
        raise ValueError("There is nothing to export; choose at least one mask.")
    if form is Form.DICOM and not source_files:
        raise ValueError(
            "A DICOM segmentation refers to the series it was made from; export as seg.nrrd or nii.gz what was not "
            "read from a DICOM series."
        )
    names = file_names(form, [stem for stem, _, _ in named_masks], list(maps))
    present = [name for name in names if (folder / name).exists()]
    if present and not overwrite:
        raise FileExistsError(f"{folder / present[0]} exists; choose another folder, or overwrite it.")

    def write(temporary: Path) -> list[str]:
        if form is Form.DICOM:
            on_file(DICOM_FILE)
            titled = [(title, mask) for _, title, mask in named_masks]
            empty = write_dicom_seg(
                temporary / DICOM_FILE,
                titled,
                geometry,
                source_files,
                label,
                model_name=model_name or "AmbiguousSeg",
                software_version=__version__,
            )
            if empty:
                on_note(f"Empty, so segments without a slice, which other software may not list: {', '.join(empty)}.")
            if maps:
                on_note(f"Not part of a DICOM segmentation, left out: {', '.join(maps)}.")
            return names
        for name, (stem, title, mask) in zip(names, named_masks):
            on_file(name)
            if form is Form.SEG_NRRD:
                write_segmentation(temporary / name, mask, geometry, title, label.color, stem, label.terminology)
            else:
                write_nifti(temporary / name, mask, geometry)
        for name, values in zip(names[len(named_masks) :], maps.values()):
            on_file(name)
            (write_volume if form is Form.SEG_NRRD else write_nifti)(temporary / name, values, geometry)
        return names

    return write_together(folder, write)
