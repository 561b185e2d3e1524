"""Every preset is a valid configuration, and holds the numbers of its paper."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("jsonargparse", reason="training is not installed")

from shared_data import shared_path

from AmbiguousSegLib.cli.common import CommandError
from AmbiguousSegLib.cli.train import parse
from AmbiguousSegLib.data.readers import READERS
from AmbiguousSegLib.data.split import split_cases
from AmbiguousSegLib.data.transforms import AugmentationConfig
from AmbiguousSegLib.diffusion import samplers
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods import build_method
from AmbiguousSegLib.resources import bundled_presets
from AmbiguousSegLib.training.config import TrainingConfig
from AmbiguousSegLib.training.dataset import open_data
from AmbiguousSegLib.volume.preprocessing import Intensity

ALL = list(bundled_presets())
CIMD = {"lidc": "lidc-cimd-128", "bone": "bone-us-cimd-256", "ms": "ms-mri-cimd-64"}
READINGS = {
    "cimd-literal": {"acn_input": "noise"},
    "cimd-frozen": {"acn_input": "noise", "train_encoders": False, "mask_levels": [0.0, 1.0]},
    "cimd-likelihood": {"ambiguity": "likelihood", "ambiguity_weight": "snr"},
}
SYSTEMS = {  # what each differs in from systems/cimd
    "cimd-fc": {"covariance": "full"},
    "cimd-likelihood": {"ambiguity": "likelihood"},
    "ddpm-prob-seg": {"beta_ambiguity": 0.0},
    "ddpm-det-seg": {"beta_ambiguity": 0.0},
    "cimd-literal": {"prediction": "epsilon", "variance": "learned_range", "acn_input": "noise"}
    | {"ambiguity_weight": "uniform"},
    "cimd-frozen": {"prediction": "epsilon", "variance": "learned_range", "acn_input": "noise"}
    | {"ambiguity_weight": "uniform", "train_encoders": False, "mask_levels": [0.0, 1.0], "log_sigma_limit": None},
}


def read(*names: str) -> TrainingConfig:
    arguments = [word for name in names for word in ("--config", name)]
    return parse([*arguments, "--out", "unused"])[1]


def built(config: TrainingConfig) -> torch.nn.Module:
    with torch.device("meta"):
        return build_method(config.method, config.method_config)


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", ALL)
def test_every_preset_builds_its_method_for_its_data(name, caplog):
    with caplog.at_level(logging.WARNING):
        config = read(name)
    assert caplog.messages == []  # no old names
    method = built(config)
    assert method.image_channels == config.dataset.preprocessing().network_channels
    assert all(side % method.size_multiple == 0 for side in config.dataset.size)
    assert config.optimisation.images >= config.validation.every_images
    assert method.classes == len(config.labels)
    if method.samples_by_steps:
        samplers.check(config.sampling, method.sampler_family)
    assert config.sampling.grid == "trailing"


def test_the_papers_experiments_are_all_there():
    assert set(CIMD.values()) <= set(ALL)
    assert {f"ablations/{name}" for name in ("ddpm-prob-seg", "ddpm-det-seg", "cimd-fc", *READINGS)} <= set(ALL)
    assert {name.replace("cimd", "probabilistic-unet") for name in CIMD.values()} <= set(ALL)


@pytest.mark.parametrize("name", CIMD.values())
def test_what_the_cimd_paper_sets_for_all_its_data(name):
    """Section 4.2 and appendix B; 4 samples: Table 1."""
    config = read(name)
    settings = config.method_config
    assert config.method == "cimd"
    assert settings["schedule"] == {"kind": "linear", "steps": 1000}
    assert (settings["lambda_vlb"], settings["beta_ambiguity"]) == (0.001, 0.001)
    assert (settings["prediction"], settings["variance"]) == ("epsilon", "learned_range")
    assert (settings["acn_input"], settings["train_encoders"]) == ("mask", True)
    assert settings["encoder"]["filters"] == [32, 64, 128, 192]
    assert (settings["encoder"]["latent_dim"], settings["encoder"]["covariance"]) == (6, "diagonal")
    assert (config.optimisation.learning_rate, config.optimisation.schedule) == (1e-4, "constant")
    assert config.dataset.target == "random_rater"
    assert config.sampling == SamplerSettings("ddpm", 1000)
    assert config.validation.samples == 4


@pytest.mark.parametrize(
    ("data", "size", "channels"),
    [("lidc", 128, ("CT",)), ("bone", 256, ("US",)), ("ms", 64, ("PD", "FLAIR", "MPRAGE", "T2"))],
)
def test_what_the_cimd_paper_sets_for_each_data_set(data, size, channels):
    config = read(CIMD[data])
    assert config.dataset.size == (size, size)
    assert config.method_config["unet"]["image_size"] == size
    assert config.dataset.channels == channels


def test_networks_have_the_published_size():
    """85,603,842 at 128 and 113,674,370 at 256, both with four image channels, of which three are not needed here."""
    unused = 3 * 9 * 128
    assert parameters(built(read(CIMD["lidc"])).unet) == 85_603_842 - unused
    assert parameters(built(read(CIMD["bone"])).unet) == 113_674_370 - unused
    lidc = built(read(CIMD["lidc"]))
    assert parameters(lidc.amn) == parameters(lidc.acn) == 1_368_108


@pytest.mark.parametrize("data", CIMD)
def test_the_shares_held_out_give_the_papers_test_sets(data):
    """Section 4.1: 1,585 of 15,096 images, 211 of 1,980, one patient of five."""
    counts = {"lidc": (15_096, 1_585), "bone": (1_980, 211), "ms": (5, 1)}
    total, test = counts[data]
    assert read(CIMD[data]).dataset.test_fraction * total == pytest.approx(test, rel=0.005)


def test_ms_patients_stay_together(tmp_path):
    """Five patients: one to test, as the paper has it, one to pick the model, three to train."""
    for patient in range(1, 6):
        for place in ("preprocessed", "masks"):
            (tmp_path / f"training{patient:02d}" / place).mkdir(parents=True)
        for scan in range(1, 5):
            name = f"training{patient:02d}_{scan:02d}"
            for file in ("pd_pp", "flair_pp", "mprage_pp", "t2_pp"):
                (tmp_path / f"training{patient:02d}" / "preprocessed" / f"{name}_{file}.nii").touch()
            for file in ("mask1", "mask2"):
                (tmp_path / f"training{patient:02d}" / "masks" / f"{name}_{file}.nii").touch()
    config = read(CIMD["ms"])
    cases = READERS[config.dataset.kind](tmp_path, config.dataset, config.labels)
    split = split_cases(config.dataset, cases)
    assert [len(part) for part in split.subjects().values()] == [3, 1, 1]
    assert [len(part) for part in (split.train, split.validation, split.test)] == [12, 4, 4]
    order = [file.name.split("_")[2] for file in cases[0].images]
    assert [name.upper() for name in order] == list(config.dataset.channels)


def test_what_the_implicit_ensembles_paper_sets(tmp_path):
    """Wolleb et al., sections 3 and 4: among others, 37 of 369 patients are the test set."""
    config = read("brats-implicit-ensembles-224")
    settings, dataset = config.method_config, config.dataset
    assert (settings["beta_ambiguity"], settings["variance"], settings["lambda_vlb"]) == (0, "learned_range", 0.001)
    assert settings["schedule"] == {"kind": "linear", "steps": 1000}
    assert (settings["unet"]["model_channels"], settings["unet"]["num_heads"]) == (128, 1)
    assert (dataset.size, dataset.plane, len(config.labels)) == ((224, 224), "axial", 1)
    assert dataset.intensity == Intensity("percentile", 1, 99)
    assert (config.optimisation.images, config.optimisation.batch_size) == (60_000 * 10, 10)
    assert config.optimisation.learning_rate == 1e-4 and config.validation.samples == 5
    for number in range(1, 370):
        for file in ("t1", "t1ce", "t2", "flair", "seg"):
            (tmp_path / f"BraTS20_Training_{number:03d}_{file}.nii.gz").touch()
    split = split_cases(dataset, READERS[dataset.kind](tmp_path, dataset, config.labels))
    assert len(split.test) == 37


@pytest.mark.parametrize("name", ["segnet", "bayesian-segnet", "aleatoric-segnet"])
def test_what_the_implicit_ensembles_paper_sets_for_its_comparators(name):
    """Wolleb et al., Appendix B: Adam at 1e-4, batches of 20, 100 epochs of section 4's 16,298 images; p = 0.5."""
    config, ensembles = read(f"brats-{name}-224"), read("brats-implicit-ensembles-224")
    assert (config.dataset, config.labels) == (ensembles.dataset, ensembles.labels)
    settings = config.optimisation
    assert (settings.learning_rate, settings.batch_size, settings.images) == (1e-4, 20, 100 * 16_298)
    method, small = built(config), built(read(f"systems/{name}"))
    kind = {"segnet": "none", "bayesian-segnet": "dropout", "aleatoric-segnet": "aleatoric"}[name]
    assert method.config.uncertainty == small.config.uncertainty == kind and method.config.dropout == 0.5
    assert method.network.up[0][-1].out_channels == (2 if kind == "aleatoric" else 1)  # doubled
    assert method.network.dropped == (3 if kind == "dropout" else 0)
    assert config.validation.samples == (5 if kind == "dropout" else 2)


