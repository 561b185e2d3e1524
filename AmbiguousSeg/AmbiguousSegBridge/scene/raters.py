"""What raters drew, read on the grid of a run: any segment of any segmentation that is not a run's own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from AmbiguousSegBridge.scene.grid import ijk_to_ras
from AmbiguousSegBridge.scene.identity import ROLE, is_own
from AmbiguousSegBridge.scene.runs import Run, mask_ids, mask_of, names_in
from AmbiguousSegBridge.scene.segments import cut, labelmap_of
from AmbiguousSegLib.labels import segments_are_classes
from AmbiguousSegLib.volume.crops import Crop
from AmbiguousSegLib.volume.geometry import Geometry

READING_S = 0.05  # for which one call of ``Checksums.changed`` begins to read masks

_CONVERTER = slicer.vtkSegmentationConverter


@dataclass(frozen=True)
class Rater:
    """What one rater drew.

    Attributes:
        segment_ids: of one segment, or of one for each class that the rater marked.
        name: for people, and unique among ``candidates``.
        labels: name of the class that each segment shows; empty where the one segment is a rater's mask, which then
            marks the first class.
        problem: why it cannot be compared; empty if it can.
    """

    node: slicer.vtkMRMLSegmentationNode
    segment_ids: tuple[str, ...]
    name: str
    labels: tuple[str, ...] = ()
    problem: str = ""

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """Ids of node and segment, for each segment."""
        return tuple((self.node.GetID(), segment_id) for segment_id in self.segment_ids)


def candidates(scene: slicer.vtkMRMLScene, labels: Sequence[str] = (), segments_are: str = "auto") -> list[Rater]:
    """All that can be a rater's, in scene order: in nodes that no run has made or is making.

    A node is one rater if its segments are classes, else each of its segments is one, see ``segments_are_classes``. Of
    a mixture, each segment is listed with the ``problem``.

    Args:
        labels: names of the classes that are compared; none: they are not known yet, each segment is a rater.
        segments_are: as in ``segments_are_classes``.
    """
    found: list[Rater] = []
    for node in scene.GetNodes():
        if not node.IsA("vtkMRMLSegmentationNode") or is_own(node) or node.GetHideFromEditors():
            continue
        segmentation, title = node.GetSegmentation(), node.GetName()
        names = {name: segmentation.GetSegment(name).GetName() for name in segmentation.GetSegmentIDs()}
        problem = ""
        try:
            if names and labels and segments_are_classes(list(names.values()), labels, segments_are):
                found.append(Rater(node, tuple(names), title, tuple(names.values())))
                continue
        except ValueError as error:
            problem = f"{title}: {error}"
        for segment_id, name in names.items():
            own = title if len(names) == 1 else f"{title}, {name}"
            found.append(Rater(node, (segment_id,), own, problem=problem))
    seen: Counter[str] = Counter()
    for place, rater in enumerate(found):
        seen[rater.name] += 1
        if seen[rater.name] > 1:
            found[place] = replace(rater, name=f"{rater.name} ({seen[rater.name]})")
    return found


def read_rater(rater: Rater, run: Run, resample: bool) -> Crop:
    """What a rater drew, on the run's grid; an empty crop if the rater drew nothing. Nothing in the scene is changed.

    A segment whose voxels are voxels of the grid, parent transforms included, is read as it is, and one that is only
    a closed surface is voxelised on the grid. A class that the rater has no segment of is empty.

    Args:
        resample: bring a segment on another grid to the run's, nearest neighbour, in world coordinates.

    Raises:
        ValueError: with the rater's name, if a segment is gone, lies on another grid and ``resample`` is false,
            reaches out of the run's grid, vanishes when resampled, or is stored in no way that can be read; if two
            classes overlap, or as ``Rater.problem`` says.
    """
    if rater.problem:
        raise ValueError(rater.problem)
    crops = [_read_segment(rater, segment_id, run, resample) for segment_id in rater.segment_ids]
    if not rater.labels:
        return crops[0]
    by_label = dict(zip(rater.labels, crops))
    of_classes = [by_label.get(name) or Crop.nothing(run.geometry.shape) for name in run.label_names]
    return Crop.merged(of_classes, names_in(rater.node, run.labels))


def _read_segment(rater: Rater, segment_id: str, run: Run, resample: bool) -> Crop:
    segment = rater.node.GetSegmentation().GetSegment(segment_id)
    if segment is None:
        raise ValueError(f"The segment of rater {rater.name!r} no longer exists. Choose the raters again.")
    to_run = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        rater.node.GetParentTransformNode(), _placed(run).GetParentTransformNode(), to_run
    )
    labelmap = segment.GetRepresentation(_CONVERTER.GetBinaryLabelmapRepresentationName())
    if labelmap is not None:
        crop, outside = _from_labelmap(rater, labelmap, segment.GetLabelValue(), to_run, run.geometry, resample)
    else:
        crop, outside = _from_surface(rater, segment, to_run, run.geometry)
    if outside:
        raise ValueError(
            f"Rater {rater.name!r} marks {outside * run.geometry.voxel_volume_ml:.3g} mL outside the volume of run "
            f"{run.name!r}, which would be lost. Remove that part, or generate the samples on the larger volume."
        )
    return crop


def _from_labelmap(
    rater: Rater,
    labelmap: slicer.vtkOrientedImageData,
    value: int,
    to_run: vtk.vtkGeneralTransform,
    geometry: Geometry,
    resample: bool,
) -> tuple[Crop, int]:
    """Crop on the grid, and how many voxels lie outside of it."""
    drawn = None if labelmap.IsEmpty() else _drawn(labelmap, value)
    if drawn is None:
        return Crop.nothing(geometry.shape), 0
    matrix = vtk.vtkTransform()
    linear = slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(to_run, matrix)
    if linear:
        to_ras = vtk.vtkMatrix4x4()
        drawn.GetImageToWorldMatrix(to_ras)
        vtk.vtkMatrix4x4.Multiply4x4(matrix.GetMatrix(), to_ras, to_ras)
        drawn.SetGeometryFromImageToWorldMatrix(to_ras)
        try:
            return cut(drawn, 1, geometry)
        except ValueError as elsewhere:
            if not resample:
                raise ValueError(_other_grid(rater)) from elsewhere
    elif not resample:
        raise ValueError(_other_grid(rater))
    crop, outside = cut(_resampled(drawn, geometry, None if linear else to_run), 1, geometry)
    if crop.empty and not outside:
        raise ValueError(f"What rater {rater.name!r} drew is smaller than the voxels of the run and would vanish.")
    return crop, outside


def _other_grid(rater: Rater) -> str:
    return f"Rater {rater.name!r} lies on another grid than the run, or under another transform. Tick Resample."


def _drawn(labelmap: slicer.vtkOrientedImageData, value: int) -> slicer.vtkOrientedImageData | None:
    """Labelmap (0, 1) of one value alone, a copy, as small as it can be; None if it does not occur."""
    extent = labelmap.GetExtent()
    voxels = vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(labelmap.GetDimensions()[::-1])
    crop = Crop.of(voxels == value)
    if crop.empty:
        return None
    to_ras = vtk.vtkMatrix4x4()
    labelmap.GetImageToWorldMatrix(to_ras)
    drawn = labelmap_of(crop, to_ras)
    own = drawn.GetExtent()
    drawn.SetExtent([own[k] + extent[k - k % 2] for k in range(6)])
    return drawn


def _resampled(
    drawn: slicer.vtkOrientedImageData, geometry: Geometry, warp: vtk.vtkAbstractTransform | None
) -> slicer.vtkOrientedImageData:
    """Nearest neighbour on the grid and as far beyond as ``drawn`` reaches; ``warp`` leads to the run's coordinates."""
    reference, output = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    reference.SetGeometryFromImageToWorldMatrix(ijk_to_ras(geometry))
    # Padded to hold what is drawn. That is judged by the corners, which does not do for a warp: the whole grid then.
    reference.SetExtent([end for n in geometry.size for end in ((0, n - 1) if warp is not None else (0, -1))])
    if not slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        drawn, reference, output, False, True, warp
    ):
        raise RuntimeError("Slicer could not resample a labelmap; see its log.")
    return output


