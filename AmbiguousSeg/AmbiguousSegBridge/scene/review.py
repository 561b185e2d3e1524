"""What was decided about a run: which of its masks was accepted, by whom and when, kept in the scene with the run."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from AmbiguousSegBridge.scene import tables
from AmbiguousSegBridge.scene.grid import ijk_to_ras
from AmbiguousSegBridge.scene.masks import mask_ids, mask_of, names_in
from AmbiguousSegBridge.scene.run_node import ATTRIBUTE, ROLE
from AmbiguousSegBridge.scene.run_writer import segment_ids_of
from AmbiguousSegBridge.scene.runs import Run, use_as_segmentation
from AmbiguousSegBridge.scene.segments import read_crop
from AmbiguousSegLib.configuration import from_dict, to_dict
from AmbiguousSegLib.evaluation.review import (
    CHANGED,
    CONSENSUS,
    DELETED,
    EDITED,
    MODE,
    SAMPLE,
    UNCHANGED,
    Decision,
    Reviewed,
)
from AmbiguousSegLib.volume.crops import Crop

DECISIONS, COPIES = ATTRIBUTE + "Decisions", ATTRIBUTE + "EditedCopies"
COPY_REFERENCE = ATTRIBUTE + "EditedCopy"  # and its number
MODES = "modes"  # role of the table of modes

_LABELMAP = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()


@dataclass(frozen=True)
class Choice:
    """A mask of a run that can be accepted.

    Attributes:
        kind: as of ``Decision``.
        mask: its name in the run: "sample 03", "consensus", "edited 1".
        node: the segmentation that holds it.
        mode: number of the mode that it represents, of a mode alone.
        share: of the samples that are of this mode.
    """

    kind: str
    mask: str
    node: slicer.vtkMRMLSegmentationNode
    mode: int | None = None
    share: float | None = None

    @property
    def key(self) -> str:
        """What tells it from the run's other choices, also in a saved scene."""
        return self.mask if self.mode is None else f"mode {self.mode}"


def choices(run: Run) -> list[Choice]:
    """What can be accepted: the consensus, modes from the most frequent, samples, and copies made to be edited."""
    found = [] if run.consensus is None else [Choice(CONSENSUS, CONSENSUS, run.consensus)]
    samples = {node.GetAttribute(ROLE): node for node in run.samples}
    table = run.tables.get(MODES)
    for row in [] if table is None else tables.read_table(table)["rows"]:
        if (role := row["representative"]) in samples:
            found.append(Choice(MODE, role, samples[role], row["mode"], row["frequency"]))
    found += [Choice(SAMPLE, role, node) for role, node in samples.items()]
    return found + [Choice(EDITED, name, node) for name, node in _copies(run).items()]


def decisions(run: Run) -> tuple[Decision, ...]:
    """All decisions that were not taken back; the last is in force."""
    text = run.node.GetAttribute(DECISIONS)
    return tuple(from_dict(Decision, entry, "decision") for entry in json.loads(text)) if text else ()


def accept(run: Run, choice: Choice, reviewer: str, comment: str = "") -> Decision:
    """Keep that this mask, as it is now, stands for the run's lesion.

    Raises:
        ValueError: the mask was changed beyond reading, or nobody is named.
    """
    crop = _mask(run, choice.mask, choice.node)
    voxels = tuple(int(np.count_nonzero(crop.voxels == label)) for label in range(1, 1 + len(run.labels)))
    checksum = _checksum(crop, run)
    decision = Decision(choice.kind, choice.mask, reviewer.strip(), now(), voxels, checksum, choice.mode, comment)
    _keep(run, (*decisions(run), decision))
    return decision


def take_back(run: Run) -> None:
    """Forget the decision in force; the one before it, if there is one, is in force again."""
    _keep(run, decisions(run)[:-1])


def now() -> str:
    """This moment, UTC, ISO 8601 to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def copy_to_edit(
    scene: slicer.vtkMRMLScene, run: Run, choice: Choice, name: str | None = None
) -> slicer.vtkMRMLSegmentationNode:
    """A copy of a mask, as ``use_as_segmentation``, which can then be accepted as it was edited; a copy stays itself.

    Raises:
        ValueError: the mask was changed beyond reading.
    """
    if choice.kind == EDITED:
        return choice.node
    node = use_as_segmentation(scene, run, choice.node, name)
    number = 1 + int(run.node.GetAttribute(COPIES) or 0)  # of a copy that was deleted, none bears the number again
    run.node.SetAttribute(COPIES, str(number))
    run.node.SetNodeReferenceID(f"{COPY_REFERENCE}{number}", node.GetID())
    return node


def edit(scene: slicer.vtkMRMLScene, node: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLNode | None) -> None:
    """Have Slicer's Segment Editor, when it is shown next, edit this segmentation on this volume."""
    tag, class_name = "SegmentEditor", "vtkMRMLSegmentEditorNode"
    editor = scene.GetSingletonNode(tag, class_name)
    if editor is None:  # the module makes it when it is first shown, or takes the one that is there
        editor = scene.CreateNodeByClass(class_name)
        editor.UnRegister(None)
        editor.SetSingletonTag(tag)
        editor = scene.AddNode(editor)
    editor.SetAndObserveSegmentationNode(node)
    editor.SetAndObserveSourceVolumeNode(volume)