def test_u_nets_differ_in_their_blocks_and_gates_alone():
    base = read("systems/unet")
    changes = {"residual": {"block": "residual"}, "recurrent": {"block": "recurrent", "recurrences": 2}}
    changes |= {"dense": {"block": "dense", "growth": 16}, "attention": {"attention": True}}
    for name, changed in changes.items():
        other = read(f"systems/unet-{name}")
        assert built(other).config.unet == replace(built(base).config.unet, **changed)
        assert other.optimisation == base.optimisation


def test_what_the_report_on_segdiff_sets(tmp_path):
    """Its sections 3 and 4, the settings of the published code, and the 379 pictures of ISIC 2016 to test."""
    config = read("isic2016-segdiff-256")
    settings, dataset = config.method_config, config.dataset
    assert settings["schedule"] == {"kind": "linear", "steps": 100}
    assert (settings["prediction"], settings["variance"], settings["clip"]) == ("epsilon", "beta", False)
    assert settings["encoder"] == {"filters": 64, "growth": 32, "blocks": 6}
    assert (settings["unet"]["channel_mult"], settings["unet"]["model_channels"]) == ([1, 1, 1, 2, 2, 4, 4], 128)
    assert (dataset.size, dataset.channels, dataset.spacing_mm) == ((256, 256), ("red", "green", "blue"), None)
    assert config.optimisation.images == 30_000 * config.optimisation.batch_size
    assert config.sampling == SamplerSettings("ddpm", 100) and config.validation.samples == 9
    assert config.augmentation.dark_corners > 0
    dense = 9 * (64 * 32 + 96 * 32 + 128 * 32 + 160 * 32 + 192 * 64) + 4 * 32 + 64  # weights and biases
    others = 9 * (3 * 64 + 64 * 64 + 64 * 64 + 64 * 128) + 3 * 64 + 128
    assert parameters(built(config).encoder) == 6 * 3 * dense + others
    for part, numbers in (("Training", range(900)), ("Test", range(900, 1279))):
        for kind, ending in (("Data", ".jpg"), ("GroundTruth", "_Segmentation.png")):
            folder = tmp_path / f"ISBI2016_ISIC_Part1_{part}_{kind}"
            folder.mkdir()
            for number in numbers:
                (folder / f"ISIC_{number:07d}{ending}").touch()
    split = split_cases(dataset, READERS[dataset.kind](tmp_path, dataset, config.labels))
    assert [len(part) for part in (split.train, split.validation, split.test)] == [855, 45, 379]
    assert int(1279 * dataset.test_fraction) == 379  # where no folder tells it


