"""Masks fused from several, raters' or samples', as segmentation nodes of a run."""

from __future__ import annotations

from collections.abc import Mapping

import slicer

from AmbiguousSegBridge.scene.folders import remove_nodes
from AmbiguousSegBridge.scene.run_node import ROLE, Kind, references
from AmbiguousSegBridge.scene.runs import Run, writer_of
from AmbiguousSegLib.volume.crops import Crop

COLOURS = {"raters": (0.2, 1.0, 0.6), "samples": (1.0, 0.85, 0.4)}


def put_fused(scene: slicer.vtkMRMLScene, run: Run, masks: Mapping[str, Crop]) -> None:
    """Write fused masks into the run's nodes of their names; a new one is hidden until the user shows it.

    Nodes of fused masks that are not among these, of an earlier comparison, are removed.

    Args:
        masks: by whose masks were fused, and how, such as "raters STAPLE".
    """
    writer = writer_of(scene, run)
    for name, crop in masks.items():
        earlier = run.nodes.get(name)
        node = writer.put_mask(name, crop, COLOURS[name.split()[0]], earlier)
        if earlier is None:
            node.SetDisplayVisibility(False)
    remove_nodes(scene, [node for node in references(run.node, Kind.FUSED) if node.GetAttribute(ROLE) not in masks])
