"""Benchmark files: what they say, what is wrong with them, and the bundled ones."""

from __future__ import annotations

import json

import pytest
from shared_data import REPOSITORY
from tiny_benchmark import BASE, OTHER, tiny_benchmark
from tiny_training import METHODS

pytest.importorskip("jsonargparse", reason="training is not installed")

from AmbiguousSegLib.benchmarking.file import TRUTH, Budget, read_benchmark
from AmbiguousSegLib.cli.train import parse
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.resources import bundled_benchmarks, find_benchmark, find_preset, find_split
from AmbiguousSegLib.text_files import read_json, read_yaml
from AmbiguousSegLib.training.config_file import laid_over

RESOURCES = REPOSITORY / "Resources"
CIMD = {"method": "cimd", "method_config": METHODS["cimd"]}
FLOW = {"method": "flow_matching", "method_config": METHODS["flow_matching"], "sampling": {"name": "euler", "steps": 2}}


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
    of_any = {"method_config": {"image_channels": 4}}
    assert laid_over([of_any, {"method": "ssn"}]) == {"method": "ssn", **of_any}


def test_a_grid_below_a_flow_is_meant_for_others(tmp_path):
    base = {**BASE, "sampling": {"name": "ddim", "steps": 1, "grid": "both_ends"}}
    file = tiny_benchmark(tmp_path / "b.yaml", base=base, systems={"flow": {"config": FLOW}}, reference="flow")
    assert read_benchmark(file, ["flow"]).systems[0].config.sampling.name == "euler"


def test_systems_and_seeds_that_are_asked_for(tmp_path):
    file = tiny_benchmark(tmp_path / "b.yaml")
    found = read_benchmark(file, ["other"], [1], Budget(images=20))
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
        ({"budget": {"cpu_seconds": float("inf")}}, "cpu_seconds must be positive and finite"),
        ({"systems": {"CON": {"config": {}}}}, "nor a device of Windows"),
        ({"systems": {"lpt1.x": {"config": {}}}}, "nor a device of Windows"),
        ({"systems": {"a.": {"config": {}}}}, "systems.a.: a name is"),
        ({"systems": {"x" * 101: {"config": {}}}}, "at most 100"),
        ({"systems": {"A": {"config": {}}, "a": {"config": {}}}, "reference": None}, "A and a differ only in upper"),
        ({"systems": {"punet": {"config": {"method": "ccdm", "method_config": METHODS["ccdm"]}}}}, "of the family cat"),
        ({"systems": {"punet": {"config": CIMD, "sampling": {"steps": 51}}}}, "steps must lie in [1, 50], got 51"),
        (
            {"systems": {"punet": {"config": FLOW, "sampling": {"grid": "trailing"}}}},
            "grid is 'trailing', but the method",
        ),
        ({"systems": {"punet": {"config": ""}}}, "punet: The name of a YAML file or preset is empty, got ''"),
        ({"base": [""]}, "base: The name of a YAML file or preset is empty, got ''"),
        ({"systems": {"punet": {"config": {"nope": 1}}}}, "punet: its settings: unknown key nope"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path, changes, named):
    file = tiny_benchmark(tmp_path / "b.yaml", **changes)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read_benchmark(file)
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_names_that_yaml_makes_numbers_or_nothing_of(tmp_path):
    text = tiny_benchmark(tmp_path / "b.yaml", reference=None).read_text(encoding="utf-8")
    for name, shown in (("1", "1"), ("null", "None"), ("on", "True")):
        (tmp_path / "b.yaml").write_text(text.replace("  other:", f"  {name}:"), encoding="utf-8")
        with pytest.raises(ValueError, match=f"systems: every name must be text, got {shown}; put it in quotes"):
            read_benchmark(tmp_path / "b.yaml")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dataset": {"size": [32, 32]}}, r"dataset.size is \(16, 16\) in punet and \(32, 32\) in other"),
        ({"dataset": {"kind": "folder"}}, "dataset.kind is 'phantom' in punet and 'folder' in other"),
        ({"labels": [{"name": "core"}]}, r"labels is \['nodule'\] in punet and \['core'\] in other"),
    ],
)
def test_systems_that_would_be_judged_on_different_masks_are_refused(tmp_path, changes, named):
    system = {"method": "probabilistic_unet", "method_config": METHODS["probabilistic_unet"]}
    systems = {"punet": {"config": system}, "other": {"config": {**system, "method_config": OTHER, **changes}}}
    file = tiny_benchmark(tmp_path / "b.yaml", systems=systems, true_distribution=False)
    with pytest.raises(ValueError, match=named + ".*; give it in base alone"):
        read_benchmark(file)


def test_a_layer_written_out_is_read_as_a_file_of_it_is(tmp_path):
    """A rule of intensity takes no limits of the rule below it, and an old name is today's."""
    layer = {"dataset": {"intensity": {"rule": "minmax"}}, "card": {"label": "tumour"}}
    (tmp_path / "layer.yaml").write_text(json.dumps(layer), encoding="utf-8")
    window = {"rule": "window", "low": -1000.0, "high": 200.0}
    base = {**BASE, "dataset": {**BASE["dataset"], "intensity": window}}
    ways = []
    for given in (layer, str(tmp_path / "layer.yaml")):
        systems = {"x": {"config": ["systems/ssn", given]}}
        changes = {"base": base, "systems": systems, "reference": None, "true_distribution": False}
        ways.append(read_benchmark(tiny_benchmark(tmp_path / "b.yaml", **changes)).systems[0].config)
    assert ways[0] == ways[1] and ways[0].labels[0].name == "tumour"


def test_what_it_does_not_list(tmp_path):
    file = tiny_benchmark(tmp_path / "b.yaml")
    with pytest.raises(ValueError, match=f"lists no system nope; it has punet, other, {TRUTH}"):
        read_benchmark(file, ["nope"])
    with pytest.raises(ValueError, match="lists no seed 9; it has 0, 1"):
        read_benchmark(file, None, [0, 9])
    with pytest.raises(FileNotFoundError, match="nope; benchmarks: bu-bil, lidc-nodules, phantom-32, phantom"):
        read_benchmark("nope")


@pytest.mark.parametrize("file", bundled_benchmarks())
def test_the_bundled_ones(file):
    """All their systems on their base."""
    content = read_yaml(find_benchmark(file))
    assert content["reference"] in content["systems"]
    systems = {system.name: system for system in read_benchmark(file).systems}
    assert set(systems) == {*content["systems"], *([TRUTH] if content.get("true_distribution") else [])}
    for name, listed in content["systems"].items():
        assert systems[name].seeds == tuple(listed.get("seeds", (0, 1, 2)))
        config = systems[name].config
        assert config.dataset.size == ((32, 32) if file == "phantom-32" else (64, 64))
        own = read_yaml(find_preset(listed["config"])) if isinstance(listed["config"], str) else {}
        size = own.get("optimisation", {}).get("batch_size", 32)
        assert (config.optimisation.batch_size, config.optimisation.schedule) == (size, "cosine")


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