class Reviews:
    """Reads the decisions about runs; a mask that was accepted is read again only where it was modified since."""

    def __init__(self) -> None:
        self._checksums: dict[tuple[Any, ...], int | None] = {}

    def of(self, run: Run) -> Reviewed:
        """What was decided about a run, and whether the mask is still the one accepted."""
        made = decisions(run)
        try:
            voxel_ml = run.geometry.voxel_volume_ml
        except ValueError:  # it lies on no grid any more
            voxel_ml = None
        title = "" if run.input is None else run.input.GetName()
        about = Reviewed(run.name, title, tuple(run.label_names), voxel_ml)
        if not made:
            return about
        return Reviewed(about.run, about.input, about.labels, voxel_ml, made[-1], self._state(run, made[-1]))

    def _state(self, run: Run, decision: Decision) -> str:
        nodes = _copies(run) if decision.kind == EDITED else run.nodes
        node = nodes.get(decision.mask)
        if node is None:
            return DELETED
        stamp = _stamp(run, node)
        if stamp not in self._checksums:
            try:
                self._checksums[stamp] = _checksum(_mask(run, decision.mask, node), run)
            except ValueError:  # what was accepted could be read
                self._checksums[stamp] = None
        return UNCHANGED if self._checksums[stamp] == decision.checksum else CHANGED


def _keep(run: Run, made: tuple[Decision, ...]) -> None:
    text = json.dumps([to_dict(decision) for decision in made]) if made else None
    run.node.SetAttribute(DECISIONS, text)


def _copies(run: Run) -> dict[str, slicer.vtkMRMLSegmentationNode]:
    """The copies made to be edited that are still in the scene, by name."""
    found = {}
    for number in range(1, 1 + int(run.node.GetAttribute(COPIES) or 0)):
        if (node := run.node.GetNodeReference(f"{COPY_REFERENCE}{number}")) is not None:
            found[f"{EDITED} {number}"] = node
    return found


def _segments(run: Run, node: slicer.vtkMRMLSegmentationNode) -> list[str | None]:
    """Segments of the classes; None for one that the user deleted. ValueError if all of a run's own are gone."""
    if node.GetAttribute(ROLE):
        return mask_ids(node, run.labels)
    wanted = [segment_ids_of(label.name, run.labels)[place] for place, label in enumerate(run.labels)]
    return [name if node.GetSegmentation().GetSegment(name) is not None else None for name in wanted]


def _mask(run: Run, mask: str, node: slicer.vtkMRMLSegmentationNode) -> Crop:
    """The mask on the run's grid, ValueError if it was changed beyond reading."""
    if node.GetAttribute(ROLE):
        return mask_of(node, run)
    if node.GetTransformNodeID() != run.anchor.GetTransformNodeID():
        raise ValueError(f"{node.GetName()!r}, {mask} of run {run.name!r}, lies under another transform than the run.")
    crops = [
        Crop.nothing(run.geometry.shape) if name is None else read_crop(node, run.geometry, name)
        for name in _segments(run, node)
    ]
    return crops[0] if len(crops) == 1 else Crop.merged(crops, names_in(node, run.labels))


def _checksum(crop: Crop, run: Run) -> int:
    """Checksum of a mask. Slicer turns the slices of a left-handed volume round when it reads it: so does this."""
    if crop.empty or ijk_to_ras(run.geometry).Determinant() > 0:
        return crop.checksum()
    start = (crop.shape[0] - crop.box[0].stop, *crop.start[1:])
    return Crop(crop.voxels[::-1], start, crop.shape).checksum()


def _stamp(run: Run, node: slicer.vtkMRMLSegmentationNode) -> tuple[Any, ...]:
    """A mask on the run's grid is the same as long as this is, in this session."""
    segmentation = node.GetSegmentation()
    parts = []
    for name in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(name)
        labelmap = segment.GetRepresentation(_LABELMAP)
        parts.append((name, segment.GetLabelValue(), 0 if labelmap is None else labelmap.GetMTime()))
    return (node.GetID(), node.GetTransformNodeID(), run.anchor.GetTransformNodeID(), run.geometry, *parts)
