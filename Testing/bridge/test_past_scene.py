"""Scenes that earlier code saved (Testing/Past): runs, tables, fused masks and raters are read as they were."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from shared_data import REPOSITORY

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from AmbiguousSegBridge.generation import more_of, request_of  # noqa: E402
from AmbiguousSegBridge.scene import tables  # noqa: E402
from AmbiguousSegBridge.scene.lifting import GONE, lift_runs  # noqa: E402
from AmbiguousSegBridge.scene.live_run import LiveRun  # noqa: E402
from AmbiguousSegBridge.scene.masks import crops_of, map_array, mask_of  # noqa: E402
from AmbiguousSegBridge.scene.raters import candidates, read_rater  # noqa: E402
from AmbiguousSegBridge.scene.run_node import ATTRIBUTE, CHANNELS, REQUEST, Kind, references  # noqa: E402
from AmbiguousSegBridge.scene.runs import find_runs, renew_maps  # noqa: E402
from AmbiguousSegBridge.scene.sample_sets import save_scene  # noqa: E402
from SlicerHost.host import make_host  # noqa: E402
from SlicerHost.samples import CORE_AND_HALO, OBLIQUE, make_class_samples, make_samples  # noqa: E402

from AmbiguousSegLib.diffusion.settings import SamplerSettings  # noqa: E402
from AmbiguousSegLib.volume.crops import Crop  # noqa: E402

PAST = REPOSITORY / "Testing" / "Past"
EXPECTED = json.loads((PAST / "scene_expected.json").read_text(encoding="utf-8"))
LONG = (ATTRIBUTE + "Table",)


@pytest.fixture
def scene():
    scene = make_host()
    assert scene.ReadFromMRB(str(PAST / "scene.mrb"))
    lift_runs(scene)
    return scene


def plain(value):
    return json.loads(json.dumps(value))


def voxels(crop) -> int:
    assert crop.voxels.max(initial=0) <= 1
    return int(np.count_nonzero(crop.voxels))


def test_runs_are_as_they_were(scene):
    found = find_runs(scene)
    assert [run.name for run in found] == [run["name"] for run in EXPECTED["runs"]]
    for run, expected in zip(found, EXPECTED["runs"], strict=True):
        assert run.label_names == [expected["label"]] and run.input.GetName() == expected["input"]
        assert [voxels(crop) for crop in crops_of(run)] == expected["sample_voxels"]
        assert voxels(mask_of(run.consensus, run)) == expected["consensus_voxels"]
        fused = {role: voxels(mask_of(run.nodes[role], run)) for role in expected["fused_voxels"]}
        assert fused == expected["fused_voxels"]
        assert float(map_array(run.mean).sum(dtype=float)) == expected["mean_sum"]
        assert float(map_array(run.variances[0]).sum(dtype=float)) == expected["variance_sum"]
        assert plain(asdict(run.geometry)) == expected["geometry"]
        read = {role: tables.read_table(node)["rows"] for role, node in run.tables.items()}
        assert {role: rows for role, rows in read.items() if not role.endswith("slices")} == expected["tables"]


def test_nodes_are_what_they_were_and_the_run_says_what_each_of_them_said(scene):
    for run, expected in zip(find_runs(scene), EXPECTED["runs"], strict=True):
        assert set(run.nodes) == set(expected["nodes"])
        for role, node in run.nodes.items():
            names = sorted(name for name in node.GetAttributeNames() if name.startswith(ATTRIBUTE))
            attributes = {name: None if name in LONG else node.GetAttribute(name) for name in names}
            past = expected["nodes"][role]
            kept = {name: value for name, value in past["attributes"].items() if name not in GONE}
            assert (node.GetClassName(), node.GetName(), attributes) == (past["class"], past["name"], kept)
        assert run.node.GetAttribute(REQUEST) == expected["nodes"]["mean"]["attributes"][REQUEST]
        assert run.provenance["seed"] == int(expected["nodes"]["mean"]["attributes"][ATTRIBUTE + "Seed"])


def test_raters_are_read(scene):
    (run, _), found = find_runs(scene), candidates(scene, ["nodule"])
    assert [rater.name for rater in found] == EXPECTED["raters"]
    volumes = [row["volume_ml"] for row in EXPECTED["runs"][0]["tables"]["comparison dice_max"]]
    read = [voxels(read_rater(rater, run, False)) * run.geometry.voxel_volume_ml for rater in found]
    assert read == pytest.approx(volumes)


def test_more_of_an_old_run_is_sampled_as_that_was(scene):
    for run in find_runs(scene):
        asked = request_of(run)["sampler"]
        assert set(asked) == {"name", "steps"}  # of before grids had names
        settings = more_of(run, 4, "cpu")
        assert settings.sampler == SamplerSettings(asked["name"], asked["steps"], "both_ends")
        assert settings.sampler_argument() == {**asked, "grid": "both_ends", "options": {}}
        assert settings.seed == run.provenance["seed"] and settings.volumes == (run.input,)


def test_what_is_renewed_stays_the_same(scene):
    for run in find_runs(scene):
        maps = map_array(run.mean).copy(), map_array(run.variances[0]).copy(), mask_of(run.consensus, run)
        volumes = tables.read_table(run.tables[tables.VOLUMES])
        renewed = renew_maps(scene, run)
        tables.renew_volumes(scene, renewed)
        np.testing.assert_array_equal(map_array(renewed.mean), maps[0])
        np.testing.assert_array_equal(map_array(renewed.variances[0]), maps[1])
        assert mask_of(renewed.consensus, renewed).same(maps[2])
        table = tables.read_table(renewed.tables[tables.VOLUMES])
        assert table["columns"] == volumes["columns"]
        assert table["rows"][:-2] == volumes["rows"][:-2]  # three samples had an interval of 95 %
        assert [row["sample"] for row in table["rows"][-2:]] == ["least", "greatest"]


@pytest.fixture
def attributed():
    """Runs as the last version before run nodes saved them; see make_past_scene.py."""
    scene = make_host()
    for clear in (True, False):  # on top of each other
        assert scene.ReadFromMRB(str(PAST / "scene_attributes.mrb"), clear, None)
        lift_runs(scene)
    return scene


def test_runs_of_one_class_and_of_several_are_lifted_each_time_their_scene_is_imported(attributed):
    one, two, again, two_again = find_runs(attributed)
    assert [one.name, two.name] == [again.name, two_again.name] == ["scan samples", "two classes"]
    assert len({node.GetID() for run in (one, again, two, two_again) for node in run.nodes.values()}) == sum(
        len(run.nodes) for run in (one, two, again, two_again)
    )
    for run in (one, again):
        assert run.input.GetName() == "scan" and references(run.node, CHANNELS) == [run.input]
        assert run.label_names == ["nodule"] and "Lesion" in run.labels[0].terminology
        assert request_of(run)["seed"] == run.provenance["seed"] == 5 and request_of(run)["channels"] == ["scan"]
        for crop, mask in zip(crops_of(run), make_samples().masks, strict=False):
            np.testing.assert_array_equal(crop.full(), mask)
    assert one.input is not again.input
    for run in (two, two_again):
        assert run.input is None and run.labels == CORE_AND_HALO and None not in (*run.means, *run.variances)
        assert run.entropy is not None and tables.VOLUMES in run.tables
        assert [node.GetName() for node in references(run.node, Kind.SAMPLES)][3] == "two classes - sample 04"
        for crop, mask in zip(crops_of(run), make_class_samples().masks, strict=True):
            np.testing.assert_array_equal(crop.full(), mask)


def test_copies_and_what_was_under_way_are_nobodys_in_a_lifted_scene(attributed):
    names = [rater.name for rater in candidates(attributed)]
    assert sorted(names) == ["a copy", "a copy (2)", "under way - sample 01", "under way - sample 01 (2)"]
    before = [run.nodes for run in find_runs(attributed)]
    lift_runs(attributed)
    assert [run.nodes for run in find_runs(attributed)] == before


def test_a_lifted_run_takes_more_samples_and_comes_back_from_its_file(attributed, tmp_path):
    run = find_runs(attributed)[0]
    live = LiveRun(attributed, OBLIQUE, run.name, run.input, extends=run)
    live.add(3, Crop.of(make_samples().masks[3]))
    more = live.complete({})
    assert more.node is run.node and len(more.samples) == 4 and more.folder_item == run.folder_item
    save_scene(attributed, tmp_path / "scene.mrb")
    scene = make_host()
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"))
    found = find_runs(scene)
    assert [len(run.samples) for run in found] == [4, 4, 3, 4] and request_of(found[0])["seed"] == 5
    np.testing.assert_array_equal(map_array(found[0].mean), make_samples().masks[:4].mean(axis=0, dtype=np.float32))
