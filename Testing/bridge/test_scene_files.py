"""Samples in the MRML scene, saved and loaded again: .seg.nrrd and .mrb."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from AmbiguousSegBridge.scene import sample_sets as bridge  # noqa: E402
from AmbiguousSegBridge.scene.grid import read_channels  # noqa: E402
from AmbiguousSegBridge.scene.run_writer import sample_colour  # noqa: E402
from AmbiguousSegBridge.scene.runs import find_runs  # noqa: E402
from SlicerHost.host import make_host  # noqa: E402
from SlicerHost.samples import (  # noqa: E402
    MODEL_NAME,
    OBLIQUE,
    hierarchy_of,
    input_volume,
    make_samples,
    node_classes,
)


@pytest.fixture
def scene():
    return make_host()


@pytest.mark.parametrize("index", range(5))
def test_seg_nrrd_round_trip(scene, tmp_path, index):
    slicerio = pytest.importorskip("slicerio")
    samples = make_samples()
    node = bridge.add_sample_set(scene, samples, "run", input_volume(scene)).samples[index]
    path = tmp_path / "sample.seg.nrrd"
    write(scene, node, path)
    loaded = read(make_host(), path)
    np.testing.assert_array_equal(bridge.read_sample(loaded, OBLIQUE), samples.masks[index])
    segment = loaded.GetSegmentation().GetSegment(f"sample_{index + 1:02d}")
    assert segment.GetName() == f"nodule, sample {index + 1:02d}"
    np.testing.assert_allclose(segment.GetColor(), sample_colour(index), atol=1e-4)
    assert slicerio.read_segmentation(str(path))["segments"][0]["id"] == f"sample_{index + 1:02d}"


def write(scene, node, path) -> None:
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    assert storage.WriteData(node)


def read(scene, path):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "loaded")
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    return node


def test_mrb_round_trip_and_a_run_again_in_the_loaded_scene(scene, tmp_path):
    samples = make_samples()
    bridge.add_sample_set(scene, samples, "run", input_volume(scene))
    path = tmp_path / "study 1.mrb"
    bridge.save_scene(scene, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["study 1.mrb"]
    loaded = make_host()
    assert loaded.ReadFromMRB(str(path))
    volume = loaded.GetFirstNodeByName("scan")
    (run,) = find_runs(loaded)
    found = run.nodes
    assert run.input is volume and run.provenance["model"]["name"] == MODEL_NAME
    for index, mask in enumerate(samples.masks):
        node = found[f"sample {index + 1:02d}"]
        np.testing.assert_array_equal(bridge.read_sample(node, OBLIQUE), mask)
    np.testing.assert_array_equal(read_channels([found["mean"]])[0][0], samples.mean())
    np.testing.assert_array_equal(read_channels([found["variance"]])[0][0], samples.variance())
    display = found["variance"].GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0, 0.25)
    assert display.GetColorNode() is found["variance colours"]
    hierarchy = hierarchy_of(loaded)
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(found["mean"]))
    assert hierarchy.GetItemName(folder) == "run"
    before = node_classes(loaded)
    again = bridge.add_sample_set(loaded, samples, "run", volume)
    assert again.folder_item == folder and not loaded.IsNodePresent(found["mean"])
    assert find_runs(loaded) == [again] and len(again.nodes) == len(found)
    assert not Counter(node_classes(loaded)) - Counter(before)  # storage nodes of the loaded run went with it


def test_save_scene_keeps_the_old_file_when_it_fails(scene, tmp_path, monkeypatch):
    path = tmp_path / "scene.mrb"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(ValueError, match="saved as .mrb"):
        bridge.save_scene(scene, tmp_path / "scene.mrml")

    class Full:
        def WriteToMRB(self, *_):
            return False

    with pytest.raises(OSError, match="could not write"):
        bridge.save_scene(Full(), path)
    assert path.read_text(encoding="utf-8") == "old" and len(list(tmp_path.iterdir())) == 1
