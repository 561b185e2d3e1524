"""The tensors of a checkpoint file, and nothing else in it."""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
import zlib

import torch
from torch import Tensor

ENCODERS = {"posterior": "amn", "prior": "acn"}  # name in published checkpoints: name in methods.cimd


def read_tensors(data: bytes) -> dict[str, Tensor]:
    """Tensors by name from a checkpoint's bytes, as float32 on the CPU; nothing but tensors is unpickled.

    Raises:
        ValueError: damaged, other objects than tensors, nested or empty, or values that are not finite.
    """
    try:
        _check_archive(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what PyTorch itself will do otherwise one day
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            "refused: it holds pickled objects other than tensors, or is not a PyTorch checkpoint; save its state_dict "
            "alone and import that."
        ) from error
    except (RuntimeError, EOFError, LookupError, AttributeError, TypeError, ValueError, zlib.error) as error:
        if isinstance(error, _DamagedError):
            raise
        raise ValueError("not a PyTorch checkpoint, or a truncated one; copy or download it again.") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"holds {type(content).__name__}, expected names of parameters and their tensors.")
    for name, value in content.items():
        if not isinstance(value, Tensor) or not isinstance(name, str):
            raise ValueError(
                f"entry {name!r} is {type(value).__name__}, expected names of parameters and their tensors only; is it "
                "an optimiser's file, or the weights within a larger one?"
            )
        _check_tensor(name, value)
    return {name: value.float() for name, value in content.items()}


class _DamagedError(ValueError):
    """Says itself what is wrong."""


def _check_archive(data: bytes) -> None:
    """ValueError for an archive whose checksums, which PyTorch does not compare, are not those of what it holds."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return  # of before PyTorch 1.6, which has none
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise _DamagedError("it is compressed, as no checkpoint of PyTorch is; save it again with torch.save.")
        try:
            damaged = archive.testzip()
        except zipfile.BadZipFile as error:
            damaged = str(error)
    if damaged is not None:
        raise _DamagedError(f"it is damaged: {damaged} does not agree with its checksum; copy or download it again.")


def _check_tensor(name: str, value: Tensor) -> None:
    """ValueError for a tensor that is none of the weights of a network."""
    kind = str(value.dtype).removeprefix("torch.")
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
        kind = "quantised" if value.is_quantized else "sparse" if value.layout != torch.strided else "without values"
    elif value.is_floating_point():
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"{name} has {value.numel():,} values, of which fewer are stored; save its values.")
        if not torch.isfinite(value).all():
            raise ValueError(
                f"{name} holds NaN or infinite values: training had failed when this was saved; take an earlier one."
            )
        return
    raise ValueError(f"{name} is {kind}, expected floating-point numbers; save the state_dict of the network as it is.")


def plain_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parameters under the names of ``methods.cimd.CIMD``: ``module.`` of distributed training is taken off."""
    renamed = {}
    for name, value in state.items():
        plain = re.sub(r"^(module\.)+", "", name)
        part, _, rest = plain.partition(".")
        own = f"{ENCODERS[part]}.{re.sub(r'^(module[.])+', '', rest)}" if part in ENCODERS else f"unet.{plain}"
        if own in renamed:
            raise ValueError(f"{plain} is there twice, with and without the prefix 'module.'.")
        renamed[own] = value
    return renamed


def fold_grey(weight: Tensor) -> Tensor:
    """First convolution ``(out, C + 1, k, k)``, mask last, as it acts where all C images are equal: ``(out, 2, k, k)``.

    A convolution is linear in its input and pads all channels alike, so that this is exact up to rounding.
    """
    image = weight[:, :-1].sum(1, keepdim=True, dtype=torch.float64).to(weight.dtype)
    return torch.cat([image, weight[:, -1:]], dim=1)
