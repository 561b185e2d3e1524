"""A plan as a file for ``train --config``: YAML, with the reasons as comments."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from AmbiguousSegLib.training.plan import Plan
from AmbiguousSegLib.volume.preprocessing import Intensity

_WIDTH = 116


def as_yaml(plan: Plan) -> str:
    """The configuration as YAML; above each choice its reason, and on top what the data holds and what is expected."""
    lines = ["# A training configuration planned from the data; every value may be changed. Seen in the data:"]
    lines += _comment(plan.seen, "")
    lines += _comment([expected(plan)], "")
    reasons = {key: reason for key, _, reason in plan.reasons}
    for key, value in plan.config.items():
        lines += _entry(key, value, key, "", reasons)
    return "\n".join(lines) + "\n"


def in_words(plan: Plan) -> str:
    """A plan in short, a line each: the data, how slices are made, how long is trained, what that is expected to need.

    Such as "planned: axial slices, 64 × 64 pixels of 0.7 mm, CT: window -1000 to 400".
    """
    data, run = plan.config["dataset"], plan.config["optimisation"]
    given = data["intensity"] if isinstance(data["intensity"], list) else [data["intensity"]] * len(data["channels"])
    values = "; ".join(f"{name}: {Intensity(**rule).words()}" for name, rule in zip(data["channels"], given))
    height, width = data["size"]
    pixels = f"{height} × {width} pixels" + ("" if data["spacing_mm"] is None else f" of {data['spacing_mm']:g} mm")
    slices = "pictures" if data["plane"] == "stored" else f"{data['plane']} slices"
    return "\n".join(
        (
            *plan.seen,
            f"planned: {slices}, {pixels}, {values}",
            f"planned: {run['images']:,} images in batches of {run['batch_size']}",
            expected(plan),
        )
    )


def expected(plan: Plan) -> str:
    """What the training is expected to take: "expected: 58 minutes, 910 MB of memory"."""
    memory = "" if plan.memory_mb != plan.memory_mb else f", {plan.memory_mb:,.0f} MB of memory"
    return f"expected: {_duration(plan.minutes)}{memory}"


def _duration(minutes: float) -> str:
    if minutes < 2:
        return f"{60 * minutes:.0f} seconds"
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def _entry(name: str, value: Any, key: str, indent: str, reasons: Mapping[str, str]) -> list[str]:
    lines = _comment([reasons[key]], indent) if reasons.get(key) else []
    if isinstance(value, Mapping) and value and (len(indent) == 0 or name == "unet"):
        inner = [line for n, v in value.items() for line in _entry(n, v, f"{key}.{n}", f"{indent}  ", reasons)]
        return [*lines, f"{indent}{name}:", *inner]
    return [*lines, f"{indent}{name}: {_plain(value)}"]


def _plain(value: Any) -> str:
    """On one line, as YAML reads it again."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9)
    return text.removesuffix("\n").removesuffix("\n...")


def _comment(texts: Any, indent: str) -> list[str]:
    rows = []
    for text in texts:
        rows += textwrap.wrap(" ".join(str(text).split()), _WIDTH - len(indent), break_long_words=False) or []
    return [f"{indent}# {row}" for row in rows]
