"""Import of published checkpoints, against what the published code computes with the same weights."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile

import numpy as np
import pytest
import torch
from shared_data import shared_path

from AmbiguousSegLib.diffusion import samplers
from AmbiguousSegLib.diffusion.process import learned_range_log_variance
from AmbiguousSegLib.diffusion.samplers import Denoised
from AmbiguousSegLib.diffusion.schedule import ScheduleConfig
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.model import load_model, save_model
from AmbiguousSegLib.networks.gaussian_encoder import GaussianEncoder, GaussianEncoderConfig
from AmbiguousSegLib.networks.unet import UNet, UNetConfig
from AmbiguousSegLib.published import KINDS, ImportOptions, import_published
from AmbiguousSegLib.published.architecture import infer_encoder, infer_unet
from AmbiguousSegLib.published.tensors import fold_grey

pytestmark = pytest.mark.numerical

PUBLISHED = UNetConfig(in_channels=5)  # 128: (1, 1, 2, 3, 4), 2 blocks, attention at 16, 1 head
ENSEMBLE = UNetConfig(image_size=256, in_channels=5, channel_mult=(1, 1, 2, 2, 4, 4))
NARROW = UNetConfig(32, 5, 2, 32, (1, 1, 2, 3, 4), 2, (4,))  # the published layout, narrow and small


def golden(name):
    return torch.load(shared_path(f"golden/{name}"), weights_only=True)


def shapes(network):
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def random_unet(config, seed=0):
    """None of its weights is zero, so that every layer shows in the output."""
    network, generator = UNet(config).eval(), np.random.default_rng(seed)
    with torch.no_grad():
        for name, p in network.named_parameters():
            r = torch.from_numpy(generator.standard_normal(p.shape, dtype=np.float32))
            scale = 1 + 0.1 * r if name.endswith("weight") else 0.1 * r
            p.copy_(r / p[0].numel() ** 0.5 if p.dim() > 1 else scale)
    return network.requires_grad_(False)


def written(tmp_path, state, prefix="module."):
    path = tmp_path / "emasavedmodel_0.9999_100000.pt"
    torch.save({prefix + name: value for name, value in state.items()}, path)
    return path


# What is inferred


def test_full_size_cimd_is_inferred_from_its_keys():
    keys = json.loads(shared_path("golden/cimd_fullsize_unet_keys.json").read_text(encoding="utf-8"))
    config = infer_unet({name: tuple(shape) for name, shape in keys.items()}, image_size=128, num_heads=1)
    assert config == PUBLISHED
    with torch.device("meta"):
        network = UNet(config)
    assert sum(p.numel() for p in network.parameters()) == 85_603_842
    assert shapes(network) == {name: tuple(shape) for name, shape in keys.items()}


def test_implicit_ensemble_is_inferred_and_has_the_published_size():
    with torch.device("meta"):
        network = UNet(ENSEMBLE)
    kind = KINDS["implicit-ensemble"]
    assert sum(p.numel() for p in network.parameters()) == 113_674_370
    assert infer_unet(shapes(network), kind.image_size, kind.num_heads) == ENSEMBLE


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(64, 2, 1, 64, (1, 2, 3, 4), 3, (16, 8), 4, use_scale_shift_norm=True),
        UNetConfig(32, 4, 2, 32, (1, 2), 1, (32, 16)),
        UNetConfig(64, 3, 2, 32, (2,), 1, ()),
    ],
)
def test_other_layouts_are_inferred(config):
    with torch.device("meta"):
        network = UNet(config)
    assert infer_unet(shapes(network), config.image_size, config.num_heads) == config


def test_encoders_are_inferred():
    keys = json.loads(shared_path("golden/cimd_encoders_keys.json").read_text(encoding="utf-8"))
    for name in ("prior", "posterior"):
        given = {key: tuple(shape) for key, shape in keys[name].items()}
        assert infer_encoder(given) == GaussianEncoderConfig()
    other = GaussianEncoderConfig(3, (8, 8, 16), 1, 4)
    assert infer_encoder(shapes(GaussianEncoder(other))) == other


def without(state, *starts):
    return {name: value for name, value in state.items() if not name.startswith(starts)}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: {**s, "label_emb.weight": torch.zeros(10, 128)}, "class embedding"),
        (lambda s: {**s, "output_blocks.2.2.in_layers.0.weight": torch.ones(32)}, "resblock_updown"),
        (lambda s: without(s, "time_embed."), "time_embed.0.weight is missing"),
        (lambda s: without(s, "input_blocks.3.0.op"), "input_blocks.3"),
        (lambda s: without(s, "input_blocks.10.1."), "Level 3"),
        (lambda s: without(s, "input_blocks.14."), "Level 4"),
        (lambda s: without(s, "middle_block.1.qkv"), "middle_block.1.qkv"),
        (lambda s: {**s, "extra.weight": torch.zeros(1)}, "extra.weight is not part of the network"),
        (lambda s: {**s, "prior.conv_layer.weight": torch.zeros(12, 192, 1, 1)}, "acn alone"),
        (lambda s: {**s, "out.2.weight": torch.zeros(6, 32, 3, 3)}, "predicts 6"),
        (lambda s: {**s, "input_blocks.0.0.weight": torch.zeros(32, 1, 3, 3)}, "reads 1"),
        (lambda s: {**s, "out.2.bias": torch.full((2,), torch.nan)}, "out.2.bias"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_represented_is_refused_in_one_line(tmp_path, change, named):
    state = UNet(UNetConfig(32, 5, 2, 32, (1, 1, 2, 3, 4), 2, (4,))).state_dict()
    path = written(tmp_path, change(state))
    with pytest.raises(ValueError) as caught:
        import_published(path, ImportOptions(image_size=32))
    assert str(caught.value).startswith(str(path)) and named in str(caught.value) and "\n" not in str(caught.value)


# What is imported computes what the published code computes


def test_the_published_forward_pass_is_reproduced(tmp_path):
    path, io = written(tmp_path, golden("unet_small_state.pt")), golden("unet_small_io.pt")
    model, notes = import_published(path, ImportOptions(image_size=64))
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert (loaded.method.unet(io["x"], io["t"]) - io["out"]).abs().max() < 1e-5  # measured: 2.3e-6 to 4.5e-6
    assert loaded.method.config.beta_ambiguity == 0 and any("AMN and ACN" in note for note in notes)


def test_the_published_chain_is_reproduced(tmp_path):
    tiny = golden("tiny_all_in_one.pt")
    path = written(tmp_path, tiny["state"])
    published = json.loads(tiny["config"])
    model, _ = import_published(path, ImportOptions(image_size=32, num_heads=published["num_heads"]))
    method = model.method
    assert method.unet.config.attention_sizes == (32 // published["attention_resolutions"][0],)
    steps = tiny["timestep_map"].numpy()
    respaced = method.schedule.respaced(steps)

    def denoise(x, index):
        out = method.denoise(tiny["image"], x, tiny["timestep_map"][index])
        return Denoised(out.x0, learned_range_log_variance(respaced, out.log_variance, index))

    class Given:
        def normal(self, draw, shape):
            return tiny["x_T"] if draw == 0 else tiny["noise"][draw - 1]

    final = samplers.run(SamplerSettings("ddpm", 10), denoise, respaced, Given(), (1, 32, 32))
    assert (final - tiny["samples"][-1]).abs().max() < 7e-5  # measured: 7e-6 to 2.8e-5, by vector unit


@pytest.mark.parametrize("image_channels", [None, 1, 4])
def test_folding_copies_of_a_grey_image_changes_no_output(tmp_path, image_channels):
    network = random_unet(NARROW)
    options = ImportOptions(image_size=32, image_channels=image_channels)
    model, notes = import_published(written(tmp_path, network.state_dict()), options)
    generator = np.random.default_rng(1)
    image = torch.from_numpy(generator.random((3, 1, 32, 32)))
    mask = torch.from_numpy(generator.standard_normal((3, 1, 32, 32)))
    t = torch.tensor([0, 500, 999])
    published = network.double()(torch.cat([image.expand(-1, 4, -1, -1), mask], 1), t)
    own = image if image_channels != 4 else image.expand(-1, 4, -1, -1)
    assert published.std() > 0.1
    folded = model.method.unet.double()(torch.cat([own, mask], 1), t)
    assert (folded - published).abs().max() < 2e-7  # the summed weights are rounded to float32; measured: 6.5e-8
    assert model.method.config.unet.in_channels == own.shape[1] + 1
    assert model.method.image_channels == own.shape[1] == len(model.preprocessing.channels)
    assert any("summed" in note for note in notes) == (image_channels != 4)


def test_four_different_images_are_not_folded(tmp_path):
    network = random_unet(NARROW)
    options = ImportOptions("implicit-ensemble", image_size=32)
    model, _ = import_published(written(tmp_path, network.state_dict(), prefix=""), options)
    x = torch.from_numpy(np.random.default_rng(2).standard_normal((2, 5, 32, 32), dtype=np.float32))
    t = torch.tensor([3, 700])
    assert torch.equal(model.method.unet(x, t), network(x, t))
    assert model.preprocessing.channels == ("T1", "T1ce", "T2", "FLAIR")


def test_a_fold_by_hand():
    weight = torch.arange(5.0).reshape(1, 5, 1, 1)
    assert fold_grey(weight).flatten().tolist() == [0 + 1 + 2 + 3, 4]


def test_encoders_come_along_under_either_prefix(tmp_path):
    small, encoders = golden("unet_small_state.pt"), golden("encoders_small_state.pt")
    nested = {name.replace(".", ".module.", 1): value for name, value in encoders.items()}
    losses = golden("training_losses.pt")
    for state in ({**small, **encoders}, {**small, **nested}):
        model, notes = import_published(written(tmp_path, state), ImportOptions(image_size=64))
        config = model.method.config
        assert (config.acn_input, config.train_encoders, config.beta_ambiguity) == ("noise", False, 0.001)
        assert config.encoder.filters == (8, 16, 32, 48) and not any("AMN" in note for note in notes)
        # The golden encoders' weights are float32 numbers, computed with in float64. In float32 the means over all
        # pixels differ by up to 7e-7, and by how many threads share them.
        image, mask = losses["x_start"].split(1, dim=1)
        epsilon = losses["model_output_eps"].double()
        for encoder, seen, name in ((model.method.amn, mask, "post"), (model.method.acn, epsilon, "prior")):
            gaussian = encoder.double()(torch.cat([image, seen], 1)).base_dist
            assert (gaussian.loc - losses[f"{name}_mu"]).abs().max() < 1e-14  # measured: 2.2e-16
            assert (gaussian.scale / losses[f"{name}_sigma"] - 1).abs().max() < 1e-14


def test_half_precision_weights_are_computed_with_in_single(tmp_path):
    network = random_unet(NARROW)
    halved = {name: value.half() for name, value in network.state_dict().items()}
    model, _ = import_published(written(tmp_path, halved), ImportOptions(image_size=32, image_channels=4))
    weights = model.method.unet.state_dict()
    assert all(torch.equal(weights[name], value.float()) for name, value in halved.items())


# What goes with the weights


def test_the_model_says_where_it_comes_from(tmp_path):
    path = written(tmp_path, random_unet(NARROW).state_dict())
    model, notes = import_published(path, ImportOptions(image_size=32, label="nodule"))
    training = model.card.training
    assert training["origin"] == path.name and training["licence"] == "unknown" and training["import"] == notes
    assert training["origin_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.card.name == path.stem and [label.name for label in model.labels] == ["nodule"]
    assert model.sampling == SamplerSettings("ddpm", 1000)
    assert model.method.config.mask_levels == (0, 1) and model.method.config.prediction == "epsilon"
    prepared = model.preprocessing
    assert (prepared.size, prepared.spacing_mm, prepared.plane) == ((32, 32), None, "axial")
    assert (prepared.intensity.rule, prepared.intensity.high) == ("full_scale", 255)


def test_published_defaults_of_each_kind():
    assert {name: (k.image_size, k.num_heads, k.mask_levels) for name, k in KINDS.items()} == {
        "cimd": (128, 1, (0, 1)),
        "implicit-ensemble": (256, 1, (0, 1)),
        "improved-diffusion": (64, 4, (-1, 1)),
    }


def test_an_unlearned_variance_and_other_diffusions(tmp_path):
    network = UNet(UNetConfig(32, 2, 1, 32, (1, 2), 1, ()))
    options = ImportOptions(
        "improved-diffusion", image_size=32, schedule=ScheduleConfig("cosine", 400), prediction="x0"
    )
    model, notes = import_published(written(tmp_path, network.state_dict(), ""), options)
    assert model.method.config.variance == "posterior" and any("not learned" in note for note in notes)
    assert model.sampling.steps == len(model.method.schedule) == 400
    assert model.method.config.mask_levels == (-1, 1)


# Files that are no checkpoints


class Code:
    def __reduce__(self):
        return (print, ("this must never be printed",))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"module.out.2.weight": Code()}, "pickled objects"),
        ({"state": {}, "param_groups": []}, "'state' is dict"),
        ([torch.zeros(1)], "holds list"),
        ({}, "holds dict"),
        ({"module.a": torch.zeros(1), "a": torch.zeros(1)}, "twice"),
    ],
)
def test_other_contents_are_refused_in_one_line(tmp_path, capsys, content, named):
    path = tmp_path / "bad.pt"
    torch.save(content, path)
    with pytest.raises(ValueError) as caught:
        import_published(path)
    assert named in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_damaged_files_are_refused_in_one_line(tmp_path):
    whole = written(tmp_path, {"out.2.weight": torch.zeros(1000)}).read_bytes()
    for data in (b"", b"hello world", whole[: len(whole) // 2], bytes(1000), b"\x80\x02]q\x00."):
        path = tmp_path / "bad.pt"
        path.write_bytes(data)
        with pytest.raises(ValueError) as caught:
            import_published(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"absent\.pt"):
        import_published(tmp_path / "absent.pt")


def test_options_that_do_not_fit_are_refused(tmp_path):
    path = written(tmp_path, UNet(NARROW).state_dict())
    for options, named in (
        (ImportOptions(image_size=32, image_channels=2), "give 4, or 1"),
        (ImportOptions(image_size=32, image_channels=0), "give 4, or 1"),
        (ImportOptions(image_size=40), "image_size 40"),
        (ImportOptions(image_size=32, num_heads=5), "heads"),
        (ImportOptions(image_size=32, channels=("a", "b")), "2 channels were named"),
        (ImportOptions(image_size=32, mask_levels=(0.0, 2.0)), "mask_levels"),
    ):
        with pytest.raises(ValueError, match=named):
            import_published(path, options)
    with pytest.raises(ValueError, match="must be one of cimd"):
        ImportOptions("segdiff")


def test_a_changed_bit_of_a_tensor_is_noticed(tmp_path):
    """PyTorch does not compare the checksums of the archive, and would read other weights."""
    path = written(tmp_path, random_unet(NARROW).state_dict())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"is damaged: .* does not agree with its checksum; copy or download it again"):
        import_published(path, ImportOptions(image_size=32))


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path):
    path = written(tmp_path, random_unet(NARROW).state_dict())
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, part in parts.items():
            new.writestr(name, part)
    with pytest.raises(ValueError, match="it is compressed, as no checkpoint of PyTorch is"):
        import_published(path, ImportOptions(image_size=32))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.to_sparse(), "is sparse, expected floating-point"),
        (lambda t: t.to("meta"), "is without values"),
        (lambda t: t.int(), "is int32"),
        (lambda t: t.to(torch.complex64), "is complex64"),
        (lambda t: torch.zeros(1).expand(2**40), "has 1,099,511,627,776 values, of which fewer are stored"),
    ],
)
def test_tensors_that_are_no_weights_are_refused_by_name(tmp_path, change, words, recwarn):
    state = random_unet(NARROW).state_dict()
    name = "input_blocks.0.0.weight"
    with pytest.raises(ValueError, match=f"{name} {words}"):
        import_published(written(tmp_path, state | {name: change(state[name])}), ImportOptions(image_size=32))
    assert not recwarn.list


def test_a_checkpoint_that_memory_cannot_hold_is_refused(tmp_path):
    path = tmp_path / "large.pt"
    path.touch()
    os.truncate(path, 2**43)
    with pytest.raises(ValueError, match="8.8 TB, more than memory can take"):
        import_published(path)
