"""Whether masks that were compared have changed since."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import slicer

from AmbiguousSegBridge.scene.masks import mask_ids, mask_of
from AmbiguousSegBridge.scene.raters import Rater, read_rater
from AmbiguousSegBridge.scene.run_node import ROLE
from AmbiguousSegBridge.scene.runs import Run
from AmbiguousSegLib.volume.crops import Crop

READING_S = 0.05  # for which one call of ``Checksums.changed`` begins to read masks

_CONVERTER = slicer.vtkSegmentationConverter


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
    above = [placed.GetParentTransformNode() for placed in (node, run.anchor)]
    moved = [None if one is None else (one.GetID(), one.GetTransformToWorldMTime()) for one in above]
    return (node.GetID(), *parts, *moved, run.geometry)
