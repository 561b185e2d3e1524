"""Writes the files of this folder: what earlier code made, which later code has to open still.

    cd CHECKOUT_OF_THE_COMMIT && OMP_NUM_THREADS=1 python .../Testing/Past/make_past.py

Runs on commit b1fab83 only, from the root of a checkout of it, whose code it imports; the files are written beside this
script. ``training/train.yaml`` alone is written by hand. Never run it again on later code: the files would be no past.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

COMMIT = "b1fab83"
FOLDER = Path(__file__).resolve().parent
CHECKOUT = Path.cwd()

if __name__ == "__main__":
    sys.path[:0] = [str(CHECKOUT / name) for name in (".", "AmbiguousSeg", "Testing")]
    os.environ["PYTHONPATH"] = str(CHECKOUT)  # for the processes that are started
    os.environ["QT_QPA_PLATFORM"] = "offscreen"

import numpy as np  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from tiny_models import randomised  # noqa: E402
from tiny_training import stop_after  # noqa: E402

import AmbiguousSegLib  # noqa: E402
from AmbiguousSegLib.card import Card, Label  # noqa: E402
from AmbiguousSegLib.cli.train import parse  # noqa: E402
from AmbiguousSegLib.data.phantom import Phantom, phantom_volume  # noqa: E402
from AmbiguousSegLib.diffusion.samplers import SamplerSettings  # noqa: E402
from AmbiguousSegLib.methods import Method, build_method  # noqa: E402
from AmbiguousSegLib.methods.drawing import draw_masks  # noqa: E402
from AmbiguousSegLib.model import Model, load_model, save_model  # noqa: E402
from AmbiguousSegLib.resources import find_model  # noqa: E402
from AmbiguousSegLib.sampling.volume import SampleRequest, sample_volume  # noqa: E402
from AmbiguousSegLib.training.loop import Trainer  # noqa: E402
from AmbiguousSegLib.training.sources import held_out_cases, open_data  # noqa: E402
from AmbiguousSegLib.volume.geometry import Geometry  # noqa: E402
from AmbiguousSegLib.volume.io import write_volume  # noqa: E402
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing  # noqa: E402

Box = tuple[slice, slice, slice]

UNET = dict(
    image_size=16,
    model_channels=4,
    channel_mult=(1, 1),
    num_res_blocks=1,
    attention_sizes=(),
    norm_groups=2,
    use_scale_shift_norm=True,
)
ENCODER = dict(filters=(2, 4), convolutions=1, latent_dim=2, log_sigma_limit=5.0)
METHODS = {
    "cimd": dict(unet=UNET, encoder=ENCODER, prediction="x0", variance="posterior", schedule=dict(steps=50)),
    "probabilistic_unet": dict(unet=dict(filters=(4, 8), convolutions=1), encoder=ENCODER),
}
STOPPED_AT = 20  # images
TENSOR_STEP = 5  # of those compared: every fifth
RESULTS_BOX = slice(11, 17), slice(14, 46), slice(30, 62)  # of the phantom volume
SCENE_BOX = slice(11, 19), slice(18, 42), slice(35, 59)
MASKS_BOX = slice(13, 16), slice(None), slice(None)
SAMPLES, SEED = 4, 1  # of masks.npz
SAMPLERS = {"own": None, "ddpm": SamplerSettings("ddpm", 5), "ddim": SamplerSettings("ddim", 5, 1.0)}
VALUE_STEPS = 2048  # of the values kept, from 0 to 1; float16 has no more below 1
RATERS = {"anna": (1.0, 0.65, 0.1), "ben": (0.35, 0.71, 0.95)}


def write_models() -> None:
    """``model`` and ``model_probabilistic_unet``: random weights, busy masks."""
    for name, config in METHODS.items():
        folder = "model" if name == "cimd" else f"model_{name}"
        shutil.rmtree(FOLDER / folder, ignore_errors=True)
        method = randomised(build_method(name, json.loads(json.dumps(config))))
        save_model(_model(method), FOLDER / folder)


def _model(method: Method) -> Model:
    intensity = Intensity("window", -1000.0, 200.0)
    preprocessing = Preprocessing(("CT",), "axial", None, (16, 16), method.size_multiple, intensity)
    card = Card("tiny", "Random weights, for tests.", Label("nodule"))
    return Model(method, preprocessing, SamplerSettings("ddim", 3), card)


def write_training() -> None:
    """``training``, stopped half way, and ``training_expected.json``: what resuming a copy of it to the end gave."""
    preset, folder = FOLDER / "training" / "train.yaml", FOLDER / "training"
    for path in folder.iterdir():
        if path != preset:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    _, config = parse(["--config", str(preset), "--out", str(folder)])
    source, split, _ = open_data(config.dataset, None, config.seed)
    validation = config.validation
    held_out = held_out_cases(config.dataset, split, "validation", validation.cases, validation.raters)
    trainer = Trainer(config, source, split, held_out, folder, torch.device("cpu"))
    if trainer.run(stop_after(trainer, STOPPED_AT)):
        raise RuntimeError("The training was to stop, but came to its end.")
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "training"
        shutil.copytree(folder, copy)
        run_cli("train", "--config", str(preset), "--out", str(copy), "--resume", "--device", "cpu")
        _write_json(FOLDER / "training_expected.json", _end_of(copy))


def _end_of(folder: Path) -> dict[str, Any]:
    state = load_file(folder / "checkpoint.safetensors")
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    compared = sorted(n for n, t in state.items() if n.startswith(("method.", "ema.")) and t.is_floating_point())
    return {
        "torch": torch.__version__,
        "stopped_at": STOPPED_AT,
        "losses": {str(entry["images"]): entry["loss"] for entry in log if "loss" in entry},
        "validation_ged_u": {str(e["images"]): e["validation"]["ged_u"] for e in log if "validation" in e},
        "tensors": {name: _sums(state[name].double()) for name in compared[::TENSOR_STEP]},
    }


def _sums(tensor: torch.Tensor) -> dict[str, Any]:
    return {"shape": list(tensor.shape), "sum": float(tensor.sum()), "abs_sum": float(tensor.abs().sum())}


def write_results() -> None:
    """``volume.nrrd``, and ``results``: what the command line makes of it with the tiny model, but for the picture."""
    phantom = phantom_volume(0)
    write_volume(FOLDER / "volume.nrrd", rounded(phantom, RESULTS_BOX), geometry_of(phantom, RESULTS_BOX))
    shutil.rmtree(FOLDER / "results", ignore_errors=True)
    options = ["--model", str(FOLDER / "model"), "--samples", "3", "--seed", "1", "--device", "cpu"]
    run_cli("sample", str(FOLDER / "volume.nrrd"), "--out", str(FOLDER / "results"), *options)
    (FOLDER / "results" / "overview.png").unlink()  # larger than all the rest


def write_masks() -> None:
    """``masks.npz``: values and masks of the bundled model with three samplers."""
    phantom = phantom_volume(0)
    image, geometry = rounded(phantom, MASKS_BOX), geometry_of(phantom, MASKS_BOX)
    model = load_model(find_model("phantom-cimd-64"), "cpu")
    content: dict[str, np.ndarray] = {
        "image": image,
        "spacing_mm": np.array(geometry.spacing_mm),
        "origin_mm": np.array(geometry.origin_mm),
        "direction": np.array(geometry.direction),
        "shape": np.array((SAMPLES, *geometry.shape)),
    }
    volume = image[None].astype(np.float32)
    for name, settings in SAMPLERS.items():
        request = SampleRequest(SAMPLES, seed=SEED, sampler=settings)
        masks = sample_volume(model, volume, geometry, request).masks
        values = values_of(model, volume, geometry, settings or model.sampling)
        if not np.array_equal(values > 0.5, masks) or not masks.any():
            raise RuntimeError(f"{name}: the values do not give the masks, or nothing is marked.")
        content[f"{name}_masks"] = np.packbits(masks)
        content[f"{name}_values"] = (np.round(values * VALUE_STEPS) / VALUE_STEPS).astype(np.float16)
    np.savez_compressed(FOLDER / "masks.npz", **content)


def values_of(model: Model, volume: np.ndarray, geometry: Geometry, settings: SamplerSettings) -> np.ndarray:
    """What ``sample_volume`` draws, before it is restored and cut: float32 (samples, slices, height, width)."""
    prepared = model.preprocessing.prepare(volume, geometry)
    rows = [(z, k) for k in range(SAMPLES) for z in prepared.slice_indices]
    period = float("inf")
    drawn = draw_masks(model.method, prepared.image, rows, SEED, settings, len(rows), slice_period=period)
    values = torch.cat([values for _, values in drawn])
    return values.numpy().reshape(SAMPLES, len(prepared.slice_indices), *prepared.canvas)


def rounded(phantom: Phantom, box: Box) -> np.ndarray:
    """Part of the phantom in whole HU, which int16 holds."""
    return phantom.image[box].round().astype(np.int16)


def geometry_of(phantom: Phantom, box: Box) -> Geometry:
    """Grid of part of the phantom."""
    spacing = phantom.spacing_mm[::-1]
    starts, shape = [s.start or 0 for s in box], phantom.image[box].shape
    origin = tuple(float(start * mm) for start, mm in zip(starts[::-1], spacing, strict=True))
    return Geometry(shape[::-1], spacing, origin, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


def write_scene() -> None:
    """``scene.mrb``, made by the module's own panels, and ``scene_expected.json``, what lies in it."""
    from SlicerHost import lifecycle

    lifecycle.install()
    try:
        with tempfile.TemporaryDirectory() as temporary:
            _fill_scene(lifecycle, Path(temporary))
        lifecycle.unload_all()
    finally:
        lifecycle.uninstall()