def test_what_the_diffseg_paper_sets():
    """Section 4.1; 13.8M weights as far as a U-Net of whole multiples comes near it."""
    config = read("isic2018-diffseg-128")
    assert (config.method, config.dataset.kind, config.dataset.size) == ("diffseg", "isic", (128, 128))
    settings = config.method_config
    assert settings["levels"] == list(range(60, 151, 10)) and max(settings["levels"]) <= settings["schedule"]["steps"]
    as_in_the_paper = {"level_order": "turn", "draws": 1, "smoothing": 0.0, "threshold": None}
    assert {name: settings[name] for name in as_in_the_paper} == as_in_the_paper
    optimisation = config.optimisation
    assert (optimisation.batch_size, optimisation.learning_rate, optimisation.images) == (4, 5e-4, 500 * 2500)
    changed = config.augmentation
    assert min(changed.blur, changed.rotate_degrees, changed.sharpen) > 0
    assert changed == AugmentationConfig(rotate_degrees=180.0, blur=changed.blur, sharpen=changed.sharpen)
    assert config.validation.samples == 10
    assert parameters(built(config)) == pytest.approx(13.8e6, rel=0.01)
    assert sorted(read("systems/diffseg").method_config["levels"]) == settings["levels"]


def test_the_published_layout_is_read_by_the_lidc_preset():
    config = read(CIMD["lidc"])
    data = open_data(config, shared_path("data/lidc_crops"))
    image, mask, corner = data.source.draw(0, np.random.default_rng(0))
    assert corner == (0, 0) and image.shape == mask.shape == (1, 128, 128)
    assert {case.rater_names for case in data.split.train} == {("label0", "label1", "label2", "label3")}


