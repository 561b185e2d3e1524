"""What is computed of all samples of a run when it ends, in steps of some milliseconds."""

from __future__ import annotations

import copy
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import slicer

from AmbiguousSegBridge.scene.maps import Maps, Tally, consensus_of, maps_of
from AmbiguousSegBridge.scene.masks import count_marked, map_array, mask_of, read_mask
from AmbiguousSegBridge.scene.run_node import sample_index
from AmbiguousSegBridge.scene.run_writer import box_of
from AmbiguousSegBridge.scene.runs import Run
from AmbiguousSegLib.labels import Label


@dataclass(frozen=True)
class Outcome:
    """What is put into the scene besides the samples.

    Attributes:
        maps: of all samples.
        voxels: how many each sample gives to each class, by the id of its node.
        holds_earlier: whether nothing of the earlier run, if there is one, differs from what these samples make.
    """

    maps: Maps
    voxels: Mapping[str, tuple[int, ...]]
    holds_earlier: bool

    def is_of(self, samples: Sequence[slicer.vtkMRMLSegmentationNode], threshold: float | None) -> bool:
        """Whether it was computed of these samples, and for this threshold."""
        return self.maps.threshold == threshold and set(self.voxels) == {node.GetID() for node in samples}


def outcome_of(
    samples: Sequence[slicer.vtkMRMLSegmentationNode],
    labels: Sequence[Label],
    tally: Tally,
    threshold: float | None,
    extended: Run | None = None,
    earlier: Run | None = None,
) -> Generator[None, None, Outcome]:
    """Steps that return what is computed of the samples, and of those of the run that they extend.

    Args:
        labels: the classes.
        tally: the masks of ``samples``, counted.
        threshold: of the consensus.
        earlier: run that the samples may replace.

    Raises:
        ValueError: if there is no sample, one has lost its mask, or does not lie on the grid.
    """
    nodes = list(samples)
    if extended is not None:
        tally = copy.deepcopy(tally)
        for node in extended.samples:
            tally.add(mask_of(node, extended))
            nodes.append(node)
            yield
    voxels = {}
    for node in nodes:
        voxels[node.GetID()] = count_marked(node, labels)
        yield
    holds_earlier = earlier is None or (yield from _holds(samples, earlier))
    return Outcome((yield from maps_of(tally, threshold)), voxels, holds_earlier)


def _holds(samples: Sequence[slicer.vtkMRMLSegmentationNode], earlier: Run) -> Generator[None, None, bool]:
    """Whether what is in the earlier run would be made of these samples, too."""
    own = {sample_index(node): node for node in samples}
    consensus = [] if earlier.consensus is None else [earlier.consensus]
    classes = len(earlier.labels)
    added = any(node.GetSegmentation().GetNumberOfSegments() > classes for node in [*earlier.samples, *consensus])
    if added or earlier.bears_work:
        return False
    try:
        for node in earlier.samples:
            yield
            mine = own.get(sample_index(node))
            if mine is None or not read_mask(mine, earlier.geometry, earlier.labels).same(mask_of(node, earlier)):
                return False
        yield
        if consensus and None not in earlier.means:
            means = [map_array(node) for node in earlier.means]
            found = consensus_of(means, box_of(earlier.mean), earlier.consensus_threshold)
            return found.same(mask_of(earlier.consensus, earlier))
    except ValueError:  # edited beyond reading
        return False
    return True
