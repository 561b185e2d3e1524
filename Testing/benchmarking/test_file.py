"""Benchmark files: what they say, what is wrong with them, and the bundled ones."""

from __future__ import annotations

import json

import pytest
from shared_data import REPOSITORY
from tiny_benchmark import BASE, tiny_benchmark

pytest.importorskip("jsonargparse", reason="training is not installed")

from AmbiguousSegLib.benchmarking.file import TRUTH, read_benchmark
from AmbiguousSegLib.cli.train import parse
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.resources import bundled_benchmarks, find_benchmark, find_split
from AmbiguousSegLib.text_files import read_json, read_yaml
from AmbiguousSegLib.training.config_file import laid_over

RESOURCES = REPOSITORY / "Resources"


def test_layers_make_the_configuration_that_train_makes_of_them(tmp_path):
    layers = ["phantom", "ablations/ddpm-prob-seg"]
    systems = {"x": {"config": layers, "sampling": {"name": "ddim", "steps": 7}}}
    changes = {"base": ["bu-bil-cimd-64"], "systems": systems, "reference": None, "true_distribution": False}
    (system,) = read_benchmark(tiny_benchmark(tmp_path / "b.yaml", **changes)).systems
    names = ["bu-bil-cimd-64", *layers]
    words = [word for name in names for word in ("--config", name)]
    words += ["--sampling.name", "ddim", "--sampling.steps", "7", "--card.name", "x", "--out", "unused"]
    assert system.config == parse(words)[1]
    assert system.config.sampling == SamplerSettings("ddim", 7, "trailing")


def test_a_layer_of_another_method_drops_the_keys_of_the_first():
    below = {"method": "cimd", "method_config": {"beta_ambiguity": 0.0}, "seed": 3, "dataset": {"size": [8, 8]}}
    above = {"method": "probabilistic_unet", "method_config": {"beta": 1.0}, "dataset": {"plane": "axial"}}
    dataset = {"size": [8, 8], "plane": "axial"}
    assert laid_over([below, above]) == {**above, "seed": 3, "dataset": dataset}
    assert laid_over([below, {"method_config": {"lambda_vlb": 1}}])["method_config"] == {
        "beta_ambiguity": 0.0,
        "lambda_vlb": 1,
    }


def test_systems_and_seeds_that_are_asked_for(tmp_path):
    file = tiny_benchmark(tmp_path / "b.yaml")
    found = read_benchmark(file, ["other"], [1, 9], images=20)
    assert [(s.name, s.seeds) for s in found.systems] == [("other", (1,))]
    assert (found.file.budget.images, found.file.budget.cpu_seconds) == (20, None)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"budget": {}}, "either images or cpu_seconds"),
        ({"budget": {"images": 3, "cpu_seconds": 3}}, "either images or cpu_seconds"),
        ({"budget": {"cpu_seconds": 0}}, "cpu_seconds must be positive"),
        ({"seeds": [0, 0]}, "seeds must be different numbers"),
        ({"samples": [16, 4]}, "each larger than the one before"),
        ({"samples": []}, "samples must be"),
        ({"systems": {}}, "lists no system"),
        ({"systems": {"a/b": {"config": {}}}}, "systems.a/b: a name is letters"),
        ({"systems": {TRUTH: {"config": {}}}}, "rename it"),
        ({"systems": {"punet": {"config": {}, "seeds": []}}}, "systems.punet.seeds"),
        ({"systems": {"punet": {"config": {"method": "nope"}}}}, "punet: "),
        ({"systems": {"punet": {"config": "nope"}}}, "punet: There is no file or preset nope"),
        ({"systems": {"punet": {"config": {}, "sampling": {"name": "nope"}}}}, "nope"),
        ({"systems": {"punet": {"config": {"method": "flow_matching"}}}}, "punet: The sampler ddim is of the family"),
        ({"reference": "nope"}, "reference 'nope' is none of the systems punet, other"),
        ({"test": {"part": "train"}}, "part must be one of test, validation"),
        ({"base": {**BASE, "dataset": {"kind": "folder"}}}, "true distribution is known of the phantom alone"),
        ({"colour": "blue"}, "Unknown key colour"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path, changes, named):
    file = tiny_benchmark(tmp_path / "b.yaml", **changes)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read_benchmark(file)
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_what_it_does_not_list(tmp_path):
    file = tiny_benchmark(tmp_path / "b.yaml")
    with pytest.raises(ValueError, match=f"lists no system nope; it has punet, other, {TRUTH}"):
        read_benchmark(file, ["nope"])
    with pytest.raises(ValueError, match="no system has one of the seeds 9"):
        read_benchmark(file, None, [9])
    with pytest.raises(FileNotFoundError, match="no file or benchmark nope; benchmarks: bu-bil, lidc-nodules, phantom"):
        read_benchmark("nope")


@pytest.mark.parametrize("name", bundled_benchmarks())
def test_the_bundled_ones(name):
    """All their systems on their base."""
    content = read_yaml(find_benchmark(name))
    assert content["reference"] in content["systems"]
    systems = {system.name: system for system in read_benchmark(name).systems}
    assert set(systems) == {*content["systems"], *([TRUTH] if content.get("true_distribution") else [])}
    for name, listed in content["systems"].items():
        assert systems[name].seeds == tuple(listed.get("seeds", (0, 1, 2)))
        config = systems[name].config
        assert config.dataset.size == (64, 64)
        assert (config.optimisation.batch_size, config.optimisation.schedule) == (32, "cosine")


def test_bundled_splits_are_found_by_name(tmp_path, monkeypatch):
    wanted = RESOURCES / "Presets" / "benchmarks" / "bu-bil-split.json"
    assert find_split("benchmarks/bu-bil-split") == find_split("benchmarks/bu-bil-split.json") == wanted
    assert find_split("nope.json").name == "nope.json"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "benchmarks").mkdir()
    own = tmp_path / "benchmarks" / "bu-bil-split"
    own.write_text("{}", encoding="utf-8")
    assert find_split("benchmarks/bu-bil-split").resolve() == own.resolve()


def test_no_neighbouring_slices_of_the_aorta_are_in_two_parts():
    split = read_json(RESOURCES / "Presets" / "benchmarks" / "bu-bil-split.json")
    part = {}
    for name, subjects in split.items():
        part |= {int(s[-2:]): name for s in subjects if s.startswith("rabbit_aorta_mri/TPre")}
    assert sorted(part) == list(range(1, 25))
    for number in range(1, 24):
        pair = {part[number], part[number + 1]} - {"unused"}
        assert len(pair) <= 1, number
    assert json.dumps(split).count("rabbit_aorta") == 24
