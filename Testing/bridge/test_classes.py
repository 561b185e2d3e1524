"""Runs of two classes: a segment per class, maps per class and their entropy, tables, files, edits, raters."""

from __future__ import annotations

import math

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from AmbiguousSegBridge.scene import runs, tables, views  # noqa: E402
from AmbiguousSegBridge.scene.checksums import Checksums  # noqa: E402
from AmbiguousSegBridge.scene.fusions import put_fused  # noqa: E402
from AmbiguousSegBridge.scene.grid import ijk_to_ras  # noqa: E402
from AmbiguousSegBridge.scene.live_run import LiveRun  # noqa: E402
from AmbiguousSegBridge.scene.masks import crops_of, map_array, mask_of  # noqa: E402
from AmbiguousSegBridge.scene.raters import candidates, read_rater  # noqa: E402
from AmbiguousSegBridge.scene.run_writer import box_of  # noqa: E402
from AmbiguousSegBridge.scene.runs import find_run_of, find_runs  # noqa: E402
from AmbiguousSegBridge.scene.sample_sets import add_sample_set, save_scene  # noqa: E402
from AmbiguousSegBridge.scene.segments import add_segment, place_on_grid, read_crop, replace_mask  # noqa: E402
from AmbiguousSegBridge.scene.upkeep import Upkeep  # noqa: E402
from AmbiguousSegBridge.scene.views import Overlay  # noqa: E402
from SlicerHost.host import make_host  # noqa: E402
from SlicerHost.samples import (  # noqa: E402
    CORE_AND_HALO,
    MIRRORED,
    OBLIQUE,
    PLAIN,
    input_volume,
    make_class_samples,
    make_samples,
)

from AmbiguousSegLib.ensemble.disagreement import predictive_entropy  # noqa: E402
from AmbiguousSegLib.ensemble.sample_set import SampleSet  # noqa: E402
from AmbiguousSegLib.volume.crops import Crop  # noqa: E402

NAMES, IDS = ["core", "the halo"], ["core", "the_halo"]


@pytest.fixture
def scene(monkeypatch):
    for pace in (
        "scene.checksums.READING_S",
        "scene.upkeep.COUNTING_S",
    ):  # one call does all, however busy the machine is
        monkeypatch.setattr(f"AmbiguousSegBridge.{pace}", 600.0)
    return make_host()


@pytest.fixture
def run(scene):
    return add_sample_set(scene, make_class_samples(PLAIN), "run", input_volume(scene, PLAIN))


def assert_is(run, samples: SampleSet) -> None:
    """The run holds these samples, and what follows from them."""
    assert run.labels == samples.labels and len(run.samples) == len(samples)
    for crop, mask in zip(crops_of(run), samples.masks, strict=True):
        np.testing.assert_array_equal(crop.full(), mask)
    for label, (mean, variance) in enumerate(zip(run.means, run.variances, strict=True), start=1):
        np.testing.assert_array_equal(map_array(mean), samples.mean(label))
        np.testing.assert_array_equal(map_array(variance), samples.variance(label))
    np.testing.assert_array_equal(map_array(run.entropy), samples.entropy())
    np.testing.assert_array_equal(mask_of(run.consensus, run).full(), samples.consensus())
    rows = tables.read_table(run.tables[tables.VOLUMES])["rows"]
    for name, label in zip(["volume_ml core", "volume_ml the halo", "volume_ml"], (1, 2, None)):
        volumes = samples.volumes_ml(label)
        ends = volumes.min(), volumes.max()  # too few for an interval
        expected = [*volumes, volumes.mean(), np.median(volumes), *ends]
        np.testing.assert_allclose([row[name] for row in rows], expected, rtol=1e-12)


