"""How large a network may be that is no mistake."""

from __future__ import annotations

MOST_CHANNELS, MOST_LAYERS = 65_536, 64


def check_limits(config: object, channels: int, layers: int) -> None:
    """ValueError for a configuration with more channels in a layer, or more layers or blocks in a row."""
    if channels > MOST_CHANNELS or layers > MOST_LAYERS:
        raise ValueError(
            f"{type(config).__name__} takes at most {MOST_CHANNELS:,} channels, and {MOST_LAYERS} blocks or "
            f"convolutions in a row, got {channels:,} and {layers:,}; make it smaller."
        )