def _from_surface(
    rater: Rater, drawn: slicer.vtkSegment, to_run: vtk.vtkGeneralTransform, geometry: Geometry
) -> tuple[Crop, int]:
    """Crop on the grid, and how many voxels lie outside of it, of a segment that has no labelmap."""
    closed = _CONVERTER.GetClosedSurfaceRepresentationName()
    labelmap = _CONVERTER.GetBinaryLabelmapRepresentationName()
    surface = drawn.GetRepresentation(closed)
    if surface is None:
        raise ValueError(
            f"Rater {rater.name!r} is stored neither as a labelmap nor as a closed surface. Create a binary labelmap "
            "of it first (module Segmentations)."
        )
    if surface.GetNumberOfPoints() == 0:
        return Crop.nothing(geometry.shape), 0
    moved = vtk.vtkTransformPolyDataFilter()
    moved.SetInputData(surface)
    moved.SetTransform(to_run)
    moved.Update()
    segment, copy = slicer.vtkSegment(), slicer.vtkSegmentation()
    segment.AddRepresentation(closed, moved.GetOutput())
    copy.SetSourceRepresentationName(closed)
    copy.SetConversionParameter(_CONVERTER.GetReferenceImageGeometryParameterName(), geometry.slicer_text())
    if not copy.AddSegment(segment, "copy") or not copy.CreateRepresentation(labelmap):
        raise RuntimeError(f"Slicer could not make a labelmap of the surface of rater {rater.name!r}; see its log.")
    return cut(segment.GetRepresentation(labelmap), 1, geometry)