def _fill_scene(host: Any, temporary: Path) -> None:
    import slicer
    from AmbiguousSegBridge.scene.sample_sets import add_volume, save_scene
    from module_driver import Driver

    driver = Driver(host, temporary)
    phantom = phantom_volume(0)
    geometry = geometry_of(phantom, SCENE_BOX)
    driver.parameters.channel1 = add_volume(slicer.mrmlScene, rounded(phantom, SCENE_BOX), geometry, "scan")
    _add_raters(driver, phantom, geometry)
    driver.generate(3, seed=2)
    driver.wait(lambda: "modes" in driver.run.tables)
    first = driver.run.mean
    driver.press("compareButton")
    driver.wait(lambda: "comparison disagreement" in driver.run.tables and "samples STAPLE" in driver.run.nodes)
    driver.press("disagreementPlotButton")
    driver.generate(2, seed=1)  # the second sample is empty
    driver.wait(lambda: driver.run.mean is not first and "modes" in driver.run.tables)
    driver.parameters.run, driver.parameters.comparisonTable = first, "dice"
    driver.settle()
    save_scene(slicer.mrmlScene, temporary / "scene.mrb")
    repack(temporary / "scene.mrb", FOLDER / "scene.mrb")
    _write_json(FOLDER / "scene_expected.json", content_of(slicer.mrmlScene))


