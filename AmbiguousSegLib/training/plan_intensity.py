"""How the values of given data are to be brought to [0, 1]: a rule for each channel, with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from AmbiguousSegLib.data.inspection import Inspection
from AmbiguousSegLib.volume.inputs import ChannelValues

AIR_HU = -500.0  # only CT reaches below, where there is air
# Above 400 HU there is bone, contrast medium and metal: a window that shows them leaves soft tissue few levels, so only
# lesions among bone get it. A window narrower than 200 HU above water is for the eye, not for a network.
_LOWEST_HU, _SOFT_HU, _TOP_HU, _BONE_HU, _TOP_OF_BONE_HU = -1000.0, 200.0, 400.0, 300.0, 2000.0
_FULL_SCALES = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # 8, 10, 12, 14 and 16 bits

Choice = tuple[str, Any, str]
"""Key, value and reason."""

Values = Sequence[ChannelValues]
"""Of one channel in each case."""

Near = Sequence[tuple[ChannelValues, ...]]
"""Values of each channel around what is marked, in some cases."""


def is_hounsfield(values: Values, modality: str) -> bool:
    """Whether a channel with these values is CT in HU: by the modality, else by whole numbers that reach below air."""
    if modality:
        return modality == "CT" and float(np.median([v.least for v in values])) < 0
    whole = np.mean([v.whole for v in values]) > 0.9
    return bool(whole and np.median([v.least for v in values]) < AIR_HU)


def ceiling(values: ChannelValues) -> float | None:
    """Full scale of values that start at 0: 1 for fractions, 255 for 8 bits, up to 65535 for 16; None: neither."""
    if values.least < 0:
        return None
    if not values.whole:
        return 1.0 if values.greatest <= 1 else None
    return next((full for full in _FULL_SCALES if values.greatest <= full), None)


def intensity(seen: Sequence[Inspection], hounsfield: Sequence[bool], pictures: bool, near: Near = ()) -> Choice:
    """The setting ``dataset.intensity``: one rule, or one for each channel if they differ.

    Args:
        hounsfield: of each channel, whether it is CT.
        pictures: every case is one slice whose pixels are of unknown size.
        near: where it is not empty, windows are chosen from it.
    """
    chosen = []
    for k, ct in enumerate(hounsfield):
        values = [case.values[k] for case in seen]
        if ct:
            chosen.append(_window([of[k] for of in near] or values, "around the marks" if near else "of the images"))
        else:
            chosen.append(_scale(values, pictures, all(min(case.geometry.size) == 1 for case in seen)))
    if all(rule == chosen[0][0] for rule, _ in chosen):
        return "dataset.intensity", *chosen[0]
    reasons = "; ".join(f"channel {k}: {reason}" for k, (_, reason) in enumerate(chosen, start=1))
    return "dataset.intensity", [rule for rule, _ in chosen], reasons


def _window(values: Values, where: str) -> tuple[dict[str, Any], str]:
    """HU mean the same in every scan, so one window for all: the percentiles of most of them, within what is useful."""
    low, middle, high = (float(np.median([getattr(v, at) for v in values])) for at in ("low", "median", "high"))
    most = _TOP_OF_BONE_HU if middle > _BONE_HU else _TOP_HU
    bottom = min(max(100.0 * math.floor(low / 100), _LOWEST_HU), 0.0)
    top = min(max(50.0 * round(high / 50), _SOFT_HU), most)
    reason = (
        f"CT: percentiles 0.5 and 99.5 {where} are {low:.0f} and {high:.0f} HU (median), within −1000 to {most:.0f}"
    )
    return {"rule": "window", "low": bottom, "high": top}, reason


def _scale(values: Values, pictures: bool, flat: bool) -> tuple[dict[str, Any], str]:
    """Full scale where all images share one, as pictures do; else the values mean nothing but in their own image."""
    percentile = {"rule": "percentile", "low": 0.5, "high": 99.5}
    scales = sorted({ceiling(v) or np.inf for v in values})
    if scales[-1] == np.inf or not (pictures or (flat and scales[-1] <= _FULL_SCALES[0])):
        return percentile, "values without a common scale: from percentile 0.5 to 99.5 of each image"
    if len(scales) > 1 and scales[0] <= _FULL_SCALES[0]:
        return percentile, f"images reach up to {scales[0]:g} and up to {scales[-1]:g}: percentiles of each image"
    return {"rule": "full_scale", "high": scales[-1]}, f"all values lie in 0 to {scales[-1]:g}, a full scale"
