"""How a command line chooses a quality, and says what those of the bundled models give."""

from __future__ import annotations

import argparse

from AmbiguousSegLib.card import quality_lines
from AmbiguousSegLib.description import read_description
from AmbiguousSegLib.quality import Quality
from AmbiguousSegLib.resources import bundled_models


class ParserWithQualities(argparse.ArgumentParser):
    """Its help ends with what the bundled models give, which is read when somebody asks for it."""

    def format_help(self) -> str:
        """The help, then a line for each quality; ValueError or OSError for a bundled model that cannot be read."""
        found = [read_description(folder) for folder in bundled_models()]
        lines = [
            f"  {model.card.name}:\n" + "\n".join(f"    {line}" for line in quality_lines(model) or ["not measured"])
            for model in found
        ]
        return f"{super().format_help()}\nqualities of the bundled models (in brackets 95 % intervals):\n" + "\n".join(
            [*lines, ""]
        )


def add_quality_argument(p: argparse.ArgumentParser) -> None:
    """``--quality``, which ``cli.sample.sampler_settings`` reads."""
    p.add_argument(
        "--quality",
        choices=[quality.value for quality in Quality],
        help=f"in place of --sampler and what belongs to it: {', '.join(q.in_words() for q in Quality)}, or "
        "what the model itself says of each (default: the model's own sampler); a model of one pass has one quality",
    )