@pytest.mark.parametrize("data", CIMD)
def test_ablations_change_what_they_name_and_nothing_else(data):
    base = read(CIMD[data])
    prob = read(CIMD[data], "ablations/ddpm-prob-seg")
    det = read(CIMD[data], "ablations/ddpm-det-seg")
    full = read(CIMD[data], "ablations/cimd-fc")
    assert prob.method_config == {**base.method_config, "beta_ambiguity": 0.0}
    assert (prob.dataset, prob.optimisation) == (base.dataset, base.optimisation)
    assert det.method_config == prob.method_config and det.dataset.target == "mean"
    encoder = {**base.method_config["encoder"], "covariance": "full"}
    assert full.method_config == {**base.method_config, "encoder": encoder}
    assert built(prob).amn is None and built(full).amn.conv_layer.weight.shape[0] == 2 * 6 + 6 * 5 // 2


@pytest.mark.parametrize("data", CIMD)
def test_the_baseline_is_compared_on_the_same_data(data):
    baseline, cimd = read(CIMD[data].replace("cimd", "probabilistic-unet")), read(CIMD[data])
    assert (baseline.dataset, baseline.validation) == (cimd.dataset, cimd.validation)
    assert baseline.method_config["beta"] == 10


@pytest.mark.parametrize("data", CIMD)
@pytest.mark.parametrize("name", READINGS)
def test_readings_of_the_paper_change_what_they_name_and_nothing_else(data, name):
    base, reading = read(CIMD[data]), read(CIMD[data], f"ablations/{name}")
    assert reading.method_config == {**base.method_config, **READINGS[name]}
    assert (reading.dataset, reading.optimisation) == (base.dataset, base.optimisation)
    method = built(reading)
    assert (method.likelihood is not None) == (name == "cimd-likelihood")
    assert all(p.requires_grad == (name != "cimd-frozen") for p in method.acn.parameters())


