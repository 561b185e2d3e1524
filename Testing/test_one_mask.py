"""A model that draws nothing says so through every door, computes its network once, and others say nothing of it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from batch_script import batch_script
from tiny_models import randomised, tiny_model
from tiny_training import write_cases

from AmbiguousSegLib.card import card_html
from AmbiguousSegLib.cli import main
from AmbiguousSegLib.description import DESCRIPTION_FILE, ONE_MASK, read_description
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.methods.segnet import SegNetMethod, SegNetMethodConfig
from AmbiguousSegLib.methods.unet import DeterministicUNet, DeterministicUNetConfig
from AmbiguousSegLib.model import load_model, save_model
from AmbiguousSegLib.networks.block_unet import BlockUNetConfig
from AmbiguousSegLib.networks.segnet import SegNetConfig
from AmbiguousSegLib.outputs.result_folder import earlier_files
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.io import read_volume

GRID = Geometry((16, 16, 3), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
TOLD = f"tiny: {ONE_MASK}."


def method(kind: str):
    if kind == "unet":
        return DeterministicUNet(DeterministicUNetConfig(1, BlockUNetConfig(filters=(4, 6), norm_groups=2)))
    network = SegNetConfig(filters=(4, 6), convolutions=(1, 1), norm_groups=2)
    return SegNetMethod(SegNetMethodConfig(1, network, kind, dropout_stages=1))


def saved(folder: Path, kind: str = "unet") -> Path:
    model = tiny_model()
    preprocessing = replace(model.preprocessing, size_multiple=4, plane="stored")
    save_model(replace(model, method=randomised(method(kind)), preprocessing=preprocessing), folder)
    return folder


def scan(folder: Path) -> Path:
    values = np.random.default_rng(0).random(GRID.shape, dtype=np.float32)
    sitk.WriteImage(GRID.image(values), str(folder / "scan.nrrd"))
    return folder / "scan.nrrd"


def summary(folder: Path) -> dict:
    return json.loads((folder / "samples.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("kind", "alone"), [("unet", True), ("none", True), ("aleatoric", True), ("dropout", False)])
def test_description_and_card_say_it(kind, alone, tmp_path):
    folder = saved(tmp_path, kind)
    assert load_model(folder).method.deterministic == read_description(folder).deterministic == alone
    assert (ONE_MASK in card_html(read_description(folder))) == alone
    content = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    assert content.get("deterministic") == (True if alone else None)  # as in every file of earlier versions
    (folder / DESCRIPTION_FILE).write_text(json.dumps(content | {"deterministic": not alone}), encoding="utf-8")
    with pytest.raises(ValueError, match=f"deterministic is {not alone}, but for .* segnet|unet .*it is {alone}; corr"):
        load_model(folder)


def test_in_sampling_the_network_runs_once_a_slice_and_all_masks_are_one(tmp_path, caplog):
    model, calls = load_model(saved(tmp_path)), []
    model.method.unet.register_forward_hook(lambda _module, given, _out: calls.append(len(given[0])))
    volume, geometry = read_volume([scan(tmp_path)])
    found = sample_volume(model, volume, geometry, SampleRequest(16, batch_size=7))
    assert sum(calls) == 3  # slices, however many samples
    assert found.masks.any() and (found.masks == found.masks[:1]).all()
    assert found.provenance["notes"] == [TOLD] and caplog.messages == [TOLD]
    spread = sample_volume(tiny_model(), volume, geometry, SampleRequest(2))
    assert "notes" not in spread.provenance and caplog.messages == [TOLD]


def test_the_commands_and_the_script_say_it(tmp_path, caplog):
    model, image, options = saved(tmp_path / "model"), scan(tmp_path), ["--samples", "2", "--device", "cpu"]
    assert main(["sample", str(image), "--model", str(model), "--out", str(tmp_path / "out"), *options]) == 0
    assert caplog.messages == [TOLD] and summary(tmp_path / "out")["notes"] == [TOLD]
    raters = ["--raters", str(tmp_path / "out" / "sample_01.seg.nrrd"), "--no-figure"]
    assert main(["compare", str(tmp_path / "out"), *raters, "--out", str(tmp_path / "compared")]) == 0
    assert TOLD in (tmp_path / "compared" / "comparison.md").read_text(encoding="utf-8")
    with batch_script() as batch:
        assert batch.main([str(image), "--model", str(model), "--out", str(tmp_path / "batch"), *options]) == 0
    with (tmp_path / "batch" / "batch.csv").open(newline="", encoding="utf-8") as file:
        assert [row["warnings"] for row in csv.DictReader(file)] == [TOLD]
    data = write_cases(tmp_path / "data", 1)
    arguments = ["--data", str(data), "--part", "all", "--no-figure", "--out", str(tmp_path / "judged"), *options]
    assert main(["evaluate", "--model", str(model), *arguments]) == 0
    assert f"tiny: {ONE_MASK}" in (tmp_path / "judged" / "summary.md").read_text(encoding="utf-8")


def test_a_map_of_its_own_is_a_file_that_goes_with_its_result(tmp_path):
    image, out, name = scan(tmp_path), tmp_path / "out", "logit_deviation.nrrd"
    options = ["--out", str(out), "--samples", "1", "--device", "cpu"]
    for kind in ("aleatoric", "unet"):
        saved(tmp_path / kind, kind)
    assert main(["sample", str(image), "--model", str(tmp_path / "aleatoric"), *options]) == 0
    expected = sample_volume(load_model(tmp_path / "aleatoric"), *read_volume([image]), SampleRequest(1)).maps
    written = sitk.ReadImage(str(out / name))
    assert Geometry.of(written).same_grid(GRID) and summary(out)["own_maps"] == ["logit_deviation"]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), expected["logit_deviation"])
    assert name in earlier_files(out)
    assert main(["sample", str(image), "--model", str(tmp_path / "unet"), *options, "--overwrite"]) == 0
    assert not (out / name).exists() and "own_maps" not in summary(out)
    (out / "samples.json").unlink()
    for path in out.iterdir():
        path.unlink()
    (out / name).write_text("mine", encoding="utf-8")
    assert main(["sample", str(image), "--model", str(tmp_path / "aleatoric"), *options]) == 2
    assert [path.name for path in out.iterdir()] == [name]
