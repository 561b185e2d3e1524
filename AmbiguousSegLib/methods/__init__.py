"""Published systems, each behind ``base.Method``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.methods.base import Batch, Method
from AmbiguousSegLib.methods.cimd import CIMD
from AmbiguousSegLib.methods.probabilistic_unet import ProbabilisticUNet

METHODS: dict[str, type[Method]] = {method.name: method for method in (CIMD, ProbabilisticUNet)}

__all__ = ["METHODS", "Batch", "Method", "build_method"]


def build_method(name: str, config: Mapping[str, Any]) -> Method:
    """Method with freshly initialised weights, from its name and the dict of its configuration.

    Raises:
        ValueError: unknown method, or unknown or ill-typed key; the message names it.
    """
    if name not in METHODS:
        raise ValueError(f"Unknown method {name!r}; known: {', '.join(METHODS)}.")
    cls = METHODS[name]
    return cls(from_dict(cls.Config, config, where="method_config"))