@pytest.mark.parametrize("name", SYSTEMS)
def test_systems_differ_in_what_they_are_and_nothing_else(name):
    base, system = read("systems/cimd"), read(f"systems/{name}")
    flat = [{**c, **c["encoder"]} for c in (base.method_config, system.method_config)]
    differing = {k: v for k, v in flat[1].items() if flat[0][k] != v and k not in ("encoder", "filters")}
    if name.startswith("ddpm"):  # their encoders are never made
        differing = {key: differing[key] for key in ("beta_ambiguity",)}
        assert flat[1]["unet"] == flat[0]["unet"] and built(system).amn is None
        assert (system.dataset.target == "mean") == (name == "ddpm-det-seg")
    assert differing == SYSTEMS[name]
    assert base.sampling == SamplerSettings("dpm++2m", 4)
    few = system.method_config["prediction"] == "x0"  # predicted noise asks for more evaluations
    assert system.sampling == (base.sampling if few else SamplerSettings("ddpm", 25))


def test_the_fed_latent_is_compared_with_the_same_network():
    cimd, fed = read("systems/cimd"), read("systems/cimd-l")
    keys = ("image_size", "model_channels", "channel_mult", "num_res_blocks", "attention_sizes", "num_heads")
    assert all(cimd.method_config["unet"][key] == fed.method_config["unet"][key] for key in keys)
    assert (fed.sampling, fed.optimisation) == (cimd.sampling, cimd.optimisation)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("method_config: {beta_ambiguty: 0.001}", "beta_ambiguty"),
        ("method_config: {unet: {heads: 4}}", "unet.heads"),
        ("dataset: {chanels: [CT]}", "chanels"),
        ("dataset: {size: wide}", "dataset.size"),
        ("optimisation: {learning_rate: fast}", "optimisation.learning_rate"),
        ("method_config: {mask_levels: [0, 2]}", "mask_levels"),
        ("data: {kind: 1}", "data"),
        ("iterations: 1", "iterations"),
        ("method: cmid", "cmid"),
        ("labels: [{nmae: core}]", "labels[0].nmae"),
        ("labels: nodule", "labels"),
        ("labels: []", "1 to 255 labels"),
        ("sampling: {grid: leading}", "leading"),
        ("- method", "mapping"),
        ("method: [", "YAML"),
    ],
)
def test_a_wrong_key_or_value_is_named_in_one_line(tmp_path, text, named):
    file = tmp_path / "preset.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(CommandError) as caught:
        parse(["--config", str(file), "--out", "unused"])
    assert named in str(caught.value).removeprefix(str(file))
    assert "\n" not in str(caught.value)


def test_a_summed_loss_is_not_clipped_as_a_mean_is():
    """The norm of its gradient is in the thousands: a clip of 1 would make each gradient one of norm 1."""
    configs = {name: read(name) for name in ALL}
    summed = {n: c for n, c in configs.items() if c.method in ("probabilistic_unet", "phiseg", "ssn")}
    summed = {n: c for n, c in summed.items() if c.method_config.get("loss") != "energy"}  # a distance in [0, 2]
    assert {"lidc-probabilistic-unet-128", "systems/phiseg", "systems/ssn"} <= set(summed)
    clips = {name: config.optimisation.gradient_clip for name, config in summed.items()}
    assert {name: clip for name, clip in clips.items() if clip is not None and clip < 1000} == {}


def test_latents_of_the_baselines():
    """One network for all four Probabilistic U-Nets, but for its latent; PHi-Seg's weights of its levels."""
    base = read("systems/probabilistic-unet")
    differs = {
        "full": {"covariance": "full"},
        "low-rank": {"covariance": "low_rank", "rank": 2},
        "mixture": {"covariance": "mixture", "components": 3},
    }
    for name, changes in differs.items():
        other = read(f"systems/generalized-probabilistic-unet-{name}")
        assert other.method_config["encoder"] == base.method_config["encoder"] | changes
        assert other.method_config["unet"] == base.method_config["unet"]
        assert other.optimisation == base.optimisation
        assert built(other).prior.config.outputs == {"full": 27, "low-rank": 24, "mixture": 39}[name]
    settings = read("systems/phiseg").method_config
    assert (settings["beta"], settings["level_factor"], settings["network"]["latent_channels"]) == (1, 4, 2)


def test_mose_normalises_its_features():
    """As published, where it is over the batch; without, its masks may end up empty (``methods.mose``)."""
    assert read("systems/mose").method_config["unet"]["norm_groups"] > 0