def new_node(scene, name: str, segments: dict[str, np.ndarray], geometry=PLAIN):
    """Segmentation with a segment of each name, as a user draws it."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    place_on_grid(node, geometry, None)
    for number, (title, mask) in enumerate(segments.items(), start=1):
        add_segment(node, f"s{number}", title, (1.0, 0.0, 0.0), "", Crop.of(mask), ijk_to_ras(geometry))
    return node


def edit(run, node, segment_id: str, mask: np.ndarray) -> None:
    replace_mask(node, segment_id, Crop.of(mask), ijk_to_ras(run.geometry))


@pytest.mark.parametrize("geometry", [PLAIN, OBLIQUE, MIRRORED])
def test_a_set_of_two_classes_becomes_a_run(scene, geometry):
    samples = make_class_samples(geometry)
    run = add_sample_set(scene, samples, "run", input_volume(scene, geometry))
    assert find_runs(scene) == [run]
    assert_is(run, samples)


def test_segments_are_named_coloured_and_coded_by_class(run):
    for node in (*run.samples, run.consensus):
        segmentation = node.GetSegmentation()
        assert list(segmentation.GetSegmentIDs()) == IDS
        for label, segment_id in zip(CORE_AND_HALO, IDS):
            segment = segmentation.GetSegment(segment_id)
            assert segment.GetName() == label.name and segment.GetTerminology() == label.terminology
            assert segment.GetColor() == pytest.approx(label.color, abs=1e-6)
    for node, mask in zip(run.samples, make_class_samples(PLAIN).masks):
        for label, segment_id in enumerate(IDS, start=1):
            np.testing.assert_array_equal(read_crop(node, segment_id=segment_id).full(), mask == label)


def test_maps_have_roles_windows_and_colours(run):
    maps_of_run = {"mean core": 1, "mean the halo": 1, "variance core": 0.25, "variance the halo": 0.25}
    colours = set()
    for role, upper in {**maps_of_run, "entropy": math.log(3)}.items():
        display = run.nodes[role].GetDisplayNode()
        assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == pytest.approx((0, upper))
        assert display.GetUpperThreshold() == pytest.approx(upper) and display.GetApplyThreshold()
        table = display.GetColorNode()
        colours.add(tuple(table.GetLookupTable().GetTableValue(k) for k in (0, 128, 255)))
    assert len(colours) == 3  # means, variances and the entropy
    assert run.mean is run.nodes["mean core"] and "mean" not in run.nodes
    joint = Crop.of(make_class_samples(PLAIN).masks.any(axis=0)).box
    assert box_of(run.mean) == joint
    assert run.consensus_threshold is None and run.consensus.GetAttribute("AmbiguousSeg.ConsensusThreshold") is None


def test_entropy_by_hand():
    shares = [np.array([0.5, 0.0, 1.0, 0.25], np.float32), np.array([0.25, 0.0, 0.0, 0.75], np.float32)]
    half, quarter = 0.5 * math.log(2), 0.25 * math.log(4)
    expected = [half + 2 * quarter, 0, 0, quarter - 0.75 * math.log(0.75)]
    np.testing.assert_allclose(predictive_entropy(shares), expected, rtol=1e-6)


def test_consensus_is_the_most_frequent_class_and_ties_are_background(scene):
    masks = np.zeros((4, *PLAIN.shape), np.uint8)
    masks[:, 0, 0, :6] = [[1, 2, 1, 1, 2, 0], [1, 2, 2, 1, 0, 0], [1, 2, 1, 2, 2, 1], [2, 2, 2, 0, 0, 0]]
    run = add_sample_set(scene, SampleSet(masks, PLAIN, labels=CORE_AND_HALO), "run")
    assert mask_of(run.consensus, run).full()[0, 0, :6].tolist() == [1, 2, 0, 1, 0, 0]


def test_a_threshold_is_refused(scene, run):
    live = LiveRun(scene, PLAIN, "other", labels=CORE_AND_HALO)
    live.add(0, Crop.of(make_class_samples(PLAIN).masks[1]))
    for attempt in (
        lambda: live.complete({}, 0.5),
        lambda: runs.renew_maps(scene, run, 0.5),
        lambda: runs.set_consensus_threshold(scene, run, 0.5),
    ):
        with pytest.raises(ValueError, match="takes no threshold"):
            attempt()


def test_samples_that_come_one_by_one_and_more_of_them(scene):
    samples, volume = make_class_samples(PLAIN), input_volume(scene, PLAIN)
    live = LiveRun(scene, PLAIN, "run", volume, labels=CORE_AND_HALO)
    for index in (1, 0):
        live.add(index, Crop.of(samples.masks[index]))
    steps = live.prepare()
    assert sum(1 for _ in steps) >= PLAIN.shape[0]  # a slice in a step
    first = live.complete(samples.provenance)
    assert_is(first, SampleSet(samples.masks[:2], PLAIN, samples.provenance, CORE_AND_HALO))
    more = LiveRun(scene, PLAIN, "run", volume, labels=CORE_AND_HALO, extends=first)
    for index in (2, 3):
        more.add(index, Crop.of(samples.masks[index]))
    whole = more.complete(samples.provenance)
    assert_is(whole, samples)
    assert all(whole.nodes[role] is node for role, node in first.nodes.items())


def test_an_earlier_run_is_kept_if_a_class_was_edited(scene):
    samples, volume = make_class_samples(PLAIN), input_volume(scene, PLAIN)

    def again():
        live = LiveRun(scene, PLAIN, "run", volume, labels=CORE_AND_HALO)
        for index, mask in enumerate(samples.masks):
            live.add(index, Crop.of(mask))
        return live.complete(samples.provenance, keep_different=True)

    again()
    assert again().name == "run" and len(find_runs(scene)) == 1
    (run,) = find_runs(scene)
    edit(run, run.samples[1], "core", samples.masks[1] == 3)
    assert again().name == "run 2" and len(find_runs(scene)) == 2


@pytest.mark.parametrize("geometry", [PLAIN, OBLIQUE, MIRRORED])
def test_a_scene_comes_back_from_its_file(scene, tmp_path, geometry):
    samples = make_class_samples(geometry)
    add_sample_set(scene, samples, "run", input_volume(scene, geometry))
    save_scene(scene, tmp_path / "scene.mrb")
    loaded = make_host()
    assert loaded.ReadFromMRB(str(tmp_path / "scene.mrb"))
    (run,) = find_runs(loaded)
    if geometry is MIRRORED:  # Slicer turns the slices of a left-handed volume round when it reads it
        samples = SampleSet(samples.masks[:, ::-1], run.geometry, samples.provenance, samples.labels)
    assert_is(run, samples)
    renewed = runs.renew_maps(loaded, run)
    tables.renew_volumes(loaded, renewed)
    assert_is(renewed, samples)


def test_a_class_whose_segment_is_gone_marks_nothing_and_a_sample_without_any_is_refused(scene, run):
    samples = make_class_samples(PLAIN)
    run.samples[1].GetSegmentation().RemoveSegment("the_halo")
    assert Upkeep().renew(scene, run, edits=True)
    samples.masks[1][samples.masks[1] == 2] = 0
    assert_is(find_run_of(scene, run.samples[0]), samples)
    run.samples[1].GetSegmentation().RemoveSegment("core")
    with pytest.raises(ValueError, match="'run - sample 02' has lost its mask"):
        crops_of(run)


def test_classes_that_the_user_made_overlap_are_refused_with_their_names(scene, run):
    edit(run, run.samples[1], "the_halo", make_class_samples(PLAIN).masks[1] > 0)
    with pytest.raises(ValueError, match="'core' of 'run - sample 02' and 'the halo' of 'run - sample 02' overlap"):
        runs.renew_maps(scene, run)


def test_voxels_that_change_their_class_are_noticed(scene, run):
    samples, upkeep = make_class_samples(PLAIN), Upkeep()
    assert not upkeep.renew(scene, run, edits=True)
    swapped = samples.masks[1].copy()
    swapped[2, 3, 4], swapped[1, 2, 3:5] = 2, (1, 0)  # as many voxels of the core, one less of the halo's
    swapped[0, 0, 0] = 2
    for label, segment_id in enumerate(IDS, start=1):
        edit(run, run.samples[1], segment_id, swapped == label)
    before = (samples.masks[1] > 0).sum()
    assert (swapped > 0).sum() == before and (swapped == 1).sum() == (samples.masks[1] == 1).sum()
    swapped[2, 3, 5] = 2
    for label, segment_id in enumerate(IDS, start=1):
        edit(run, run.samples[1], segment_id, swapped == label)
    assert (swapped > 0).sum() == before and upkeep.renew(scene, run, edits=True)
    samples.masks[1] = swapped
    assert_is(find_run_of(scene, run.samples[0]), samples)


def test_deleted_maps_are_made_again(scene, run):
    for node in (run.means[1], run.variances[0], run.entropy, run.consensus):
        scene.RemoveNode(node)
    (found,) = find_runs(scene)
    assert found.means[1] is None and found.entropy is None
    assert_is(runs.renew_maps(scene, found), make_class_samples(PLAIN))


def test_overlays_show_the_map_of_a_class(scene, run):
    expected = {Overlay.MEAN: run.means[1], Overlay.VARIANCE: run.variances[1], Overlay.ENTROPY: run.entropy}
    composite = scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    for overlay, node in expected.items():
        views.show_overlay(scene, run, overlay, 0.5, 2)
        assert composite.GetForegroundVolumeID() == node.GetID()
    single = add_sample_set(scene, make_samples(PLAIN), "single")
    with pytest.raises(ValueError, match="has no entropy map"):
        views.show_overlay(scene, single, Overlay.ENTROPY, 0.5)


def test_slices_of_most_disagreement_are_those_of_most_entropy(run):
    samples = make_class_samples(PLAIN)
    totals = samples.entropy().sum(axis=(1, 2), dtype=float)
    assert [number for number, _ in views.slices_of_most_disagreement(run)] == np.argsort(-totals).tolist()


def test_fused_masks_of_two_classes(scene, run):
    fused = make_class_samples(PLAIN).masks[1]
    put_fused(scene, run, {"raters majority": Crop.of(fused)})
    (found,) = find_runs(scene)
    np.testing.assert_array_equal(mask_of(found.nodes["raters majority"], found).full(), fused)


def test_used_as_a_segmentation_it_is_a_rater_of_these_classes(scene, run):
    sample = make_class_samples(PLAIN).masks[1]
    node = runs.use_as_segmentation(scene, run, run.samples[1])
    assert node.GetName() == "core + the halo, from sample 02"
    assert list(node.GetSegmentation().GetSegmentIDs()) == IDS
    (rater,) = candidates(scene, NAMES)
    assert rater.node is node and rater.segment_ids == tuple(IDS) and not rater.problem
    np.testing.assert_array_equal(read_rater(rater, run, False).full(), sample)


def test_segments_that_bear_labels_are_classes_of_one_rater(scene, run):
    mask = make_class_samples(PLAIN).masks[0]
    node = new_node(scene, "Anna", {"the halo": mask == 2, "core": mask == 1})  # in another order than the labels
    (rater,) = candidates(scene, NAMES)
    assert (rater.name, rater.labels) == ("Anna", ("the halo", "core"))
    np.testing.assert_array_equal(read_rater(rater, run, False).full(), mask)
    node.GetSegmentation().RemoveSegment("s1")
    (rater,) = candidates(scene, NAMES)
    np.testing.assert_array_equal(read_rater(rater, run, False).full(), np.where(mask == 1, 1, 0))


@pytest.mark.parametrize(("names", "said"), [(("core", "the halo"), "raters"), (("first", "second"), "auto")])
def test_segments_that_are_raters_mark_the_first_class(scene, run, names, said):
    mask = make_class_samples(PLAIN).masks[0]
    new_node(scene, "Anna", {names[0]: mask == 1, names[1]: mask == 2})
    found = candidates(scene, NAMES, said)
    assert [rater.name for rater in found] == [f"Anna, {name}" for name in names]
    for rater, label in zip(found, (1, 2)):
        np.testing.assert_array_equal(read_rater(rater, run, False).full(), mask == label)


def test_with_one_class_segments_are_raters_whatever_their_names(scene):
    new_node(scene, "Anna", {"nodule": np.ones(PLAIN.shape, bool), "second": np.ones(PLAIN.shape, bool)})
    assert [rater.name for rater in candidates(scene, ["nodule"])] == ["Anna, nodule", "Anna, second"]
    assert [rater.problem for rater in candidates(scene, ["nodule"])] == ["", ""]
    assert all("'second'" in rater.problem for rater in candidates(scene, ["nodule"], "classes"))


def test_a_mixture_is_refused_with_the_names(scene, run):
    mask = make_class_samples(PLAIN).masks[0]
    new_node(scene, "Anna", {"core": mask == 1, "edge": mask == 2})
    named = "Anna: The segments 'edge' do not have the name of a label"
    for rater in candidates(scene, NAMES):
        assert rater.problem.startswith(named)
        with pytest.raises(ValueError, match=named):
            read_rater(rater, run, False)


def test_overlapping_segments_of_a_rater_are_refused_with_their_names(scene, run):
    mask = make_class_samples(PLAIN).masks[1]
    new_node(scene, "Anna", {"core": mask > 0, "the halo": mask == 2})
    (rater,) = candidates(scene, NAMES)
    with pytest.raises(ValueError, match="'core' of 'Anna' and 'the halo' of 'Anna' overlap"):
        read_rater(rater, run, False)


def test_checksums_tell_classes_apart(scene, run):
    mask, checksums = make_class_samples(PLAIN).masks[0], Checksums()
    node = new_node(scene, "Anna", {"core": mask == 1, "the halo": mask == 2})
    raters = candidates(scene, NAMES)
    crops = {"samples": crops_of(run), "raters": [read_rater(rater, run, False) for rater in raters]}
    compared = checksums.of_compared(run, raters, False, crops)
    assert Checksums().changed(compared, run, candidates(scene, NAMES)) == (set(), True)
    for segment_id, label in (("s1", 2), ("s2", 1)):
        edit(run, node, segment_id, mask == label)
    assert checksums.changed(compared, run, candidates(scene, NAMES)) == ({"raters"}, True)
    edit(run, run.samples[1], "core", mask == 3)
    assert checksums.changed(compared, run, candidates(scene, NAMES)) == ({"raters", "samples"}, True)
