"""Masks fused from several, raters' or samples', as segmentation nodes of a run."""

from __future__ import annotations

import slicer

from AmbiguousSegBridge.run_writer import segment_id_of
from AmbiguousSegBridge.runs import Run, sign_as, writer_of
from AmbiguousSegBridge.segments import replace_mask
from AmbiguousSegLib.volume.crops import Crop

COLOURS = {"raters": (0.2, 1.0, 0.6), "samples": (1.0, 0.85, 0.4)}


def put_fused(scene: slicer.vtkMRMLScene, run: Run, name: str, crop: Crop) -> slicer.vtkMRMLSegmentationNode:
    """Write a fused mask into the run's node of this name; a new one is hidden until the user shows it.

    Args:
        name: whose masks were fused, and how, such as "raters STAPLE".
    """
    writer, node = writer_of(scene, run), run.nodes.get(name)
    if node is None:
        node = writer.add_mask(name, crop, COLOURS[name.split()[0]])
        node.SetDisplayVisibility(False)
        sign_as(run, [node])
    else:
        replace_mask(node, segment_id_of(name), crop, writer.to_ras)
    return node
