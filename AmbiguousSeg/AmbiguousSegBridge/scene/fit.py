"""In what volumes in the scene differ from what a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import slicer

from AmbiguousSegBridge.scene.folders import hierarchy_of
from AmbiguousSegBridge.scene.grid import channel_arrays
from AmbiguousSegLib.description import ModelDescription
from AmbiguousSegLib.volume.geometry import Region
from AmbiguousSegLib.volume.input_check import check_inputs
from AmbiguousSegLib.volume.scan_kind import is_picture

MODALITY = "DICOM.Modality"  # of a series in the subject hierarchy, as Slicer's DICOM module writes it


def kind_of(volumes: Sequence[slicer.vtkMRMLScalarVolumeNode]) -> tuple[str, bool]:
    """Modality of the first volume that tells one, as DICOM names it, and whether one is a picture of unknown pixels.

    A picture has pixels of 1 mm until the user says otherwise in the module Volumes.
    """
    modality, picture = "", False
    for volume in volumes:
        hierarchy = hierarchy_of(volume.GetScene())
        item = hierarchy.GetItemByDataNode(volume)
        modality = modality or (hierarchy.GetItemAttribute(item, MODALITY) if item else "")
        storage = volume.GetStorageNode()
        file = storage.GetFileName() if storage is not None else None
        picture = picture or bool(file and is_picture(file) and set(volume.GetSpacing()[:2]) == {1.0})
    return modality, picture


def input_warnings(
    model: ModelDescription, volumes: Sequence[slicer.vtkMRMLScalarVolumeNode], region: Region | None
) -> list[str]:
    """Sentences for the user, as ``check_inputs`` has them; none where the volumes cannot be sampled at all.

    Args:
        region: box outside of which nothing is seen, in the volumes' coordinates; None: all is seen.
    """
    try:
        arrays, geometry = channel_arrays(volumes)
        return check_inputs(model.inputs, arrays, geometry, model.preprocessing, *kind_of(volumes), region)
    except ValueError:  # the button or the worker says why
        return []
