"""Decisions kept with a run, and the order in which runs and slices are reviewed: by hand, in MRML."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from AmbiguousSegBridge.scene import review, runs, tables  # noqa: E402
from AmbiguousSegBridge.scene.review import Reviews, accept, choices, copy_to_edit, decisions, take_back  # noqa: E402
from AmbiguousSegBridge.scene.review_queue import ReviewBy, ReviewOf, ReviewQueue  # noqa: E402
from AmbiguousSegBridge.scene.sample_sets import add_sample_set, save_scene  # noqa: E402
from AmbiguousSegBridge.scene.segments import replace_mask  # noqa: E402
from SlicerHost.host import make_host  # noqa: E402
from SlicerHost.samples import MIRRORED, OBLIQUE, PLAIN, input_volume, make_class_samples, make_samples  # noqa: E402

from AmbiguousSegLib.ensemble.sample_set import SampleSet  # noqa: E402
from AmbiguousSegLib.evaluation.review import decisions_table  # noqa: E402
from AmbiguousSegLib.evaluation.table import Column, Table  # noqa: E402
from AmbiguousSegLib.volume.crops import Crop  # noqa: E402

WHEN = "2026-11-27T08:30:00+00:00"


@pytest.fixture
def scene(monkeypatch):
    monkeypatch.setattr(review, "now", lambda: WHEN)
    return make_host()


def run_in(scene, geometry=PLAIN, name="run"):
    return add_sample_set(scene, make_samples(geometry), name, input_volume(scene, geometry))


def found(scene, name="run"):
    return next(run for run in runs.find_runs(scene) if run.name == name)


def choice(run, key):
    return next(entry for entry in choices(run) if entry.key == key)


def state(run) -> str:
    return Reviews().of(run).state


def test_what_can_be_accepted(scene):
    run = run_in(scene)
    columns = tuple(Column(key, key) for key in ("mode", "frequency", "representative"))
    rows = {"mode": 1, "frequency": 0.8, "representative": "sample 02"}, {"mode": 2, "frequency": 0.2}
    modes = Table(columns, (rows[0], rows[1] | {"representative": "sample 09"}))  # of a sample that was deleted
    tables.write_table(scene, run, "modes", modes)
    keys = ["consensus", "mode 1", *(f"sample {k:02d}" for k in range(1, 6))]
    assert [entry.key for entry in choices(found(scene))] == keys
    mode = choice(found(scene), "mode 1")
    assert (mode.kind, mode.mask, mode.node, mode.share) == ("mode", "sample 02", run.samples[1], 0.8)
    scene.RemoveNode(run.consensus)
    assert choices(found(scene))[0].key == "mode 1"
    assert accept(found(scene), mode, "Ann").mode == 1


def test_a_decision_says_who_accepted_what_and_when(scene):
    run = run_in(scene)
    decision = accept(run, choice(run, "sample 02"), " Ann ", "clear")
    assert (decision.kind, decision.mask, decision.reviewer, decision.comment) == (
        "sample",
        "sample 02",
        "Ann",
        "clear",
    )
    assert decision.at == WHEN and decision.voxels == (50,)  # the block of 2 · 5 · 5
    second = accept(run, choice(run, "consensus"), "Ben")
    assert decisions(found(scene)) == (decision, second) and Reviews().of(run).decision == second
    take_back(run)
    assert Reviews().of(found(scene)).decision == decision
    take_back(run)
    take_back(run)
    assert decisions(found(scene)) == () and Reviews().of(run).decision is None and state(run) == ""
    with pytest.raises(ValueError, match="somebody who made it"):
        accept(run, choice(run, "consensus"), "  ")
    scene.RemoveNode(run.mean)
    third = accept(found(scene), choice(found(scene), "sample 01"), "Ann")  # the run's node keeps it, not the map
    assert decisions(found(scene)) == (third,)


def test_time_is_utc_to_the_second():
    date, time = review.now().split("T")
    assert len(date) == 10 and time[8:] == "+00:00"


@pytest.mark.parametrize("geometry", [PLAIN, OBLIQUE, MIRRORED], ids=["plain", "oblique", "mirrored"])
@pytest.mark.parametrize("key", ["sample 01", "sample 05", "consensus", "edited 1"])
def test_decisions_are_saved_loaded_imported_and_renamed(scene, tmp_path, geometry, key):
    """Also for left-handed grids, whose slices Slicer turns round when it reads volumes; sample 5 is empty."""
    run = run_in(scene, geometry)
    copy_to_edit(scene, run, choice(run, "sample 02"))
    made = accept(run, choice(run, key), "Ann")
    run = runs.rename_run(scene, found(scene), "other")
    assert Reviews().of(run).decision == made and state(run) == "unchanged"
    save_scene(scene, tmp_path / "scene.mrb")
    target = make_host()
    run_in(target, geometry, "mine")  # takes the node ids
    target.AddNewNodeByClass("vtkMRMLSegmentationNode")
    assert target.ReadFromMRB(str(tmp_path / "scene.mrb"), False)
    assert decisions(found(target, "mine")) == ()
    run = found(target, "other")
    assert decisions(run) == (made,) and state(run) == "unchanged"


@pytest.mark.parametrize("key", ["sample 02", "consensus", "edited 1"])
def test_what_was_accepted_is_told_to_be_changed_or_deleted(scene, key):
    run = run_in(scene)
    copy_to_edit(scene, run, choice(run, "sample 02"))
    chosen, reviews = choice(run, key), Reviews()
    accept(run, chosen, "Ann")
    assert reviews.of(run).state == "unchanged"
    segment_id = chosen.node.GetSegmentation().GetNthSegmentID(0)
    before = slicer.util.arrayFromSegmentInternalBinaryLabelmap(chosen.node, segment_id).copy()
    as_many = np.zeros(PLAIN.shape, np.uint8)
    as_many.flat[: before.sum()] = 1  # as many voxels, elsewhere
    writer = runs.writer_of(scene, run)
    mask = Crop.of(as_many.astype(bool))
    replace_mask(chosen.node, segment_id, mask, writer.to_ras)
    assert reviews.of(run).state == "changed"
    accept(run, chosen, "Ann")
    assert reviews.of(run).state == "unchanged"
    chosen.node.SetAndObserveTransformNodeID(scene.AddNewNodeByClass("vtkMRMLLinearTransformNode").GetID())
    assert reviews.of(run).state == "changed"
    scene.RemoveNode(chosen.node)
    assert reviews.of(found(scene)).state == "deleted"


def test_a_threshold_moved_changes_the_consensus_that_was_accepted(scene):
    run = run_in(scene)
    accept(run, choice(run, "consensus"), "Ann")
    threshold = run.consensus_threshold
    runs.set_consensus_threshold(scene, run, 0.01)
    assert state(found(scene)) == "changed"
    runs.set_consensus_threshold(scene, found(scene), threshold)
    assert state(found(scene)) == "unchanged"


def test_classes_are_counted_each(scene):
    samples = make_class_samples(PLAIN)
    run = add_sample_set(scene, samples, "run")
    copy = copy_to_edit(scene, run, choice(run, "sample 02"))
    decision = accept(run, choice(run, "edited 1"), "Ann")
    assert decision.voxels == (2 * 5 * 5, 4 * 7 * 7 - 2 * 5 * 5) and state(run) == "unchanged"
    copy.GetSegmentation().RemoveSegment("core")
    assert state(run) == "changed"


def test_each_copy_has_a_number_of_its_own(scene):
    run = run_in(scene)
    first = copy_to_edit(scene, run, choice(run, "sample 02"))
    accept(run, choice(run, "edited 1"), "Ann")
    assert copy_to_edit(scene, run, choice(run, "edited 1")) is first
    scene.RemoveNode(first)
    second = copy_to_edit(scene, run, choice(run, "sample 02"))
    assert choice(run, "edited 2").node is second and state(run) == "deleted"


def test_the_segment_editor_is_told_what_to_edit(scene):
    run = run_in(scene)
    for key in ("sample 01", "sample 02"):  # the node is made once
        node = copy_to_edit(scene, run, choice(run, key))
        review.edit(scene, node, run.input)
    (editor,) = (n for n in scene.GetNodes() if n.IsA("vtkMRMLSegmentEditorNode"))
    assert editor.GetSingletonTag() == "SegmentEditor"  # that of Slicer's module
    assert editor.GetSegmentationNode() is node and editor.GetSourceVolumeNode() is run.input


def lesions(scene) -> dict:
    """Three lesions of one row each in slices of 1 mm³ voxels, two samples each, which agree on 10 voxels."""
    sizes = {"calm": {2: (10, 10)}, "wide": {1: (10, 12), 4: (10, 13)}, "small": {3: (1, 4)}}
    for name, slices in sizes.items():
        masks = np.zeros((2, *PLAIN.shape), bool)
        for z, both in slices.items():
            for sample, length in enumerate(both):
                masks[sample, z, 5, :length] = True
        add_sample_set(scene, SampleSet(masks, PLAIN), name, input_volume(scene, PLAIN))
    return {run.name: run for run in runs.find_runs(scene)}


def test_lesions_are_ordered_by_disagreement_or_interval(scene):
    """A voxel of one of two samples has the variance 1/4. Volumes: 10 and 10; 20 and 25; 1 and 4 mm³."""
    found, queue = lesions(scene), ReviewQueue()

    def order(by):
        items = queue.items(list(found.values()), ReviewOf.LESIONS, by)
        return [(item.run.name, None if item.value is None else round(item.value, 9)) for item in items]

    assert order(ReviewBy.DISAGREEMENT) == [("wide", 5 / 4e3), ("small", 3 / 4e3), ("calm", 0)]
    assert order(ReviewBy.INTERVAL) == [("wide", 0.005), ("small", 0.003), ("calm", 0)]
    assert order(ReviewBy.INTERVAL_SHARE) == [("small", 1.2), ("wide", round(5 / 22.5, 9)), ("calm", 0)]
    scene.RemoveNode(found["wide"].tables["volumes"])
    found["wide"] = runs.find_run_of(scene, found["wide"].mean)
    assert order(ReviewBy.INTERVAL)[-1] == ("wide", None)


def test_slices_of_all_lesions_are_ordered_together(scene):
    """Slices count from the feet, and in a grid of LPS axes as stored."""
    found, queue = lesions(scene), ReviewQueue()
    items = queue.items(list(found.values()), ReviewOf.SLICES, ReviewBy.INTERVAL)
    assert [(item.run.name, item.place.number, round(4e3 * item.value)) for item in items] == [
        ("wide", 4, 3),
        ("small", 3, 3),
        ("wide", 1, 2),
        ("calm", 2, 0),
    ]
    assert items[0].place.position == (-6.0, -5.0, 4.0)  # the middle of all that the run marks, in RAS
    assert queue.worst(found["wide"]).number == 4
    assert [one.number for one in queue.slices(found["wide"])] == [1, 4]


def test_the_queue_follows_renewed_maps(scene):
    found, queue = lesions(scene), ReviewQueue()
    assert queue.worst(found["wide"]).disagreement == 3 / 4
    scene.RemoveNode(found["wide"].samples[1])
    run = runs.renew_maps(scene, runs.find_run_of(scene, found["wide"].mean))
    assert [one.disagreement for one in queue.slices(run)] == [0, 0]
    for node in (run.samples[0], run.mean):
        scene.RemoveNode(node)
    items = queue.items(runs.find_runs(scene), ReviewOf.LESIONS, ReviewBy.DISAGREEMENT)
    assert [item.run.name for item in items] == ["small", "calm"]


def test_the_table_is_of_the_runs_as_they_are(scene):
    found = lesions(scene)
    accept(found["small"], choice(found["small"], "sample 02"), "Ann", "=1+1")
    reviews = Reviews()
    table = decisions_table([reviews.of(run) for run in found.values()])
    by_run = {row["run"]: row for row in table.rows}
    assert by_run["small"] == {
        **{"run": "small", "input": "scan", "accepted": "sample", "mask": "sample 02", "mode": None},
        **{"since_then": "unchanged", "voxels": 4, "volume_ml": 0.004, "reviewer": "Ann", "decided_at": WHEN},
        "comment": "=1+1",
    }
    assert by_run["calm"]["accepted"] is None and by_run["calm"]["input"] == "scan"