class Checksums:
    """Tells which of the masks that a comparison was made of have changed since.

    A mask is read again only where its labelmap or surface, or a transform of it or of the run, was modified after it
    was read last; once, where it never was, as in a scene that was loaded.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], int | None] = {}

    def of_compared(
        self, run: Run, raters: Sequence[Rater], resample: bool, crops: Mapping[str, Sequence[Crop]]
    ) -> dict[str, Any]:
        """What ``changed`` has to be given, in plain JSON types; ``crops``: all "samples" and "raters" as just read."""
        compared: dict[str, Any] = {"resample": resample}
        for kind, masks in _masks(run, raters, resample).items():
            compared[kind] = {name: crop.checksum() for name, crop in zip(masks, crops[kind])}
            self._known |= {state: compared[kind][name] for name, (state, _) in masks.items()}
        return compared

    def changed(self, compared: Mapping[str, Any], run: Run, candidates: Sequence[Rater]) -> tuple[set[str], bool]:
        """Of which kinds, "samples" or "raters", a mask is not the one compared, or is gone; and whether that is all.

        It is not where READING_S did not do for reading what was modified, which then counts as unchanged: call again.
        """
        try:
            present = _masks(run, candidates, compared["resample"])
        except ValueError:  # the run lies on no grid any more
            return {"samples"}, True
        changed, all_read = set(), True
        if list(present["samples"]) != list(compared["samples"]):  # one more sample is a change, one more rater is none
            changed.add("samples")
        end = time.monotonic() + READING_S
        for kind, masks in present.items():
            for name, checksum in compared[kind].items():
                state, read = masks.get(name, (None, None))
                if read is not None and state not in self._known:
                    if time.monotonic() > end:
                        all_read = False
                        continue
                    try:
                        self._known[state] = read().checksum()
                    except ValueError:  # what was compared could be read
                        self._known[state] = None
                if self._known.get(state) != checksum:
                    changed.add(kind)
        return changed, all_read


def _masks(
    run: Run, raters: Sequence[Rater], resample: bool
) -> dict[str, dict[str, tuple[tuple[Any, ...], Callable[[], Crop]]]]:
    """For each sample, by role, and each rater, by name: the state that it is in, and what reads it."""
    samples = {}
    for node in run.samples:
        with suppress(ValueError):  # it has lost its mask
            state = _state(node, [name for name in mask_ids(node, run.labels) if name is not None], run)
            samples[node.GetAttribute(ROLE)] = state, partial(mask_of, node, run)
    drawn = {
        rater.name: ((*_state(rater.node, rater.segment_ids, run), resample), partial(read_rater, rater, run, resample))
        for rater in raters
    }
    return {"samples": samples, "raters": drawn}


def _state(node: slicer.vtkMRMLSegmentationNode, segment_ids: Sequence[str], run: Run) -> tuple[Any, ...]:
    """A mask on the grid of a run is the same as long as this is: it tells of every modification in this session."""
    names = (_CONVERTER.GetBinaryLabelmapRepresentationName(), _CONVERTER.GetClosedSurfaceRepresentationName())
    parts: list[Any] = []
    for segment_id in segment_ids:
        segment = node.GetSegmentation().GetSegment(segment_id)
        stored = [found.GetMTime() for found in map(segment.GetRepresentation, names) if found is not None]
        parts.append((segment_id, segment.GetName(), segment.GetLabelValue(), *stored[:1]))
    above = [placed.GetParentTransformNode() for placed in (node, _placed(run))]
    moved = [None if one is None else (one.GetID(), one.GetTransformToWorldMTime()) for one in above]
    return (node.GetID(), *parts, *moved, run.geometry)


def _placed(run: Run) -> slicer.vtkMRMLTransformableNode:
    """A node under the transform under which the run lies."""
    return next(node for node in (run.mean, *run.samples) if node is not None)
