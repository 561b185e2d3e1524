"""How the values of given data are to be brought to [0, 1]: a rule for each channel, with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from AmbiguousSegLib.data.inspection import ChannelValues, Inspection

AIR_HU = -500.0  # only CT reaches below, where there is air

Choice = tuple[str, Any, str]
"""Key, value and reason."""


def is_hounsfield(values: Sequence[ChannelValues], modality: str) -> bool:
    """Whether a channel with these values is CT in HU: by the modality, else by whole numbers that reach below air."""
    if modality:
        return modality == "CT" and float(np.median([v.least for v in values])) < 0
    whole = np.mean([v.whole for v in values]) > 0.9
    return bool(whole and np.median([v.least for v in values]) < AIR_HU)


def ceiling(values: ChannelValues) -> float | None:
    """Full scale of values that start at 0: 1 for fractions, 255 for 8 bits, up to 65535 for 16; None: neither."""
    if values.least < 0 or values.greatest > 65535:
        return None
    if not values.whole:
        return 1.0 if values.greatest <= 1 else None
    return (
        255.0 if values.greatest <= 255 else next(b for b in (1023.0, 4095.0, 16383.0, 65535.0) if values.greatest <= b)
    )


def intensity(seen: Sequence[Inspection], hounsfield: Sequence[bool], flat: bool) -> Choice:
    """The setting ``dataset.intensity``: one rule, or one for each channel if they differ.

    Args:
        hounsfield: of each channel.
        flat: every case is one slice.
    """
    rules, reasons = [], []
    for k in range(len(seen[0].values)):
        rule, reason = _rule([case.values[k] for case in seen], [case.stored for case in seen], hounsfield[k], flat)
        rules.append(rule)
        reasons.append(reason)
    if all(rule == rules[0] for rule in rules):
        return "dataset.intensity", rules[0], reasons[0]
    return "dataset.intensity", rules, "; ".join(f"channel {k}: {text}" for k, text in enumerate(reasons, start=1))


def _rule(
    values: Sequence[ChannelValues], stored: Sequence[str], hounsfield: bool, flat: bool
) -> tuple[dict[str, Any], str]:
    if hounsfield:
        # Percentiles of each image, median over images: what most of them hold. Above 400 HU there is bone, contrast
        # medium and metal, and a window that shows them leaves soft tissue few levels; below −1000 there is nothing.
        low, high = (float(np.median([getattr(v, end) for v in values])) for end in ("low", "high"))
        bottom = max(-1000.0, 100.0 * math.floor(low / 100))
        top = min(max(50.0 * round(high / 50), 200.0), 400.0)
        return (
            {"rule": "window", "low": bottom, "high": top},
            f"CT: from {low:.0f} to {high:.0f} HU (the images' percentiles 0.5 and 99.5, median), within −1000 to 400",
        )
    ceilings = [ceiling(v) for v in values]
    if (flat or set(stored) == {"uint8"}) and None not in ceilings:
        top = max(c for c in ceilings if c is not None)
        same = all(c == top for c in ceilings) or top <= 255 or "uint8" not in stored
        if same:
            return {
                "rule": "full_scale",
                "high": top,
            }, f"values from 0 to at most {top:g}, the full scale of their type"
    return (
        {"rule": "percentile", "low": 0.5, "high": 99.5},
        "values without a common scale: from each image's percentile 0.5 to 99.5",
    )