def repack(stored: Path, packed: Path) -> None:
    """The same files in a bundle that is compressed: a fifth of the size."""
    with zipfile.ZipFile(stored) as source, zipfile.ZipFile(packed, "w") as target:
        for entry in source.infolist():
            target.writestr(entry, source.read(entry), zipfile.ZIP_DEFLATED, 9)


def _add_raters(driver: Any, phantom: Phantom, geometry: Geometry) -> None:
    """A segmentation for each rater, chosen for the comparison."""
    import slicer
    from AmbiguousSegBridge.scene.grid import ijk_to_ras
    from AmbiguousSegBridge.scene.segments import add_segment, place_on_grid

    from AmbiguousSegLib.volume.crops import Crop
    from AmbiguousSegLib.volume.io import LESION_TERMINOLOGY

    masks = phantom.mode_masks[(0, slice(1, None), *SCENE_BOX)]  # core; core and halo
    nodes = []
    for (name, colour), mask in zip(RATERS.items(), masks, strict=True):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        node.CreateDefaultDisplayNodes()
        place_on_grid(node, geometry, None)
        add_segment(node, "nodule", "nodule", colour, LESION_TERMINOLOGY, Crop.of(mask), ijk_to_ras(geometry))
        nodes.append(node)
    driver.parameters.raterNodes, driver.parameters.raterSegments = nodes, ["nodule"] * len(nodes)
    driver.settle()


