"""Masks and maps of a run, read from its nodes as they are now: the user may have edited them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import slicer
from vtk.util.numpy_support import vtk_to_numpy

from AmbiguousSegBridge.scene.run_node import ROLE
from AmbiguousSegBridge.scene.run_writer import segment_ids_of
from AmbiguousSegBridge.scene.segments import count_voxels, read_crop
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.volume.crops import Crop
from AmbiguousSegLib.volume.geometry import Geometry

if TYPE_CHECKING:
    from AmbiguousSegBridge.scene.runs import Run


def crops_of(run: Run) -> list[Crop]:
    """Masks of the samples in their order, on the run's grid; ValueError if one was changed beyond reading."""
    return [mask_of(node, run) for node in run.samples]


def mask_of(node: slicer.vtkMRMLSegmentationNode, run: Run) -> Crop:
    """Mask of one of a run's segmentations, on the run's grid.

    Raises:
        ValueError: as ``read_mask``, or if the segmentation lies under another transform than the run.
    """
    if node.GetTransformNodeID() != run.anchor.GetTransformNodeID():
        raise ValueError(
            f"{node.GetName()!r} lies under another transform than {run.anchor.GetName()!r}. Put both under one, undo "
            "it if the transform of one of them was hardened, or delete the segmentation in the module Data."
        )
    return read_mask(node, run.geometry, run.labels)


def read_mask(node: slicer.vtkMRMLSegmentationNode, geometry: Geometry, labels: Sequence[Label]) -> Crop:
    """Mask of a run's own segmentation; segments that the user added to it do not count.

    Raises:
        ValueError: as ``read_crop`` and ``mask_ids``, or segments of two classes overlap.
    """
    crops = [
        Crop.nothing(geometry.shape) if segment_id is None else read_crop(node, geometry, segment_id)
        for segment_id in mask_ids(node, labels)
    ]
    return crops[0] if len(crops) == 1 else Crop.merged(crops, names_in(node, labels))


def names_in(node: slicer.vtkMRMLSegmentationNode, labels: Sequence[Label]) -> list[str]:
    """Names of the labels for messages about the segments of a node."""
    return [f"{label.name!r} of {node.GetName()!r}" for label in labels]


def mask_ids(node: slicer.vtkMRMLSegmentationNode, labels: Sequence[Label]) -> list[str | None]:
    """Ids of the segments that are a run's own in one of its segmentations, one for each class.

    None stands for a class whose segment the user deleted: it marks nothing.

    Raises:
        ValueError: all of them are gone.
    """
    segmentation, wanted = node.GetSegmentation(), segment_ids_of(node.GetAttribute(ROLE), labels)
    found = [name if segmentation.GetSegment(name) is not None else None for name in wanted]
    if any(found):
        return found
    if len(labels) == 1 and segmentation.GetNumberOfSegments() == 1:
        return [segmentation.GetNthSegmentID(0)]
    raise ValueError(f"{node.GetName()!r} has lost its mask. Delete it in the module Data.")


def count_marked(node: slicer.vtkMRMLSegmentationNode, labels: Sequence[Label]) -> tuple[int, ...]:
    """Voxels that a run's own segmentation gives to each class; ValueError as ``mask_ids`` and ``count_voxels``."""
    return tuple(0 if name is None else count_voxels(node, name) for name in mask_ids(node, labels))


def map_array(node: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray:
    """Voxels ``(Z, Y, X)`` of a map, as they lie in memory; ValueError if it was emptied."""
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        raise ValueError(f"{node.GetName()!r} no longer holds any voxels. Delete it in the module Data.")
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
