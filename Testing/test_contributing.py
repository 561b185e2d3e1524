"""What CONTRIBUTING.md tells people to write does what it says, taken from the page word for word."""

from __future__ import annotations

import ast
import re
import sys
import types

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from shared_data import REPOSITORY
from tiny_models import tiny_model

from AmbiguousSegLib.cli import main
from AmbiguousSegLib.data.readers import LAYOUTS, READERS
from AmbiguousSegLib.description import read_description
from AmbiguousSegLib.diffusion.samplers import SAMPLERS
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.inference.case_sampling import sample_case
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.methods import METHODS
from AmbiguousSegLib.metrics.figures import FIGURES, compare, meanings_markdown
from AmbiguousSegLib.outputs import export_formats
from AmbiguousSegLib.outputs.export_formats import FORMATS, export_masks
from AmbiguousSegLib.volume.geometry import Geometry

PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
REGISTERED = (
    *(("brightness", METHODS), ("flat", READERS), ("flat", LAYOUTS), ("empty_share", FIGURES)),
    *(("one_shot", SAMPLERS), ("npy", FORMATS)),
)
GRID = Geometry((4, 3, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


def block(section: str, language: str = "python") -> str:
    """The first code of this language in a section."""
    text = PAGE.split(f"\n### {section}\n")[1].split("\n### ")[0]
    return re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)[1]


@pytest.fixture
def written():
    """Runs the code of a section as a module of its own, and takes what it registers out again."""
    modules = []

    def run(section: str, **given) -> types.ModuleType:
        module = types.ModuleType(f"of_the_page_{len(modules)}")
        modules.append(module.__name__)
        sys.modules[module.__name__] = module  # where dataclasses look
        vars(module).update(given)
        exec(compile(block(section), section, "exec"), vars(module))
        return module

    yield run
    for name in modules:
        del sys.modules[name]
    for name, registry in REGISTERED:
        if name in registry:
            registry.unregister(name)


@pytest.mark.slow
def test_method_preset_and_reader_train_and_are_evaluated(written, tmp_path, capsys):
    written("A method")
    written("A reader")
    data, rng = tmp_path / "data", np.random.default_rng(0)
    data.mkdir()
    for case in range(8):
        image = rng.integers(0, 256, (64, 64), np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(image), str(data / f"ct_{case}.png"))
        for rater, threshold in (("anna", 100), ("ben", 200)):
            mask = (image > threshold).astype(np.uint8)
            sitk.WriteImage(sitk.GetImageFromArray(mask), str(data / f"ct_{case}_{rater}.png"))
    preset = yaml.safe_load(block("A preset", "yaml"))
    assert preset["method"] == "brightness"
    preset |= {"optimisation": {"images": 16, "batch_size": 8}, "labels": yaml.safe_load("[{name: lesion}]")}
    preset["dataset"] |= {"kind": "auto", "validation_fraction": 0.25, "test_fraction": 0.25}
    preset["validation"] |= {"every_images": 16, "cases": 2}
    (tmp_path / "preset.yaml").write_text(yaml.safe_dump(preset), encoding="utf-8")
    arguments = ["--config", str(tmp_path / "preset.yaml"), "--data", str(data), "--out", str(tmp_path / "run")]
    assert main(["train", *arguments, "--device", "cpu"]) == 0
    assert read_description(tmp_path / "run" / "model").method == "brightness"
    written("A figure")
    model, out = str(tmp_path / "run" / "model"), tmp_path / "evaluation"
    assert main(["evaluate", "--model", model, "--data", str(data), "--samples", "3", "--out", str(out)]) == 0
    summary = (out / "summary.md").read_text(encoding="utf-8")
    assert "| brightness |" in summary and "| empty |" in summary


def test_the_figure(written):
    written("A figure")
    samples = np.zeros((4, 5, 5), bool)
    samples[0, 2, 2] = True
    assert compare(samples, samples[:2])["empty_share"] == 0.75
    assert "| empty | share of the samples that mark nothing | alike |" in meanings_markdown()


def test_the_sampler(written):
    written("A sampler")
    model, image = tiny_model(), np.random.default_rng(0).random((1, 16, 16), dtype=np.float32)
    settings = [SamplerSettings("one_shot", 1, options={"gain": 1.0}), SamplerSettings("ddim", 1)]  # in one step alike
    masks = [sample_case(model.method, "a", image, 3, 5, each, batch_size=2) for each in settings]
    assert masks[0].any() and np.array_equal(*masks)


def test_the_output_format(written, tmp_path):
    written("An output format", **vars(export_formats))
    mask = np.arange(24, dtype=np.uint8).reshape(GRID.shape) % 2
    (file,) = export_masks(tmp_path / "out", "npy", [("a", "a", mask)], {}, GRID, [Label()])
    assert file.name == "a.npy" and np.array_equal(np.load(file), mask)


def test_the_rest_is_code_and_every_link_leads_somewhere():
    ast.parse(block("A panel section"))
    assert [
        Label(**{**entry, "color": tuple(entry["color"])}).name
        for entry in yaml.safe_load(block("A label", "yaml"))["labels"]
    ]
    headings = {h.lower().replace(" ", "-") for h in re.findall(r"^### (.+)$", PAGE, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) == headings and len(headings) == 10
    for path in re.findall(r"`((?:AmbiguousSegLib|Testing|Resources|AmbiguousSeg)/[\w./]+)`", PAGE):
        added = path.endswith(("brightness.py", "flat_folder.py", "one_shot.py"))
        assert added or (REPOSITORY / path).exists(), path
