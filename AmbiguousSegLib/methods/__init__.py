"""Published systems, each behind ``base.Method``, registered by name where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch

from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.methods.base import Batch, Method, Prepared
from AmbiguousSegLib.registry import Registry

METHODS: Registry[type[Method]] = Registry("method", room="AmbiguousSegLib.methods")

__all__ = ["METHODS", "Batch", "Method", "Prepared", "build_method", "count_weights", "method_config", "size_multiple"]


def build_method(name: str, config: Mapping[str, Any]) -> Method:
    """Method with freshly initialised weights, from its name and the dict of its configuration.

    Raises:
        ValueError: as ``method_config``.
    """
    return METHODS[name](method_config(name, config))


def method_config(name: str, config: Mapping[str, Any]) -> Any:
    """The ``Config`` of a method from its dict.

    Raises:
        ValueError: unknown method, several classes for one that knows a single one, or an unknown or ill-typed key;
            the message names it.
    """
    cls = METHODS[name].Config
    if "classes" in config and "classes" not in [field.name for field in fields(cls)]:
        if config["classes"] != 1:
            raise ValueError(f"The method {name} segments one class, got {config['classes']}; choose another method.")
        config = {key: value for key, value in config.items() if key != "classes"}
    return from_dict(cls, config, where="method_config")


def size_multiple(name: str, config: Mapping[str, Any]) -> int:
    """What height and width of the images must be a multiple of, found without making any weights.

    Raises:
        ValueError: as ``method_config``.
    """
    with torch.device("meta"):
        return build_method(name, config).size_multiple


def count_weights(name: str, config: Mapping[str, Any]) -> int:
    """How many numbers the weights of a method are, found without making any.

    Raises:
        ValueError: as ``method_config``.
    """
    with torch.device("meta"):
        return sum(tensor.numel() for tensor in build_method(name, config).state_dict().values())
