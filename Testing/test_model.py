"""A model folder gives back what was saved, and a damaged one is refused in one line."""

from __future__ import annotations

import errno
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import randomised, tiny_cimd, tiny_model
from tiny_training import METHODS, sampling_of

from AmbiguousSegLib.description import DESCRIPTION_FILE, FORMAT_VERSION, INTENDED_USE, WEIGHTS_FILE, Card
from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.methods import build_method
from AmbiguousSegLib.model import Model, load_model, save_model
from AmbiguousSegLib.quality import QualityPreset
from AmbiguousSegLib.resources import bundled_models
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.inputs import ChannelValues, Inputs
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing

pytestmark = pytest.mark.numerical

CARD = Card(
    "lesions",
    "of two raters, µm",
    training={"data": "phantom", "images_seen": 12, "configuration": {"seed": 3, "list": [1, None]}},
    metrics={"ged_u": 0.25, "d_a": None},
    limits=("Children: none was seen.",),
)
LABELS = (Label("tumour", (0.1, 0.2, 0.3)),)
SAMPLING = SamplerSettings("ddim", 3, "both_ends", {"eta": 0.5})
QUALITIES = {"fast": QualityPreset(SamplerSettings("dpm++2m", 2), 0.02, None)}


@pytest.fixture
def model() -> Model:
    """Every part differs from its default."""
    preprocessing = Preprocessing(
        ("T1", "T2"), "coronal", 1.5, (16, 32), 4, (Intensity("minmax"), Intensity("percentile", 1.0, 99.0))
    )
    return Model(tiny_cimd(2), preprocessing, SAMPLING, CARD, LABELS, QUALITIES)


@pytest.fixture
def folder(model, tmp_path) -> Path:
    save_model(model, tmp_path / "model")
    return tmp_path / "model"


