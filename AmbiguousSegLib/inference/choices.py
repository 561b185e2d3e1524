"""What ``Computation`` may be asked for; read without torch."""

from __future__ import annotations

PRECISIONS = ("float32", "bfloat16")
RANDOM_SOURCES = ("addressed", "device")
