"""Configurations of training from YAML files and bundled presets, checked for what no configuration can hold."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.transforms import AugmentationConfig
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.resources import find_preset
from AmbiguousSegLib.text_files import read_yaml
from AmbiguousSegLib.training.config import CardConfig, OptimisationConfig, TrainingConfig, ValidationConfig, lifted

SECTIONS = {
    "card": CardConfig,
    "dataset": DataConfig,
    "augmentation": AugmentationConfig,
    "optimisation": OptimisationConfig,
    "validation": ValidationConfig,
    "sampling": SamplerSettings,
}


def read_config(name: str) -> dict[str, Any]:
    """A file or bundled preset, whole or in part, as plain JSON types under today's names.

    A rule of intensity that is given has the limits that are given with it, and no others.

    Raises:
        OSError: no such file or preset, or it cannot be read.
        ValueError: not YAML; an unknown key, or a section that is none; a value that is neither number, text, list nor
            mapping. One line, which names the file.
    """
    config = read_yaml(find_preset(name))
    if not isinstance(config, dict):
        raise ValueError(f"{name} holds {_kind(config)}, expected a mapping of settings; correct it.")
    return checked(config, name)


def checked(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What ``read_config`` makes of what ``name`` holds. ValueError: as there."""
    for section in ("method_config", *SECTIONS):
        if not isinstance(config.get(section, {}), dict):
            raise ValueError(f"{name}: {section} must be a mapping of settings, got {_kind(config[section])}.")
    try:
        plain: dict[str, Any] = json.loads(json.dumps(lifted(config)))
    except (TypeError, ValueError) as error:
        told = str(error)
        if isinstance(error, TypeError):  # YAML makes dates and sets
            told = "it holds a value that is no number, text, list or mapping, such as a date; put text in quotes"
        raise ValueError(f"{name}: {told.rstrip('.')}.") from error
    _check_keys(plain, [field.name for field in dataclasses.fields(TrainingConfig)], f"{name}: unknown key ")
    for section, kind in SECTIONS.items():
        known = [field.name for field in dataclasses.fields(kind)]
        _check_keys(plain.get(section, {}), known, f"{name}: unknown key {section}.")
    intensity = plain.get("dataset", {}).get("intensity")
    if isinstance(intensity, dict) and "rule" in intensity:
        plain["dataset"]["intensity"] = {"low": None, "high": None, **intensity}
    return plain


def laid_over(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Configurations as plain types, each laid over those before it, key by key; a list replaces a list.

    Where one names another method than those before it, their ``method_config`` goes, as its keys are of that method;
    one that was given before any method was named is of whichever comes.
    """
    result: dict[str, Any] = {}
    for config in configs:
        if "method" in result and config.get("method", result["method"]) != result["method"]:
            result.pop("method_config", None)
        result = _merged(result, config)
    return result


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _check_keys(given: Mapping[str, Any], known: list[str], words: str) -> None:
    for key in given:
        if key not in known:
            raise ValueError(f"{words}{key}; known: {', '.join(known)}.")


def _kind(value: Any) -> str:
    kinds = {dict: "a mapping", list: "a list", str: "text", type(None): "nothing", bool: "true or false"}
    return kinds.get(type(value), f"the value {str(value)[:40]}")
