"""``calibrate`` from the command line: of validation cases, into the description, and from there into results."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from tiny_models import tiny_model

from AmbiguousSegLib.calibration.figures import KEY, calibrated_lines
from AmbiguousSegLib.calibration.fit import Drawn, fit
from AmbiguousSegLib.card import card_html
from AmbiguousSegLib.cli import main
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.evaluation_cases import held_out_cases
from AmbiguousSegLib.description import DESCRIPTION_FILE, WEIGHTS_FILE, read_description
from AmbiguousSegLib.inference.case_sampling import sample_case
from AmbiguousSegLib.inference.point_sampling import Pointing
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.model import load_model, save_model
from AmbiguousSegLib.resources import find_model
from AmbiguousSegLib.volume.field_of_view import slice_at
from AmbiguousSegLib.volume.geometry import Geometry

SIZE, SPACING = 16, 4.0


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """A tiny model of random weights, calibrated on five validation phantoms."""
    folder = tmp_path_factory.mktemp("model")
    save_model(tiny_model(size=SIZE, spacing_mm=SPACING), folder)
    before = (folder / WEIGHTS_FILE).read_bytes(), json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    arguments = ["--data", "phantom", "--cases", "5", "--raters", "3", "--samples", "6", "4", "--levels", "0.5", "0.8"]
    assert main(["calibrate", "--model", str(folder), *arguments]) == 0
    return folder, before


def test_the_description_alone_changes_and_holds_what_fitting_the_validation_cases_gives(calibrated):
    folder, (weights, content) = calibrated
    assert (folder / WEIGHTS_FILE).read_bytes() == weights
    now = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    assert {key: value for key, value in now.items() if key != "calibrations"} == content
    model, said = load_model(folder), read_description(folder)
    assert said.calibrations == model.calibrations and len(said.calibrations) == 1
    config = DataConfig("phantom", (SIZE, SIZE), spacing_mm=SPACING)
    cases = held_out_cases(config, "validation", 5, 3, model.labels)
    drawn = [
        Drawn(c.identity, sample_case(model.method, c.identity, c.image, 6, 0, model.sampling, 16), c.masks)
        for c in cases
    ]
    name = "phantom, validation part: 5 cases of 5 patients"
    assert said.calibrations[0] == fit(drawn, [4, 6], model.sampling, name, [0.5, 0.8])
    assert "4, 6 samples; intervals of 50 % and 80 %; phantom, validation part" in card_html(said)


def test_a_second_sampler_is_added_and_the_same_one_replaced(calibrated, tmp_path):
    folder, _ = calibrated
    save_model(load_model(folder), tmp_path)  # what is saved again keeps its calibration
    assert read_description(tmp_path).calibrations == read_description(folder).calibrations
    few = [
        "calibrate",
        "--model",
        str(tmp_path),
        "--data",
        "phantom",
        "--cases",
        "2",
        "--raters",
        "2",
        "--samples",
        "3",
    ]
    assert main([*few, "--steps", "1"]) == 0
    assert main([*few, "--data-name", "two phantoms"]) == 0
    found = read_description(tmp_path).calibrations
    assert [one.sampling.steps for one in found] == [1, 3]
    assert found[1].data == "two phantoms, validation part: 2 cases of 2 patients"
    assert [entry.samples for entry in found[1].of_samples] == [3]


def test_samples_carry_the_figures_of_their_slice(calibrated):
    """The slice of the largest mean area, its empty samples, curve and intervals; the volume is not validated."""
    model = load_model(calibrated[0])
    calibration = model.calibrations[0]
    entry = replace(
        calibration.of_samples[0], areas=tuple(replace(a, factor=1.0) for a in calibration.of_samples[0].areas)
    )
    model.calibrations = (replace(calibration, of_samples=(entry,)),)
    grid = Geometry((SIZE, SIZE, 3), (SPACING, SPACING, 5.0), (0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    volume = np.random.default_rng(0).random((1, 3, SIZE, SIZE), np.float32)
    samples = sample_volume(model, volume, grid, SampleRequest(samples=5))
    found, n = samples.provenance[KEY], entry.samples
    pixels = samples.masks.sum(axis=(2, 3), dtype=int)
    assert found["samples_used"] == n == 4 and found["slice"] == pixels.sum(0).argmax()
    used = pixels[:n, found["slice"]]
    assert found["no_outline"]["samples_empty"] == np.count_nonzero(used == 0)
    share = (np.count_nonzero(used == 0) + 0.5) / (n + 1)
    curve = entry.no_outline
    chance = 1 / (1 + math.exp(-(curve.offset + curve.slope * math.log(share / (1 - share)))))
    assert found["no_outline"]["probability"] == pytest.approx(chance)
    assert len(found["mean_map"]) == n + 1 and np.all(np.diff(found["mean_map"]) >= 0)
    areas = np.log(used[used > 0] * SPACING**2)
    low, q1, q3, high = np.percentile(areas, (25, 25, 75, 75))  # the ends for 80 % are the quartiles
    scale = math.hypot((q3 - q1) / 2, 0.2)
    assert found["area_mm2"]["intervals"][1] == pytest.approx(
        {"level": 0.8, "low": math.exp(low - scale), "high": math.exp(high + scale)}
    )
    assert found["volume_ml"]["validation"] == "not validated"
    volumes = np.log(samples.volumes_ml()[:n])
    low, high = np.percentile(volumes, (25, 75))
    reach = math.hypot((high - low) / 2, 1.5 * 0.2)
    assert found["volume_ml"]["intervals"][1]["low"] == pytest.approx(math.exp(low - reach))
    lines = calibrated_lines(samples.provenance)
    assert len(lines) == 4 and "(not validated): 50 %" in lines[2] and "outline nothing (calibrated, not " in lines[0]
    assert found["validation"] == "not validated" and lines[3] == f"Not validated: {found['validation_reason']}."


def test_the_slice_is_that_of_the_point_and_one_slice_has_no_volume(calibrated):
    from AmbiguousSegLib.inference.calibrated import calibrated as figures

    model = load_model(calibrated[0])
    masks = np.zeros((6, 3, 4, 4), np.uint8)
    masks[:, 0] = 1
    masks[:2, 2, :2] = 1
    grid = Geometry((4, 4, 3), (1.0, 2.0, 5.0), (0.0, 0.0, 10.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    told = figures(model, model.sampling, masks, grid)[KEY]
    assert told["slice"] == 0 and told["no_outline"]["samples_empty"] == 0
    told = figures(model, model.sampling, masks, grid, (1.0, 1.0, 20.9))[KEY]
    assert told["slice"] == 2 and told["no_outline"]["samples_empty"] == 4
    assert told["area_mm2"] == {"absent": "no interval: 2 of 6 samples outline something, 3 are needed"}
    turned = Geometry((4, 4, 3), (1.0, 2.0, 5.0), (0.0, 0.0, 20.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, -1.0))
    assert figures(model, model.sampling, masks, turned, (1.0, 1.0, 20.9))[KEY]["no_outline"]["samples_empty"] == 0
    flat = Geometry((4, 4, 1), (1.0, 2.0, 5.0), (0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    assert "volume_ml" not in figures(model, model.sampling, masks[:, :1], flat)[KEY]


@pytest.mark.parametrize(
    ("turn", "z", "place"),
    [(1.0, 12.5, 1), (1.0, 17.5, 2), (1.0, 7.5, 0), (-1.0, 17.5, 2), (-1.0, 12.5, 1), (-1.0, 22.5, 2)],
)
def test_between_two_slices_it_is_the_one_that_sampling_takes(calibrated, turn, z, place):
    """Centres at 10, 15 and 20 mm, slices counted to the head: half way it is the upper one, in both orders of the
    array; ``rint`` would take the even index, at 12.5 the lower one in both."""
    from AmbiguousSegLib.inference.calibrated import calibrated as figures

    model = load_model(calibrated[0])
    masks = np.ones((6, 3, 4, 4), np.uint8)
    origin = (0.0, 0.0, 10.0 if turn > 0 else 20.0)
    grid = Geometry((4, 4, 3), (1.0, 2.0, 5.0), origin, (1.0, 0, 0, 0, 1.0, 0, 0, 0, turn))
    point = (1.0, 1.0, z)
    assert figures(model, model.sampling, masks, grid, point)[KEY]["slice"] == place
    assert slice_at(model.preprocessing, grid, point) == place


def test_refined_samples_have_no_calibrated_figures(calibrated):
    from AmbiguousSegLib.inference.calibrated import calibrated as figures

    model, grid = (
        load_model(calibrated[0]),
        Geometry((4, 4, 1), (1.0,) * 3, (0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)),
    )
    told = figures(model, model.sampling, np.ones((6, 1, 4, 4), np.uint8), grid, refined=True)
    assert told == {KEY: {"absent": "the model is calibrated for samples as they are drawn; these are refined"}}


def test_a_slice_is_chosen_by_samples_only_where_there_is_a_choice(calibrated):
    from AmbiguousSegLib.inference.calibrated import calibrated as figures

    model = load_model(calibrated[0])
    masks = np.zeros((6, 3, 4, 4), np.uint8)
    grid = Geometry((4, 4, 3), (1.0, 2.0, 5.0), (0.0, 0.0, 10.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    nowhere = figures(model, model.sampling, masks, grid)[KEY]
    assert list(nowhere) == ["absent"] and "none of the 6 samples outlines anything" in nowhere["absent"]
    for place in ({"slice_range": (2, 2)}, {"point_mm": (1.0, 1.0, 20.0)}):
        found = figures(model, model.sampling, masks, grid, **place)[KEY]
        assert found["slice"] == 2 and "none of the 6 samples" in found["absent"]
    masks[:, 1:] = 1
    for place, number, chosen in (
        ({}, 1, True),
        ({"slice_range": (1, 2)}, 1, True),
        ({"slice_range": (2, 2)}, 2, False),
        ({"point_mm": (1.0, 1.0, 20.0)}, 2, False),
    ):
        found = figures(model, model.sampling, masks, grid, **place)[KEY]
        assert found["slice"] == number and ("validation" in found) == chosen


def test_a_window_beyond_the_field_of_view_has_no_figures(calibrated):
    model = load_model(calibrated[0])
    grid = Geometry((40, 40, 1), (SPACING, SPACING, 5.0), (0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    volume = np.random.default_rng(0).random((1, 1, 40, 40), np.float32)
    found = {}
    for window_mm in (None, SIZE * SPACING, 1.5 * SIZE * SPACING):
        pointing = Pointing((80.0, 80.0, 0.0), window_mm)
        found[window_mm] = sample_volume(model, volume, grid, SampleRequest(4, pointing=pointing)).provenance[KEY]
    larger = found.pop(1.5 * SIZE * SPACING)
    told = "its field of view, 64 × 64 mm; these samples are of a window of 96 × 96 mm"
    assert larger == {"absent": f"the model is calibrated for {told}"}
    assert all("no_outline" in one and "validation" not in one for one in found.values())


def test_what_was_not_calibrated_for_is_said_and_not_guessed(calibrated):
    from AmbiguousSegLib.inference.calibrated import calibrated as figures

    model = load_model(calibrated[0])
    masks, grid = (
        np.ones((3, 1, 2, 2), np.uint8),
        Geometry((2, 2, 1), (1.0,) * 3, (0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)),
    )
    few = figures(model, model.sampling, masks, grid)
    assert few[KEY]["absent"] == "the model is calibrated for 4 samples or more, these are 3"
    other = figures(model, replace(model.sampling, steps=2), masks, grid)
    assert "calibrated for ddim, 3 steps, trailing; these samples were drawn by ddim, 2 steps" in other[KEY]["absent"]
    assert calibrated_lines(other) == [f"Not calibrated: {other[KEY]['absent']}."]
    model.calibrations = ()
    assert figures(model, model.sampling, masks, grid) == {} and calibrated_lines({}) == []


def test_a_bundled_model_is_not_written_to(capsys):
    path = find_model("phantom-cimd-64") / DESCRIPTION_FILE
    before = path.read_bytes()
    assert main(["calibrate", "--model", "phantom-cimd-64", "--data", "phantom"]) == 2
    said = capsys.readouterr().err
    assert "phantom-cimd-64 is a bundled model" in said and f"copy its folder {path.parent}" in said
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--samples", "0"], "--samples and --batch-size must be at least 1"),
        (["--levels", "95"], "--levels must lie between 0 and 1"),
        (["--seed", "-1"], "--seed must lie in"),
        (["--part", "test"], "unrecognized arguments: --part test"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(calibrated, arguments, why, capsys):
    path = calibrated[0] / DESCRIPTION_FILE
    before = path.read_bytes()
    try:
        code = main(["calibrate", "--model", str(calibrated[0]), "--data", "phantom", *arguments])
    except SystemExit as error:
        code = error.code
    assert code == 2 and why in capsys.readouterr().err and path.read_bytes() == before
