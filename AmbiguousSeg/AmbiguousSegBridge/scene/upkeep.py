"""Maps and volumes of a run follow its samples, which the user may delete or edit."""

from __future__ import annotations

import math
import time

import slicer

from AmbiguousSegBridge.scene import masks, runs, tables
from AmbiguousSegBridge.scene.run_node import ROLE
from AmbiguousSegBridge.scene.run_writer import box_of
from AmbiguousSegBridge.scene.runs import Run

COUNTING_S = 0.05  # for which one call begins to count voxels of samples
SAME_WITHIN = 1e-6  # of a sum of float32


class Upkeep:
    """Renews maps and volumes where they were made of other samples; an edit is known by the number of voxels.

    Attributes:
        pending: whether the last call had no time for all samples: call again.
    """

    def __init__(self) -> None:
        self.pending = False
        # Times of change of the classes' labelmaps, and their voxels, by the sample's node.
        self._counted: dict[str, tuple[list[int], tuple[int, ...]]] = {}

    def renew(self, scene: slicer.vtkMRMLScene, run: Run, edits: bool) -> bool:
        """Renew what is not up to date; whether there was anything.

        Args:
            edits: look for edited samples, too, not only for deleted ones.

        Raises:
            ValueError: if a mask was changed beyond reading.
        """
        self.pending = False
        of_table = _voxels_of_table(run)
        if of_table is None and self._is_mean_of_samples(run):
            tables.renew_volumes(scene, run)  # the user deleted only the table
        elif of_table is None or self._differ(run, of_table, edits):
            tables.renew_volumes(scene, runs.renew_maps(scene, run))
        else:
            return False
        return True

    def _differ(self, run: Run, of_table: dict[str, tuple[int, ...]], edits: bool) -> bool:
        if list(of_table) != [node.GetAttribute(ROLE) for node in run.samples]:
            return True
        end = time.monotonic() + COUNTING_S
        for node in run.samples if edits else ():
            if time.monotonic() > end:
                self.pending = True
                break
            if self._voxels(node, run) != of_table[node.GetAttribute(ROLE)]:
                return True
        return False

    def _is_mean_of_samples(self, run: Run) -> bool:
        if None in run.means:
            return False
        counted = zip(*(self._voxels(node, run) for node in run.samples))
        totals = (float(masks.map_array(mean)[box_of(run.mean)].sum(dtype=float)) for mean in run.means)
        pairs = [(total * len(run.samples), sum(voxels)) for total, voxels in zip(totals, counted)]
        return all(math.isclose(total, voxels, rel_tol=SAME_WITHIN) for total, voxels in pairs)

    def _voxels(self, node: slicer.vtkMRMLSegmentationNode, run: Run) -> tuple[int, ...]:
        """Voxels of each class of a sample, counted where its mask has changed since; ValueError if it has lost it."""
        labelmaps = [
            None if mask is None else node.GetBinaryLabelmapInternalRepresentation(mask)
            for mask in masks.mask_ids(node, run.labels)
        ]
        changed = [0 if labelmap is None else labelmap.GetMTime() for labelmap in labelmaps]
        if self._counted.get(node.GetID(), (None,))[0] != changed:
            self._counted[node.GetID()] = changed, masks.count_marked(node, run.labels)
        return self._counted[node.GetID()][1]


def _voxels_of_table(run: Run) -> dict[str, tuple[int, ...]] | None:
    """Voxels of each sample and class, by its role, as the table of volumes has them; None if the user deleted it."""
    if tables.VOLUMES not in run.tables:
        return None
    several = len(run.labels) > 1
    keys = [tables.class_volume_key(name) for name in run.label_names] if several else [tables.VOLUME_ML]
    rows = tables.read_table(run.tables[tables.VOLUMES])["rows"][: -tables.SUMMARY_ROWS]
    voxel_ml = run.geometry.voxel_volume_ml
    return {row[tables.NAME]: tuple(round(row[key] / voxel_ml) for key in keys) for row in rows}
