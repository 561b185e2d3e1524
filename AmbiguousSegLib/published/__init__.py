"""Models from checkpoints that others trained with the published code."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from AmbiguousSegLib.description import Card
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.files import check_file, size_text
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.methods.cimd import CIMD, CIMDConfig
from AmbiguousSegLib.model import Model, load_state
from AmbiguousSegLib.networks.unet import UNetConfig
from AmbiguousSegLib.published.architecture import Shapes, infer_encoder, infer_unet
from AmbiguousSegLib.published.kinds import KINDS, ImportOptions, Kind
from AmbiguousSegLib.published.tensors import ENCODERS, fold_grey, plain_names, read_tensors
from AmbiguousSegLib.volume.file_checks import memory_bytes
from AmbiguousSegLib.volume.preprocessing import Preprocessing

__all__ = ["KINDS", "ImportOptions", "Kind", "import_published"]

log = logging.getLogger(__name__)

_GREY_COPIES = 4  # CIMD's code feeds its network the grey image four times


def import_published(path: Path | str, options: ImportOptions | None = None) -> tuple[Model, list[str]]:
    """Model on the CPU in evaluation mode, and in words what was inferred from the file and what was assumed.

    Its default sampler is the one that the published code runs, DDPM at every training step: fewer steps or another
    sampler give other distributions than those published for these weights, and are for the user to choose.

    Args:
        options: None: as published for a CIMD.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file with more than tensors in it, or a network that cannot be represented; the file is named.
    """
    path, options = Path(path), options or ImportOptions()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a PyTorch checkpoint.")
    check_file(path)
    if 3 * path.stat().st_size > memory_bytes():
        raise ValueError(f"{path} has {size_text(path.stat().st_size)}, more than memory can take; is it a checkpoint?")
    data = path.read_bytes()
    log.warning("%s: import checkpoints from trusted sources only; reading one has been a way to run code.", path.name)
    try:
        state = plain_names(read_tensors(data))
        method, notes = _method(state, options)
        preprocessing = _preprocessing(method, options)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    load_state(method, state, path)
    method.requires_grad_(False).eval()
    sampling = SamplerSettings("ddpm", steps=options.schedule.steps)
    training = {
        "data": "not stated in the checkpoint",
        "licence": "unknown",
        "origin": path.name,
        "origin_sha256": hashlib.sha256(data).hexdigest(),
        "source": KINDS[options.kind].source,
        "import": notes,
    }
    description = f"Imported checkpoint of {KINDS[options.kind].source}."
    card = Card(options.name or path.stem, description, training)
    return Model(method, preprocessing, sampling, card, (Label(options.label),)), notes


def _method(state: dict[str, Tensor], options: ImportOptions) -> tuple[CIMD, list[str]]:
    """Method with random weights, to be filled from ``state``, where copies of a grey image are folded in place."""
    unet = infer_unet(_part(state, "unet"), options.of_kind("image_size"), options.of_kind("num_heads"))
    given = unet.in_channels - 1
    copied = KINDS[options.kind].grey_copies and given == _GREY_COPIES
    channels = options.image_channels
    if channels is None:
        channels = 1 if copied else given
    if channels not in (1, given):
        raise ValueError(f"its images have {given} channels, which cannot be read as {channels}; give {given}, or 1.")
    notes = [_architecture(unet, sum(value.numel() for name, value in state.items() if name.startswith("unet.")))]
    if channels < given:
        state["unet.input_blocks.0.0.weight"] = fold_grey(state["unet.input_blocks.0.0.weight"])
        notes.append(
            f"Read as one grey image copied {given} times: its weights were summed, images have 1 channel. A network "
            f"that saw {given} different images must be imported with {given} image channels."
        )
    notes.append(
        f"Not in the file, taken as given: {unet.num_heads} attention head(s) in legacy order, image size "
        f"{unet.image_size}, {options.schedule.kind} schedule of {options.schedule.steps} steps, mask levels "
        f"{options.of_kind('mask_levels')}, images in [0, 1], prediction of {options.prediction}."
    )
    if unet.out_channels == 1:
        notes.append("The variance is not learned: DDPM samples with β̃, the smaller of the two fixed choices.")
    present = [own for own in ENCODERS.values() if _part(state, own)]
    if len(present) == 1:
        raise ValueError(f"one of the two encoders is missing: found {present[0]} alone.")
    encoders: dict[str, Any] = {"beta_ambiguity": 0.0}
    if present:
        # As published: not trained, and ACN reads the predicted noise.
        encoders = {"encoder": infer_encoder(_part(state, "amn")), "acn_input": "noise", "train_encoders": False}
    else:
        notes.append("AMN and ACN are not in the file: their loss is left out. Sampling does not use them.")
    config = CIMDConfig(
        image_channels=channels,
        unet=replace(unet, in_channels=channels + 1),
        schedule=options.schedule,
        prediction=options.prediction,
        variance="learned_range" if unet.out_channels == 2 else "posterior",
        mask_levels=options.of_kind("mask_levels"),
        **encoders,
    )
    return CIMD(config), notes


def _preprocessing(method: CIMD, options: ImportOptions) -> Preprocessing:
    kind, count = KINDS[options.kind], method.image_channels
    names = options.channels or (kind.channels if len(kind.channels) == count else None)
    names = names or tuple(f"channel {i + 1}" for i in range(count))
    if len(names) != count:
        raise ValueError(f"{len(names)} channels were named ({', '.join(names)}), expected {count}.")
    side = options.image_size or kind.slice_size
    return Preprocessing(
        channels=names,
        plane=options.of_kind("plane"),
        spacing_mm=options.of_kind("spacing_mm"),
        size=(side, side),
        size_multiple=method.size_multiple,
        intensity=options.of_kind("intensity"),
    )


def _part(state: dict[str, Tensor], part: str) -> Shapes:
    return {name[len(part) + 1 :]: tuple(v.shape) for name, v in state.items() if name.startswith(f"{part}.")}


def _architecture(unet: UNetConfig, parameters: int) -> str:
    return (
        f"Inferred: U-Net of {parameters:,} parameters, {unet.model_channels} channels × {unet.channel_mult}, "
        f"{unet.num_res_blocks} residual block(s) a level, attention at {unet.attention_sizes}, "
        f"{'learned' if unet.out_channels == 2 else 'fixed'} variance, scale-shift normalisation "
        f"{'on' if unet.use_scale_shift_norm else 'off'}; {unet.in_channels - 1} image channel(s), then the mask."
    )
