"""A scene that earlier code saved (Testing/Past): its runs, tables, fused masks and raters are read as they were."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from shared_data import REPOSITORY

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from AmbiguousSegBridge.generation import more_of, request_of  # noqa: E402
from AmbiguousSegBridge.scene import tables  # noqa: E402
from AmbiguousSegBridge.scene.identity import ATTRIBUTE  # noqa: E402
from AmbiguousSegBridge.scene.raters import candidates, read_rater  # noqa: E402
from AmbiguousSegBridge.scene.runs import crops_of, find_runs, map_array, mask_of, renew_maps  # noqa: E402
from SlicerHost.host import make_host  # noqa: E402

from AmbiguousSegLib.diffusion.settings import SamplerSettings  # noqa: E402

PAST = REPOSITORY / "Testing" / "Past"
EXPECTED = json.loads((PAST / "scene_expected.json").read_text(encoding="utf-8"))
LONG = (ATTRIBUTE + "Table", ATTRIBUTE + "Provenance")


@pytest.fixture
def scene():
    scene = make_host()
    assert scene.ReadFromMRB(str(PAST / "scene.mrb"))
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


def test_nodes_bear_what_they_bore(scene):
    for run, expected in zip(find_runs(scene), EXPECTED["runs"], strict=True):
        assert set(run.nodes) == set(expected["nodes"])
        for role, node in run.nodes.items():
            names = sorted(name for name in node.GetAttributeNames() if name.startswith(ATTRIBUTE))
            attributes = {name: None if name in LONG else node.GetAttribute(name) for name in names}
            got = {"class": node.GetClassName(), "name": node.GetName(), "attributes": attributes}
            assert got == expected["nodes"][role]


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