def edit(folder: Path, **changes) -> None:
    """Change entries of the description; ``...`` takes one away."""
    path = folder / DESCRIPTION_FILE
    description = json.loads(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        *parents, name = key.split("__")
        place = description
        for parent in parents:
            place = place[parent]
        if value is ...:
            del place[name]
        else:
            place[name] = value
    path.write_text(json.dumps(description), encoding="utf-8")


def put_weights(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Other weights, and a description that agrees with them."""
    save_file(state, folder / WEIGHTS_FILE)
    edit(folder, weights_sha256=hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest())


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load_model(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


def sampled(model: Model) -> torch.Tensor:
    """In float64: in float32 two copies of the same weights round as they happen to lie in memory."""
    image = torch.rand(1, model.method.image_channels, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        method = model.method.double()
        noise = RowNoise(4, [(0, 0)], dtype=torch.float64)
        return method.sample(method.prepare(image), noise, model.sampling)


# There and back


def test_everything_comes_back_bit_for_bit(model, folder):
    loaded = load_model(folder)
    saved = model.method.state_dict()
    state = loaded.method.state_dict()
    assert list(state) == list(saved)
    assert all(torch.equal(state[name], saved[name]) and state[name].dtype == saved[name].dtype for name in saved)
    assert loaded.method.config == model.method.config
    assert (loaded.preprocessing, loaded.sampling, loaded.card) == (model.preprocessing, SAMPLING, CARD)
    assert (loaded.labels, loaded.qualities) == (LABELS, QUALITIES)
    torch.testing.assert_close(sampled(loaded), sampled(model), rtol=0, atol=1e-14)  # measured: 1.3e-15


@pytest.mark.parametrize("name", METHODS)
def test_every_method_comes_back(name, tmp_path):
    method = randomised(build_method(name, METHODS[name]))
    preprocessing = Preprocessing(("x",), "stored", None, (16, 16), 2, Intensity("minmax"))
    save_model(Model(method, preprocessing, sampling_of(name)), tmp_path)
    loaded = load_model(tmp_path).method
    assert type(loaded) is type(method) and loaded.config == method.config
    state, saved = loaded.state_dict(), method.state_dict()
    assert state.keys() == saved.keys() and all(torch.equal(state[key], saved[key]) for key in saved)


def test_a_loaded_model_is_ready_to_sample(folder):
    loaded = load_model(folder)
    assert not loaded.method.training
    assert not any(parameter.requires_grad for parameter in loaded.method.parameters())
    assert loaded.device == torch.device("cpu")


def test_saving_twice_gives_the_same_files(model, folder, tmp_path):
    save_model(load_model(folder), tmp_path / "again")
    for name in (DESCRIPTION_FILE, WEIGHTS_FILE):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_what_it_was_trained_on_is_kept_and_may_be_unknown(model, tmp_path):
    channels = len(model.preprocessing.channels)
    grid = Geometry((8, 6, 4), (0.5, 0.5, 3.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    known = Inputs.of([ChannelValues(0, 1, 2, 3, 4, True)] * channels, grid, "axial", "MR")
    save_model(replace(model, inputs=known), tmp_path / "known")
    assert load_model(tmp_path / "known").inputs == known
    save_model(model, tmp_path / "unknown")
    assert load_model(tmp_path / "unknown").inputs is None
    text = (tmp_path / "unknown" / DESCRIPTION_FILE).read_text(encoding="utf-8")
    assert "inputs" not in json.loads(text)  # as it was written before there was such a thing
    digests = {load_model(tmp_path / name).weights_sha256 for name in ("known", "unknown")}
    assert len(digests) == 1
    with pytest.raises(ValueError, match=rf"describes {channels + 1} channel\(s\), preprocessing names {channels}"):
        replace(model, inputs=replace(known, channels=(*known.channels, known.channels[0])))


@pytest.mark.parametrize("folder", bundled_models(), ids=lambda folder: folder.name)
def test_a_bundled_description_is_as_it_would_be_written(folder, tmp_path):
    save_model(load_model(folder), tmp_path, half=True)
    for name in (DESCRIPTION_FILE, WEIGHTS_FILE):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_the_description_names_its_weights(folder):
    digest = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    description = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    assert description["weights_sha256"] == digest == load_model(folder).weights_sha256
    assert description["format_version"] == FORMAT_VERSION
    assert description["card"]["intended_use"] == INTENDED_USE and "Research use only" in INTENDED_USE


def test_half_precision_rounds_once_and_computes_in_single(model, folder, tmp_path):
    save_model(model, tmp_path / "half", half=True)
    loaded = load_model(tmp_path / "half").method.state_dict()
    for name, tensor in model.method.state_dict().items():
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], tensor.half().float())
        assert (loaded[name] - tensor).abs().max() <= 2**-11 * tensor.abs().max()
    whole, half = ((place / WEIGHTS_FILE).stat().st_size for place in (folder, tmp_path / "half"))
    assert half < 0.6 * whole


def test_moving_a_model_to_where_it_is_returns_it(model):
    assert model.to("cpu") is model


# What does not fit together


def test_labels_must_fit_the_classes_of_the_method(model):
    with pytest.raises(
        ValueError, match=r"distinguishes 1 class\(es\), but there are 2 label\(s\), core, halo; give one"
    ):
        replace(model, labels=(Label("core"), Label("halo")))
    with pytest.raises(ValueError, match="1 to 255 labels, got 0"):
        replace(model, labels=())


@pytest.mark.parametrize("name", METHODS)
def test_labels_of_several_classes(name):
    method = build_method(name, {**METHODS[name], "classes": 2})
    preprocessing = Preprocessing(("x",), "stored", None, (16, 16), 2, Intensity("minmax"))
    sampling = sampling_of(name)
    assert Model(method, preprocessing, sampling, labels=(Label("core"), Label("halo"))).labels[1].name == "halo"
    with pytest.raises(ValueError, match="Labels must differ in name, got core, core"):
        Model(method, preprocessing, sampling, labels=(Label("core"), Label("core")))
    with pytest.raises(ValueError, match=r"distinguishes 2 class\(es\), but there are 1"):
        Model(method, preprocessing, sampling)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SamplerSettings("leap"), "Unknown sampler 'leap'"),
        (SamplerSettings("euler"), "euler is of the family flow, but the method needs one of the family gaussian"),
        (SamplerSettings(grid="leading"), "Unknown step grid 'leading'"),
        (SamplerSettings("dpm++2m", options={"eta": 1.0}), "has no option 'eta'"),
        (SamplerSettings("ddim", options={"eta": True}), "must be a finite number, got True"),
        (SamplerSettings("ddim", options={"eta": float("nan")}), "must be a finite number, got nan"),
    ],
)
def test_samplers_are_known(model, settings, message):
    with pytest.raises(ValueError, match=message):
        replace(model, sampling=settings)
    with pytest.raises(ValueError, match=message):
        replace(model, qualities={"fast": QualityPreset(settings)})


def test_channels_and_sizes_must_fit_the_network(model):
    one = replace(model.preprocessing, channels=("T1",), intensity=Intensity("minmax"))
    with pytest.raises(ValueError, match="reads 2 channels, preprocessing gives 1"):
        replace(model, preprocessing=one)
    odd = replace(model.preprocessing, size=(15, 15), size_multiple=3)
    with pytest.raises(ValueError, match="size_multiple 3 must be a multiple of the network's 2"):
        replace(model, preprocessing=odd)


# Damaged weights


@pytest.mark.parametrize("place", [0, 100, -1])
def test_one_flipped_bit_is_refused_by_the_checksum(folder, place):
    data = bytearray((folder / WEIGHTS_FILE).read_bytes())
    data[place] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(data)
    refused(folder, r"not those that model.json names \(sha256 .*; the file was changed or truncated")


def test_truncated_weights_are_refused_by_the_checksum(folder):
    data = (folder / WEIGHTS_FILE).read_bytes()
    for size in (0, 7, len(data) // 2):
        (folder / WEIGHTS_FILE).write_bytes(data[:size])
        refused(folder, "sha256 .*truncated")


def test_missing_weights_are_refused(folder):
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r"model.safetensors: the weights are missing beside model.json"):
        load_model(folder)


def test_other_bytes_with_their_checksum_are_no_weights(folder):
    (folder / WEIGHTS_FILE).write_bytes(b"not a tensor at all")
    edit(folder, weights_sha256=hashlib.sha256(b"not a tensor at all").hexdigest())
    refused(folder, "not a safetensors file")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("half", [False, True])
def test_weights_that_are_no_numbers_are_refused_by_the_name_of_a_tensor(folder, value, half):
    state = load_file(folder / WEIGHTS_FILE)
    name = next(name for name, tensor in state.items() if tensor.numel() > 3)
    if half:
        state = {key: tensor.half() for key, tensor in state.items()}
    state[name].view(-1)[3] = value
    put_weights(folder, state)
    refused(folder, f"1 of .* weights of {name} are NaN or infinite, expected finite ones")


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.int32, torch.uint8, torch.bool])
def test_weights_of_another_type_are_refused_by_the_name_of_a_tensor(folder, kind):
    state = load_file(folder / WEIGHTS_FILE)
    name = next(iter(state))
    state[name] = state[name].to(kind)
    put_weights(folder, state)
    refused(folder, f"{name} is {kind}, expected .*float")


@pytest.mark.parametrize("change", ["missing", "surplus", "shape", "several"])
def test_weights_of_another_architecture_are_refused_by_the_name_of_a_tensor(folder, change):
    state = load_file(folder / WEIGHTS_FILE)
    name = "unet.out.2.bias"
    if change == "missing":
        del state[name]
        message = rf"{name} is missing; take"
    elif change == "surplus":
        state["unet.more"] = torch.zeros(1)
        message = r"unet\.more is not part of the network; take"
    elif change == "shape":
        state[name] = torch.zeros(7)
        message = rf"{name} has shape \(7,\) instead of \(1,\); take"
    else:
        state = {"a": torch.zeros(1), "b": torch.zeros(1)}
        message = rf"is missing and {len(load_file(folder / WEIGHTS_FILE)) + 1} more differences; take"
    put_weights(folder, state)
    refused(folder, f"weights of another architecture: .*{message}")


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("flow", "sampler_family is flow, but for the method cimd it is gaussian; correct it"),
        ("poisson", "sampler_family must be one of gaussian, categorical, flow, got 'poisson'"),
    ],
)
def test_the_family_of_the_samplers_is_said_as_it_is(folder, family, message):
    """It is left out where it is that of a Gaussian diffusion, as in every file of earlier versions."""
    assert "sampler_family" not in json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    edit(folder, sampler_family=family)
    refused(folder, message)


def test_whether_a_method_samples_by_steps_is_said_as_it_is(folder):
    edit(folder, samples_by_steps=False)
    refused(folder, "samples_by_steps is False, but for the method cimd it is True")


# Descriptions that name what there is not; Testing/test_description.py has those that are wrong in themselves


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "cimd2"}, "Unknown method 'cimd2'; known: .*cimd, .*probabilistic_unet"),
        ({"method_config__betas": 1}, "Unknown key method_config.betas"),
        ({"method_config__unet__depth": 1}, "Unknown key method_config.unet.depth"),
        ({"method_config__unet__dropout": "much"}, "method_config.unet.dropout must be float"),
        ({"method_config__unet__model_channels": 9}, "model_channels 9 must be a multiple of norm_groups"),
        ({"preprocessing__channels": ["T1"], "preprocessing__intensity": {"rule": "minmax"}}, "reads 2 channels"),
        ({"sampling__name": "leap"}, "Unknown sampler 'leap'"),
        ({"sampling__grid": "leading"}, "Unknown step grid 'leading'"),
        ({"sampling__options": {"order": 3}}, "ddim has no option 'order'; its options: eta"),
        ({"qualities__fast__sampling__name": "leap"}, "Unknown sampler 'leap'"),
        ({"labels": [{"name": "a"}, {"name": "b"}]}, r"1 class\(es\), but there are 2 label\(s\), a, b"),
        ({"method_config__classes": 2}, r"2 class\(es\), but there are 1"),
    ],
)
def test_what_there_is_not_is_named(folder, changes, message):
    edit(folder, **changes)
    refused(folder, message)


# Writing


@pytest.mark.parametrize("writer", ["write_bytes", "write_text"])
def test_a_full_disk_leaves_the_model_as_it_was(folder, monkeypatch, writer):
    """In the middle of the weights, and in the middle of the description."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write = getattr(Path, writer)

    def half(path: Path, data: bytes | str, **options) -> None:
        write(path, data[: len(data) // 2], **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, writer, half)
    with pytest.raises(OSError, match="No space left"):
        save_model(tiny_model(), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    load_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method_config__unet__model_channels": 8_192}, "its network has [0-9,]+ weights, and model.safetensors"),
        ({"method_config__unet__model_channels": 2**40}, "takes at most 65,536 channels"),
        ({"method_config__unet__num_res_blocks": 10**6}, "64 blocks or convolutions in a row, got .* 1,000,000"),
        ({"method_config__encoder__convolutions": 10**6}, "GaussianEncoderConfig takes at most"),
        ({"method_config__schedule__steps": 10**9}, "steps must be at most 100,000"),
    ],
)
def test_a_description_of_a_giant_is_refused_before_memory_is_taken(folder, changes, message):
    edit(folder, **changes)
    refused(folder, message)


def test_weights_of_a_terabyte_are_refused_before_they_are_read(folder):
    with open(folder / WEIGHTS_FILE, "r+b") as file:
        file.truncate(10**12)
    refused(folder, "weights, and model.safetensors 1 TB, which cannot be; copy the model again")
