"""A run that is being made: its samples enter the scene one by one, its maps when it ends."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import slicer

from AmbiguousSegBridge.scene.folders import folder_of, put_into, remove_empty_folder, remove_nodes
from AmbiguousSegBridge.scene.grid import geometry_of, lies_on
from AmbiguousSegBridge.scene.maps import Tally, at_once
from AmbiguousSegBridge.scene.masks import read_mask
from AmbiguousSegBridge.scene.outcome import Outcome, outcome_of
from AmbiguousSegBridge.scene.run_node import (
    CONSENSUS,
    MEAN,
    ROLE,
    Kind,
    attach,
    complete,
    map_roles,
    origin_of,
    own_nodes,
    references,
    sample_index,
    set_provenance,
)
from AmbiguousSegBridge.scene.run_writer import RunWriter, without_rendering
from AmbiguousSegBridge.scene.runs import (
    Run,
    check_name,
    find_run_of,
    remove_run,
    rename_run,
    run_named,
    run_of,
    set_name,
    unique_run_name,
    writer_of,
)
from AmbiguousSegBridge.scene.segments import place_on_grid
from AmbiguousSegBridge.scene.tables import renew_volumes
from AmbiguousSegLib.ensemble.consensus import checked_threshold
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label
from AmbiguousSegLib.volume.crops import Crop
from AmbiguousSegLib.volume.geometry import Geometry


class LiveRun:
    """A run whose samples enter the scene one by one; ended by ``complete``, ``stop`` or ``discard``.

    Until then it is not found as a run, and an earlier run of the same name on the same input stays. A method that
    fails leaves the scene as it was before it was called. Samples that the user deletes on the way do not count.

    Args:
        geometry: grid of the samples.
        run_name: name of the folder and first part of the names of the nodes; an earlier run is known by it.
        reference_volume: input volume, in ``scene``: gives the nodes their reference geometry, parent transform and
            place in the subject hierarchy. Without one, the mean is the reference.
        labels: the classes 1 to K.
        extends: run to add samples to; its name, input, labels and provenance are kept.

    Raises:
        ValueError: if the name is empty, or the samples do not lie on the grid of the volume or the run.
    """

    def __init__(
        self,
        scene: slicer.vtkMRMLScene,
        geometry: Geometry,
        run_name: str,
        reference_volume: slicer.vtkMRMLScalarVolumeNode | None = None,
        *,
        labels: Sequence[Label] = DEFAULT_LABELS,
        extends: Run | None = None,
    ) -> None:
        check_name(run_name)
        if extends is not None:
            if not extends.geometry.same_grid(geometry):
                raise ValueError(
                    f"The samples do not lie on the grid of run {extends.name!r}: "
                    f"{extends.geometry.difference(geometry)}. Start a new run."
                )
            self._writer = writer_of(scene, extends)
            self._writer.node = None  # what is added is the run's when it is complete
        else:
            if reference_volume is not None and not geometry_of(reference_volume).same_grid(geometry):
                raise ValueError(
                    f"The samples do not lie on the grid of volume {reference_volume.GetName()!r}: expected "
                    f"{geometry_of(reference_volume)}, got {geometry}. Give the volume they were made of."
                )
            transform_id = None if reference_volume is None else reference_volume.GetTransformNodeID()
            self._writer = RunWriter(scene, run_name, geometry, reference_volume, labels, transform_id=transform_id)
        self._scene, self._extends = scene, extends
        self._added: list[slicer.vtkMRMLSegmentationNode] = []
        self._tally = self._count(())
        self._outcome: Outcome | None = None

    @property
    def samples(self) -> list[slicer.vtkMRMLSegmentationNode]:
        """The nodes added so far that are still in the scene."""
        return [node for node in self._added if self._scene.IsNodePresent(node)]

    def add(self, index: int, crop: Crop) -> slicer.vtkMRMLSegmentationNode:
        """Show one more sample.

        Args:
            index: number of the sample, from 0.

        Raises:
            ValueError: if the mask does not fit the grid, or the run has a sample of this number.
        """
        taken = [*self.samples, *(self._extends.samples if self._extends is not None else ())]
        if index in map(sample_index, taken):
            raise ValueError(f"Run {self._writer.run_name!r} has a sample {index + 1} already. Give another index.")
        self._take_in_what_the_user_did()
        with self._all_or_nothing():
            node = self._writer.add_sample(index, crop)
            self._tally.add(crop)
            self._added.append(node)
        return node

    def prepare(self, consensus_threshold: float | None = None) -> Iterator[None]:
        """Compute, in steps of some milliseconds, what ``complete`` or ``stop`` will put into the scene.

        Without it, or if the samples are others by then, they compute it themselves. Arguments and errors are theirs.
        """
        if self.samples:
            self._outcome = yield from self._compute(self._checked(consensus_threshold))

    def complete(
        self, provenance: dict[str, Any], consensus_threshold: float | None = None, keep_different: bool = False
    ) -> Run:
        """Add maps, consensus, table and histogram of volumes; an earlier run of the same name is removed now.

        Args:
            provenance: what made the samples, in plain JSON types; a run that was extended keeps its own.
            consensus_threshold: as in ``SampleSet.consensus``; a run that was extended keeps its own.
            keep_different: keep the earlier run, and give this one a name of its own, if a mask of the earlier one is
                not among these, because the user edited it, for instance.

        Raises:
            ValueError: if there is no sample, or as ``SampleSet.consensus``.
        """
        if not self.samples:
            raise ValueError(f"Run {self._writer.run_name!r} has no sample. Add one, or discard it.")
        threshold = self._checked(consensus_threshold)
        self._take_in_what_the_user_did()
        if self._extends is not None:
            return self._extend(provenance)
        name, earlier, outcome = self._writer.run_name, self._earlier(), self._computed(threshold)
        # Under a name of its own until nothing can fail any more.
        run = self._close(self._unique(name), provenance, outcome)
        if earlier is None or (keep_different and not outcome.holds_earlier):
            return run
        return self._replace(earlier, run, name)

    def stop(self, provenance: dict[str, Any], consensus_threshold: float | None = None) -> Run | None:
        """Keep the samples that are there, as a run with maps over just these; None if there is none.

        An earlier run of the name stays, and the stopped one gets a name of its own.
        """
        if not self.samples:
            self.discard()
            return None
        self._take_in_what_the_user_did()
        if self._extends is not None:
            return self._extend(provenance)
        name = self._writer.run_name
        if self._earlier() is not None:
            name = self._unique(f"{name} (stopped at {len(self.samples)})")
        return self._close(name, provenance, self._computed(self._checked(consensus_threshold)))

    def discard(self) -> None:
        """Remove all that this run added."""
        if (run_node := self._writer.node) is not None and self._scene.IsNodePresent(run_node):
            remove_nodes(self._scene, list(own_nodes(run_node).values()))
            self._scene.RemoveNode(run_node)
        self._writer.node = None

    def _close(self, name: str, provenance: dict[str, Any], outcome: Outcome) -> Run:
        """Make a run of this name out of the samples."""
        writer = self._writer
        with self._all_or_nothing(), without_rendering():
            self._rename(name)
            nodes = writer.put_maps(outcome.maps, {})
            if writer.reference is None:
                first_mean = nodes[map_roles(MEAN, writer.labels)[0]]
                for node in [*self.samples, nodes[CONSENSUS]]:
                    place_on_grid(node, writer.geometry, first_mean)
            set_provenance(writer.node, provenance)
            renew_volumes(self._scene, run_of(writer.node), outcome.voxels)
            complete(writer.node)
        return run_of(writer.node)

    def _replace(self, earlier: Run, run: Run, name: str) -> Run:
        """Remove the earlier run and give this one its name and place."""
        scene = self._scene
        with without_rendering():
            if earlier.folder_item:
                for node in run.nodes.values():
                    if folder_of(scene, [node]):
                        put_into(scene, node, earlier.folder_item)
                remove_empty_folder(scene, run.folder_item)
            remove_run(scene, earlier)
            return rename_run(scene, run, name)

    def _extend(self, provenance: dict[str, Any]) -> Run:
        """Make the samples those of the run to extend, and renew what was made of its samples."""
        scene, writer, run = self._scene, self._writer, self._extended()
        outcome = self._computed(self._extends.consensus_threshold if run is None else run.consensus_threshold)
        if run is None:  # the user removed it meanwhile
            return self._close(self._unique(writer.run_name), provenance, outcome)
        with without_rendering():
            writer.put_maps(outcome.maps, run.nodes)
            for kind in Kind:
                for node in references(writer.node, kind):
                    attach(run.node, node.GetAttribute(ROLE), node, kind)
            scene.RemoveNode(writer.node)
            run = run_of(run.node)
            first = sample_index(run.samples[0])
            set_provenance(run.node, {**run.provenance, "first_sample": first, "sample_count": len(run.samples)})
            renew_volumes(scene, run, outcome.voxels)
        return run_of(run.node)

    def _extended(self) -> Run | None:
        """The run to extend, as it is now; None if there is none, or the user removed it."""
        return None if self._extends is None else find_run_of(self._scene, self._extends.node)

    def _compute(self, threshold: float | None) -> Generator[None, None, Outcome]:
        extended, labels = self._extended(), self._writer.labels
        if extended is not None:
            return outcome_of(self.samples, labels, self._counted(), extended.consensus_threshold, extended)
        return outcome_of(self.samples, labels, self._counted(), threshold, earlier=self._earlier())

    def _computed(self, threshold: float | None) -> Outcome:
        """What was prepared; computed now if that was of other samples, or for another threshold."""
        outcome, self._outcome, extended = self._outcome, None, self._extended()
        samples = [*self.samples, *(extended.samples if extended is not None else ())]
        if outcome is not None and outcome.is_of(samples, threshold):
            return outcome
        return at_once(self._compute(threshold))

    def _counted(self) -> Tally:
        samples = self.samples
        if len(samples) < len(self._added):  # the user deleted some
            grid, labels = self._writer.geometry, self._writer.labels
            self._tally = self._count(read_mask(node, grid, labels) for node in samples)
            self._added = samples
        return self._tally

    def _count(self, crops: Iterable[Crop]) -> Tally:
        return Tally(self._writer.geometry.shape, crops, len(self._writer.labels))

    def _checked(self, threshold: float | None) -> float | None:
        return checked_threshold(threshold, len(self._writer.labels))

    def _take_in_what_the_user_did(self) -> None:
        """The input or the folder may have been deleted, or the input moved, since the last sample."""
        writer = self._writer
        if writer.input is not None and not self._scene.IsNodePresent(writer.input):
            writer.input = writer.reference = None
        if writer.reference is not None and not lies_on(writer.reference, writer.geometry):
            writer.reference = None  # the samples lie where the input lay
        others = own_nodes(self._extends.node).values() if self._extends is not None else ()
        writer.folder = folder_of(self._scene, [*self.samples, *others])

    def _earlier(self) -> Run | None:
        """The run of this name on the same input, even one that was deleted on the way."""
        return run_named(self._scene, self._writer.run_name, origin_of(self._writer.node))

    def _unique(self, name: str) -> str:
        return unique_run_name(self._scene, name, origin_of(self._writer.node))

    def _rename(self, name: str) -> None:
        """Give samples and folder the name of the run, where they bear the one so far."""
        set_name(self._scene, self._writer.node, name)
        self._writer.run_name = name

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Takes back what was made inside if it fails."""
        writer, before = self._writer, set() if self._writer.node is None else set(own_nodes(self._writer.node))
        name = writer.run_name
        try:
            yield
        except BaseException:
            if not before:
                self.discard()
            else:
                made = own_nodes(writer.node)
                remove_nodes(self._scene, [node for role, node in made.items() if role not in before])
                self._rename(name)
            raise
