"""Masks as one DICOM segmentation that belongs to the series they were made from. Needs highdicom."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

import numpy as np

from AmbiguousSegLib.files import replacing
from AmbiguousSegLib.volume.dicom_series import headers_by_slice
from AmbiguousSegLib.volume.geometry import Geometry

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription
    from pydicom import Dataset
    from pydicom.sr.coding import Code

SERIES_DESCRIPTION = "Plausible segmentations (research use only)"
_MANUFACTURER, _SERIES_NUMBER = "AmbiguousSeg", 1000
_LONGEST = 64  # characters of a DICOM long string


class SegmentLabel(Protocol):
    """What is segmented; ``card.Label`` is one. ``color`` is red, green, blue in [0, 1]."""

    @property
    def color(self) -> tuple[float, float, float]: ...

    @property
    def terminology(self) -> str: ...


def write_dicom_seg(
    path: Path | str,
    masks: Sequence[tuple[str, np.ndarray]],
    geometry: Geometry,
    source_files: Sequence[Path | str],
    label: SegmentLabel,
    *,
    model_name: str,
    software_version: str,
    series_description: str = SERIES_DESCRIPTION,
) -> list[str]:
    """Write ``masks`` as one DICOM segmentation: binary, one segment each, which may overlap; all of it or nothing.

    Each slice is stored at the position of the source instance it was computed on, whatever the order of the files.
    Slices that no mask marks are left out, as is usual; if nothing is marked at all, one empty slice is kept, because
    the format asks for at least one.

    Args:
        masks: name and bool ``(Z, Y, X)`` of each segment.
        geometry: grid of the masks; one slice ``(Y, X)`` for each source instance.
        source_files: the files of the series, in any order; their pixels are not read.
        label: colour of all segments, and what they show as a Slicer TerminologyEntry.
        model_name: the algorithm that the segments name; its version is ``software_version``.

    Returns:
        Names of the masks that mark nothing: they are segments without a frame, which other software may not list.

    Raises:
        ImportError: highdicom is missing or too old; says what to install.
        ValueError: masks, names or terminology that do not fit, a series that is not on the grid. One line.
        OSError: a file could not be read or written; a file that was there before is unchanged.
    """
    hd = _highdicom()
    _check(masks, geometry, label, model_name, software_version, series_description)
    sources = headers_by_slice(source_files, geometry)
    marked = [z for z in range(len(sources)) if any(mask[z].any() for _, mask in masks)]
    slices = marked or [0]
    description = {
        "source_images": [sources[z] for z in slices],
        "pixel_array": np.stack([mask[slices] for _, mask in masks], axis=-1),
        "segmentation_type": hd.seg.SegmentationTypeValues.BINARY,
        "segment_descriptions": [
            _segment(number, name, label, model_name, software_version)
            for number, (name, _) in enumerate(masks, start=1)
        ],
        "series_instance_uid": hd.UID(),
        "series_number": _SERIES_NUMBER,
        "series_description": series_description,
        "sop_instance_uid": hd.UID(),
        "instance_number": 1,
        "manufacturer": _MANUFACTURER,
        "manufacturer_model_name": _MANUFACTURER,
        "software_versions": software_version,
        "device_serial_number": "0",
        "content_description": "Plausible segmentations; research use only",
        "omit_empty_frames": bool(marked),
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it would write unusual names of patients into logs
            segmentation = hd.seg.Segmentation(**description)
    except (ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: no DICOM segmentation can be made of this series: {reason}") from error
    _space_slices(segmentation, geometry, slices)
    segmentation.SpecificCharacterSet = "ISO_IR 192"  # UTF-8: names may hold characters that the series cannot
    with replacing(path) as temporary:
        segmentation.save_as(temporary)
    return [name for name, mask in masks if not mask.any()]


def _space_slices(segmentation: Dataset, geometry: Geometry, slices: Sequence[int]) -> None:
    """Write the distance of the volume's slices: highdicom writes that of the slices stored, 1 mm for a single one."""
    from pydicom.valuerep import DSfloat

    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SpacingBetweenSlices = DSfloat(geometry.spacing_mm[2], auto_format=True)
    if slices[-1] - slices[0] >= len(slices) and "DimensionOrganizationType" in segmentation:
        del segmentation.DimensionOrganizationType  # its "3D" says that there is nothing between the frames


def _highdicom() -> ModuleType:
    try:
        import highdicom
        from highdicom.color import CIELabColor
    except ImportError as error:
        raise ImportError(
            "Writing DICOM segmentations needs highdicom, which is not installed here; install it by "
            "'pip install highdicom' (in Slicer: slicer.util.pip_install('highdicom'))."
        ) from error
    if not hasattr(CIELabColor, "from_rgb"):
        raise ImportError(
            f"Writing DICOM segmentations needs highdicom 0.27 or later, found {highdicom.__version__}; install it by "
            "'pip install --upgrade highdicom'."
        )
    return highdicom


def _check(masks: Sequence[tuple[str, np.ndarray]], geometry: Geometry, label: SegmentLabel, *texts: str) -> None:
    if not masks:
        raise ValueError("A DICOM segmentation needs at least one mask, got none.")
    for name, mask in masks:
        if mask.dtype != bool or mask.shape != geometry.shape:
            raise ValueError(
                f"Mask {name!r} must be bool of shape {geometry.shape} (Z, Y, X), got {mask.dtype} {mask.shape}."
            )
    for text in (*(name for name, _ in masks), *texts):
        if not 0 < len(text) <= _LONGEST or "\\" in text or not text.isprintable():
            raise ValueError(f"DICOM takes 1 to {_LONGEST} characters without backslashes as a name, got {text!r}.")
    if len(label.color) != 3 or not all(0 <= c <= 1 for c in label.color):
        raise ValueError(f"Segment colour must be red, green, blue in [0, 1], got {label.color}.")


def _segment(number: int, name: str, label: SegmentLabel, model_name: str, software_version: str) -> SegmentDescription:
    import highdicom as hd
    from highdicom.sr.coding import CodedConcept
    from pydicom.sr.codedict import codes

    category, kind, kind_modifier, region, region_modifier = _codes(label.terminology)
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=model_name, family=codes.DCM.ArtificialIntelligence, version=software_version
        ),
        tracking_uid=hd.UID(),
        tracking_id=name,
        anatomic_regions=[region] if region else None,
        display_color=hd.color.CIELabColor.from_rgb(*(255 * c for c in label.color)),
    )
    if kind_modifier:
        modified = description.SegmentedPropertyTypeCodeSequence[0]
        modified.SegmentedPropertyTypeModifierCodeSequence = [CodedConcept.from_code(kind_modifier)]
    if region and region_modifier:
        modified = description.AnatomicRegionSequence[0]
        modified.AnatomicRegionModifierSequence = [CodedConcept.from_code(region_modifier)]
    return description


def _codes(terminology: str) -> tuple[Code, Code, Code | None, Code | None, Code | None]:
    """Category, type, type's modifier, region and region's modifier of a Slicer TerminologyEntry."""
    from pydicom.sr.coding import Code

    fields = terminology.split("~")
    triples = [field.split("^") for field in (*fields[1:4], *fields[5:7])]
    if len(fields) != 7 or any(len(triple) != 3 for triple in triples) or not all((*triples[0], *triples[1])):
        raise ValueError(
            "Expected a Slicer TerminologyEntry, context~category~type~modifier~context~region~modifier with codes as "
            f"scheme^value^meaning, got {terminology!r}."
        )
    return tuple(Code(value, scheme, meaning) if value else None for scheme, value, meaning in triples)