def content_of(scene: Any) -> dict[str, Any]:
    """The runs of a scene, for a test: figures, marked voxels, and each node with its class, name and attributes."""
    from AmbiguousSegBridge.scene.raters import candidates
    from AmbiguousSegBridge.scene.runs import crops_of, find_runs, map_array, read_mask

    return {
        "raters": [rater.name for rater in candidates(scene)],
        "runs": [
            {
                "name": run.name,
                "input": run.input.GetName(),
                "label": run.label,
                "sample_voxels": [int(crop.voxels.sum()) for crop in crops_of(run)],
                "consensus_voxels": int(read_mask(run.consensus, run.geometry).voxels.sum()),
                "fused_voxels": {
                    role: int(read_mask(node, run.geometry).voxels.sum())
                    for role, node in run.nodes.items()
                    if node.IsA("vtkMRMLSegmentationNode") and role.split()[0] in ("raters", "samples")
                },
                "mean_sum": float(map_array(run.mean).sum(dtype=np.float64)),
                "variance_sum": float(map_array(run.variance).sum(dtype=np.float64)),
                "geometry": asdict(run.geometry),
                "tables": {role: _table_of(node) for role, node in run.tables.items() if not role.endswith("slices")},
                "nodes": {role: _node_of(node) for role, node in run.nodes.items()},
            }
            for run in find_runs(scene)
        ],
    }


def _table_of(node: Any) -> list[dict[str, Any]]:
    from AmbiguousSegBridge.scene.tables import read_table

    return read_table(node)["rows"]


def _node_of(node: Any) -> dict[str, Any]:
    names = sorted(name for name in node.GetAttributeNames() if name.startswith("AmbiguousSeg."))
    long = ("AmbiguousSeg.Table", "AmbiguousSeg.Provenance")  # the tables are given apart
    attributes = {name: None if name in long else node.GetAttribute(name) for name in names}
    return {"class": node.GetClassName(), "name": node.GetName(), "attributes": attributes}


def copy_presets() -> None:
    """``presets``: training configurations as they were written then."""
    shutil.rmtree(FOLDER / "presets", ignore_errors=True)
    presets = CHECKOUT / "Resources" / "Presets"
    for path in sorted(presets.rglob("*.yaml")):
        target = FOLDER / "presets" / path.relative_to(presets)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def run_cli(*arguments: str) -> None:
    """The command line of the checkout."""
    subprocess.run([sys.executable, "-m", "AmbiguousSegLib", *arguments], check=True, cwd=CHECKOUT)


def check_commit() -> None:
    """RuntimeError on any other code."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, check=True, capture_output=True, text=True, cwd=CHECKOUT).stdout.strip()
    if found != COMMIT or Path(AmbiguousSegLib.__file__).resolve().parents[1] != CHECKOUT.resolve():
        raise RuntimeError(f"This runs in a checkout of {COMMIT} only, on its code; see this script's first lines.")


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    check_commit()
    torch.set_num_threads(1)
    parts = {
        "models": write_models,
        "training": write_training,
        "results": write_results,
        "masks": write_masks,
        "scene": write_scene,
        "presets": copy_presets,
    }
    for name in sys.argv[1:] or parts:
        parts[name]()


if __name__ == "__main__":
    main()
