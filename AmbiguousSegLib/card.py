"""What a model says of itself, for its user to read."""

from __future__ import annotations

from html import escape
from typing import Any

from AmbiguousSegLib.description import ONE_MASK, ModelDescription
from AmbiguousSegLib.metrics.figures import EVALUATE, FIGURES
from AmbiguousSegLib.quality import ONE_PASS, Quality

_BETTER = {"lower": " (lower is better)", "higher": " (higher is better)", "alike": " (best as among raters)", "": ""}


def card_html(model: ModelDescription) -> str:
    """Short description of a model for its user, as HTML for a Qt label or text browser; all text is escaped."""
    card = model.card
    seen = card.training.get("images_seen")
    rows = [
        ("Marks", [", ".join(label.name for label in model.labels)]),
        ("Expects", [_expects(model)]),
        ("Samples", [ONE_MASK] if model.deterministic else []),
        ("Trained on", [_text(card.training.get("data")) or "not stated"]),
        ("Images seen", [f"{seen:,}" if isinstance(seen, int) else _text(seen)]),
        ("Images were", [] if model.inputs is None else model.inputs.words()),
        ("Licence", [_text(card.training.get("licence"))]),
        ("Results", _results(card.metrics)),
        ("Qualities", quality_lines(model)),
        ("Calibrated", _calibrations(model)),
        ("Does not know", card.limits),
    ]
    cells = "".join(
        f"<tr><td><b>{name}</b>&nbsp;</td><td>{'<br>'.join(escape(line) for line in lines)}</td></tr>"
        for name, lines in rows
        if any(lines)
    )
    description = f"<p>{escape(card.description)}</p>" if card.description else ""
    return (
        f"<p><b>{escape(card.name)}</b></p>{description}<table>{cells}</table><p><i>{escape(card.intended_use)}</i></p>"
    )


def _expects(model: ModelDescription) -> str:
    planes = "slices as stored in the file" if model.plane == "stored" else f"{model.plane} slices"
    height, width = model.size
    pixels = f"{height} × {width} pixels"
    if model.spacing_mm is None:
        size = f"each stretched to {pixels}"
    else:
        size = f"resampled to pixels of {model.spacing_mm:g} mm, at least {pixels}"
    return f"{', '.join(model.channels)}; {planes}, {size}; values: {model.intensity}"


def _results(metrics: dict[str, Any]) -> list[str]:
    """The protocol, then the figures: those of an evaluation's table, in its order, and unknown ones by their keys."""
    protocol = _text(metrics.get("protocol"))
    figures = [FIGURES[key] for key in FIGURES if key in metrics and EVALUATE in FIGURES[key].tables]
    lines = [
        f"{figure.title}{_BETTER[figure.better]}: {_text(metrics[figure.key], figure.decimals) or 'undefined'}"
        for figure in figures
    ]
    others = [key for key in metrics if key != "protocol" and key not in FIGURES]
    lines += [f"{key}: {_text(metrics[key]) or 'undefined'}" for key in others]
    return [*([protocol] if protocol else []), *lines] or ["none stated"]


def quality_lines(model: ModelDescription) -> list[str]:
    """What was measured with each quality that the model describes itself, then on what; nothing where nothing was."""
    lines, protocols = [], []
    titles = {quality.value: quality.label() for quality in Quality}
    for name, preset in sorted(model.qualities.items(), key=lambda item: [*titles, ONE_PASS].index(item[0])):
        if measured := preset.in_words():
            how = "One pass"
            if model.samples_by_steps and preset.sampling is not None:
                how = f"{titles[name]} ({preset.sampling.in_words(model.sampler_family)})"
            lines.append(f"{how}: {measured}")
            protocols += [preset.protocol] if preset.protocol and preset.protocol not in protocols else []
    return [*lines, *(f"Measured on {protocol}" for protocol in protocols)]


def _calibrations(model: ModelDescription) -> list[str]:
    """With which samplers, for how many samples and on what; nothing where nothing was."""
    lines = []
    for one in model.calibrations:
        sampler = "one pass" if one.sampling is None else one.sampling.in_words(model.sampler_family)
        numbers = ", ".join(str(entry.samples) for entry in one.of_samples)
        levels = " and ".join(f"{100 * area.level:g} %" for area in one.of_samples[0].areas)
        lines.append(f"{sampler}; {numbers} samples; intervals of {levels}; {one.data}")
    return lines


def _text(value: Any, decimals: int = 3) -> str:
    return "" if value is None else f"{value:.{decimals}f}" if isinstance(value, float) else str(value)
