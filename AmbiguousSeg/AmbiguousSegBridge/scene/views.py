"""What the slice views show of a run: maps as overlays, one sample, the slices that matter."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import slicer

from AmbiguousSegBridge.scene.grid import ijk_to_ras
from AmbiguousSegBridge.scene.masks import map_array
from AmbiguousSegBridge.scene.run_node import ARRIVING, COMPLETE, Kind, owned, references, run_nodes, sample_index
from AmbiguousSegBridge.scene.run_writer import box_of, without_rendering
from AmbiguousSegBridge.scene.runs import Run
from AmbiguousSegLib.ensemble.disagreement import predictive_entropy
from AmbiguousSegLib.volume.geometry import SliceAxes

Position = tuple[float, float, float]


class Overlay(enum.Enum):
    """Map that lies over the input."""

    NONE = "none"
    MEAN = "mean"
    VARIANCE = "variance"
    ENTROPY = "entropy"

    def label(self) -> str:
        """For people."""
        named = {"none": "None", "mean": "Mean: share of samples", "variance": "Variance"}
        return named.get(self.value, "Entropy (several classes)")


def map_of(run: Run, overlay: Overlay, label: int = 1) -> slicer.vtkMRMLScalarVolumeNode | None:
    """The map of a run that an overlay shows, of the class 1 to K where there is one for each; None: there is none."""
    if overlay is Overlay.ENTROPY:
        return run.entropy
    return {Overlay.MEAN: run.means, Overlay.VARIANCE: run.variances}.get(overlay, (None,) * label)[label - 1]


def show_overlay(scene: slicer.vtkMRMLScene, run: Run, overlay: Overlay, opacity: float, label: int = 1) -> None:
    """Show the input, and a map of the run over it with an opacity in [0, 1], in all slice views.

    Without an overlay, maps of runs are taken away; what the user has put over the input otherwise stays.

    Args:
        label: class whose mean or variance is shown.

    Raises:
        ValueError: if the map was deleted, or the opacity is not in [0, 1].
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"Opacity must lie in [0, 1], got {opacity}.")
    shown = map_of(run, overlay, label)
    if shown is None and overlay is not Overlay.NONE:
        raise ValueError(f"Run {run.name!r} has no {overlay.value} map. Compute its maps again first.")
    of_runs = owned(scene, COMPLETE)
    for composite in nodes_of_class(scene, "vtkMRMLSliceCompositeNode"):
        if run.input is not None:
            composite.SetBackgroundVolumeID(run.input.GetID())
        if shown is not None:
            composite.SetForegroundVolumeID(shown.GetID())
            composite.SetForegroundOpacity(opacity)
        elif composite.GetForegroundVolumeID() in of_runs:
            composite.SetForegroundVolumeID(None)


def show_sample(scene: slicer.vtkMRMLScene, run: Run, index: int | None, consensus: bool = False) -> None:
    """Show one sample of the run (its number, from 0; None: all) and, if asked for, the consensus; hide the others.

    Other runs are hidden.

    Raises:
        ValueError: if there is no such sample.
    """
    if index is not None and index not in map(sample_index, run.samples):
        raise ValueError(f"Run {run.name!r} has no sample {index + 1}. Choose another one.")
    with without_rendering():
        hide_runs(scene, run)
        for node in run.samples:
            node.SetDisplayVisibility(index is None or sample_index(node) == index)
        if run.consensus is not None:
            run.consensus.SetDisplayVisibility(consensus)


def hide_runs(scene: slicer.vtkMRMLScene, but: Run | None = None) -> None:
    """Hide masks and maps of all runs but one (None: of all); samples that are still arriving stay."""
    kept = {node.GetID() for node in but.nodes.values()} if but is not None else set()
    others = {node_id: node for node_id, node in owned(scene, COMPLETE).items() if node_id not in kept}
    with without_rendering():
        for node in others.values():
            if node.IsA("vtkMRMLSegmentationNode"):
                node.SetDisplayVisibility(False)
        for composite in nodes_of_class(scene, "vtkMRMLSliceCompositeNode"):
            if composite.GetForegroundVolumeID() in others:
                composite.SetForegroundVolumeID(None)


@dataclass(frozen=True)
class MarkedSlice:
    """An axial slice in which samples mark something.

    Attributes:
        number: of the slice from the feet, from 0.
        position: its centre within what is marked in any slice: world RAS in mm.
        disagreement: variance of one class, entropy of several, summed over its voxels.
        marked: share of the samples that mark a voxel, summed over its voxels and classes.
    """

    number: int
    position: Position
    disagreement: float
    marked: float


def marked_slices(run: Run) -> list[MarkedSlice]:
    """The slices in which the samples mark something, from the feet to the head.

    Raises:
        ValueError: if the mean was deleted.
    """
    if None in run.means:
        raise ValueError(f"Run {run.name!r} no longer has a mean map. Compute its maps again first.")
    axes, box = SliceAxes.of(run.geometry, "axial"), box_of(run.mean)
    means = [axes.view(map_array(node)[box]) for node in run.means]
    along, back = axes.index_axes[0], axes.backwards[0]
    span, count = box[2 - along], run.geometry.size[along]  # boxes are z, y, x; index axes are x, y, z
    first = count - span.stop if back else span.start
    centre, slices = _centre(box), []
    for number, shares in enumerate(zip(*means), start=first):
        if marked := sum(float(share.sum(dtype=np.float64)) for share in shares):
            spread = shares[0] * (1 - shares[0]) if len(shares) == 1 else predictive_entropy(shares)
            centre[along] = count - 1 - number if back else number
            slices.append(MarkedSlice(number, _world(run, centre), float(spread.sum(dtype=np.float64)), marked))
    return slices


def slices_of_most_disagreement(run: Run) -> list[tuple[int, Position]]:
    """Number and position of the ``marked_slices`` in falling order of disagreement, then of what is marked.

    Raises:
        ValueError: if the mean was deleted.
    """
    slices = sorted(marked_slices(run), key=lambda one: (-one.disagreement, -one.marked, one.number))
    return [(one.number, one.position) for one in slices]


def jump_to(scene: slicer.vtkMRMLScene, position_ras: Position) -> None:
    """Bring a position (world RAS, mm) to the middle of all slice views."""
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, *position_ras, slicer.vtkMRMLSliceNode.CenteredJumpSlice)


def _centre(box: tuple[slice, slice, slice]) -> list[float]:
    """Index (x, y, z) of the middle of a box."""
    return [(span.start + span.stop - 1) / 2 for span in reversed(box)]


def _world(run: Run, index: list[float]) -> Position:
    """World position in RAS of an index (x, y, z) on the run's grid."""
    position, world = ijk_to_ras(run.geometry).MultiplyPoint((*index, 1.0))[:3], [0.0] * 3
    run.mean.TransformPointToWorld(position, world)
    return tuple(world)


def masks_of_runs(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLSegmentationNode]:
    """Samples, consensus and other masks of all runs, and of those that are being made."""
    return [node for node in owned(scene).values() if node.IsA("vtkMRMLSegmentationNode")]


def arriving_samples(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLSegmentationNode]:
    """Samples of runs, and of additions to runs, that are being made."""
    return [node for run_node in run_nodes(scene, ARRIVING) for node in references(run_node, Kind.SAMPLES)]


def nodes_of_class(scene: slicer.vtkMRMLScene, class_name: str) -> Iterator[slicer.vtkMRMLNode]:
    return (node for node in scene.GetNodes() if node.IsA(class_name))
