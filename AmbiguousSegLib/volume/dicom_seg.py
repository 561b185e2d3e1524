"""Masks as one DICOM segmentation that belongs to the series they were made from. Needs highdicom."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from AmbiguousSegLib.files import replacing
from AmbiguousSegLib.label_maps import as_label_map, class_mask
from AmbiguousSegLib.labels import Label, check_labels
from AmbiguousSegLib.volume.dicom_series import headers_by_slice
from AmbiguousSegLib.volume.geometry import Geometry

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription
    from pydicom import Dataset

SERIES_DESCRIPTION = "Plausible segmentations (research use only)"
_MANUFACTURER, _SERIES_NUMBER = "AmbiguousSeg", 1000
_LONGEST = 64  # characters of a DICOM long string


def write_dicom_seg(
    path: Path | str,
    masks: Sequence[tuple[str, np.ndarray]],
    geometry: Geometry,
    source_files: Sequence[Path | str],
    labels: Sequence[Label],
    *,
    model_name: str,
    software_version: str,
    series_description: str = SERIES_DESCRIPTION,
) -> list[str]:
    """Write ``masks`` as one DICOM segmentation, whose binary segments may overlap; all of it or nothing.

    Of one class each mask is a segment of its name; of several it is one for each class, named "mask, class". Each
    slice is stored at the position of the source instance it was computed on, whatever the order of the files.
    Slices that no mask marks are left out, as is usual; if nothing is marked at all, one empty slice is kept, because
    the format asks for at least one.

    Args:
        masks: name and label map, uint8 ``(Z, Y, X)`` or, of one class, bool, of each mask.
        geometry: grid of the masks; one slice ``(Y, X)`` for each source instance.
        source_files: the files of the series, in any order; their pixels are not read.
        labels: the classes 1 to K: name, colour, and what they show as a Slicer TerminologyEntry.
        model_name: the algorithm that the segments name; its version is ``software_version``.

    Returns:
        Names of the segments that mark nothing: they are without a frame, and other software may not list them.

    Raises:
        ImportError: highdicom is missing or too old; says what to install.
        ValueError: masks, names or terminology that do not fit, a series that is not on the grid. One line.
        OSError: a file could not be read or written; a file that was there before is unchanged.
    """
    hd = _highdicom()
    masks = [(name, as_label_map(mask)) for name, mask in masks]
    _check(masks, geometry, labels, model_name, software_version, series_description)
    sources = headers_by_slice(source_files, geometry)
    marked = [z for z in range(len(sources)) if any(mask[z].any() for _, mask in masks)]
    slices = marked or [0]
    segments = [(_name(name, label, len(labels)), label) for name, _ in masks for label in labels]
    classes = range(1, 1 + len(labels))
    pixels = np.stack([class_mask(mask[slices], k, len(labels)) for _, mask in masks for k in classes], axis=-1)
    description = {
        "source_images": [sources[z] for z in slices],
        "pixel_array": pixels,
        "segmentation_type": hd.seg.SegmentationTypeValues.BINARY,
        "segment_descriptions": [
            _segment(number, name, label, model_name, software_version)
            for number, (name, label) in enumerate(segments, start=1)
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
    return [name for number, (name, _) in enumerate(segments) if not pixels[..., number].any()]


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


def _check(masks: Sequence[tuple[str, np.ndarray]], geometry: Geometry, labels: Sequence[Label], *texts: str) -> None:
    if not masks:
        raise ValueError("A DICOM segmentation needs at least one mask, got none.")
    check_labels(labels)
    for name, mask in masks:
        if mask.shape != geometry.shape or mask.max() > len(labels):
            raise ValueError(
                f"Mask {name!r} must be a label map of shape {geometry.shape} (Z, Y, X) with values up to "
                f"{len(labels)}, got shape {mask.shape} and values up to {mask.max()}."
            )
    for text in (*(_name(name, label, len(labels)) for name, _ in masks for label in labels), *texts):
        if not 0 < len(text) <= _LONGEST or "\\" in text or not text.isprintable():
            raise ValueError(f"DICOM takes 1 to {_LONGEST} characters without backslashes as a name, got {text!r}.")


def _name(mask: str, label: Label, classes: int) -> str:
    """Name of a segment: the mask's, and its class behind it where there are several, cut to what DICOM holds."""
    if classes == 1:
        return mask
    name = f"{mask}, {label.name}"
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _segment(number: int, name: str, label: Label, model_name: str, software_version: str) -> SegmentDescription:
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


def _codes(terminology: str) -> tuple[Any, ...]:
    """Codes of category, type, type's modifier, region and region's modifier of a Slicer TerminologyEntry; or None."""
    from pydicom.sr.coding import Code

    fields = terminology.split("~")
    triples = [field.split("^") for field in (*fields[1:4], *fields[5:7])]
    if len(fields) != 7 or any(len(triple) != 3 for triple in triples) or not all((*triples[0], *triples[1])):
        raise ValueError(
            "Expected a Slicer TerminologyEntry, context~category~type~modifier~context~region~modifier with codes as "
            f"scheme^value^meaning, got {terminology!r}."
        )
    return tuple(Code(value, scheme, meaning) if value else None for scheme, value, meaning in triples)
