"""DICOM structure sets (RTSTRUCT), made from polygons in voxel indices of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from AmbiguousSegLib.volume.geometry import Geometry

Contour = tuple[float, list[tuple[float, float]]]
"""Slice, and corners (x, y), as voxel indices of the grid."""


def write_structures(
    path: Path, grid: Geometry, structures: Sequence[tuple[str, Sequence[Contour]]], kind: str = "CLOSED_PLANAR"
) -> Path:
    """Structures by name; points keep three decimals of a millimetre, as most programs write them."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

    d = pydicom.Dataset()
    d.file_meta = pydicom.dataset.FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SOPClassUID, d.SOPInstanceUID, d.Modality = RTStructureSetStorage, generate_uid(), "RTSTRUCT"
    d.StudyInstanceUID, d.SeriesInstanceUID, d.PatientID, d.PatientName = generate_uid(), generate_uid(), "1", "nobody"
    d.StructureSetLabel, d.StructureSetROISequence, d.ROIContourSequence = "s", [], []
    for number, (name, contours) in enumerate(structures, start=1):
        roi = pydicom.Dataset()
        roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = number, name, "MANUAL"
        d.StructureSetROISequence.append(roi)
        drawn = pydicom.Dataset()
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for z, corners in contours:
            points = grid.to_mm(np.array([(x, y, z) for x, y in corners]))
            item = pydicom.Dataset()
            item.ContourGeometricType = "POINT" if len(corners) == 1 else kind
            item.NumberOfContourPoints, item.ContourData = len(points), [f"{v:.3f}" for v in points.ravel()]
            drawn.ContourSequence.append(item)
        d.ROIContourSequence.append(drawn)
    path.parent.mkdir(parents=True, exist_ok=True)
    d.save_as(path, enforce_file_format=True)
    return path
