"""What a file says of itself before it is read: its modality, and whether it is a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from AmbiguousSegLib.volume import pictures
from AmbiguousSegLib.volume.dicom_files import (
    SEGMENTATIONS,
    by_simpleitk,
    dicom_files,
    has_pydicom,
    is_dicom,
    read_dataset,
)
from AmbiguousSegLib.volume.file_checks import shown
from AmbiguousSegLib.volume.geometry import Geometry

_UNSAID = ("", "OT")  # "other"


def is_picture(path: Path | str) -> bool:
    """Whether a file is a picture, which tells no size of its pixels: by how it begins, or its name if it is gone."""
    path = Path(path)
    return pictures.is_picture(path) if path.is_file() else path.suffix.lower() in pictures.SUFFIXES


def with_pixels_of(spacing_mm: float, geometry: Geometry, paths: Sequence[Path | str]) -> Geometry:
    """Grid of pictures whose pixels have this edge, as somebody says who knows.

    Raises:
        ValueError: not a positive number, or files that tell it themselves.
    """
    if not 0 < spacing_mm < math.inf:
        raise ValueError(f"The size of a pixel must be positive, got {spacing_mm:g} mm.")
    for path in paths:
        if not is_picture(path):
            raise ValueError(
                f"{shown(path)} tells the size of its pixels, {geometry.spacing_mm[0]:.3g} × "
                f"{geometry.spacing_mm[1]:.3g} mm; expected a picture (PNG, JPEG, TIFF or BMP). Leave the size out."
            )
    return replace(geometry, spacing_mm=(spacing_mm, spacing_mm, geometry.spacing_mm[2]))


def modality_of(paths: Sequence[Path | str] | Path | str, series: str | None = None) -> str:
    """Modality of the first of the files or folders that tells one, as DICOM names it; empty where none does.

    Of a folder one header is read, that of its first image. What cannot be read is left to whoever reads it whole.

    Args:
        series: which of several series in a folder, as ``read_volume`` takes it.
    """
    for path in [paths] if isinstance(paths, (Path, str)) else paths:
        try:
            found = next(_modalities(Path(path), series), "")
        except (OSError, ValueError):
            continue
        if found not in _UNSAID:
            return found
    return ""


def _modalities(path: Path, series: str | None) -> Iterator[str]:
    """Of each image."""
    wanted = None if series is None else series.partition(",")[0]
    for file in dicom_files(path) if path.is_dir() else [path] if is_dicom(path) else []:
        get = read_dataset(file, pixels=False).get if has_pydicom() else by_simpleitk(file)
        image = get("Rows") is not None and str(get("SOPClassUID") or "") not in SEGMENTATIONS
        if image and wanted in (None, str(get("SeriesInstanceUID") or "")):
            yield str(get("Modality") or "").strip()
