"""How much memory a case may take, and how much it took."""

from __future__ import annotations

import math
import sys
from contextlib import suppress
from pathlib import Path

from AmbiguousSegLib.files import size_text
from AmbiguousSegLib.volume.file_checks import memory_bytes
from AmbiguousSegLib.volume.geometry import Geometry

_PEAK = Path("/proc/self/clear_refs"), Path("/proc/self/status")  # of Linux


def check_samples(samples: int, geometry: Geometry, channels: int, classes: int, own_maps: int = 0) -> None:
    """ValueError where the samples of a volume cannot fit into this machine's memory, before any is made.

    Counted are what surely is there at once: the volume (float32), a byte for each voxel of each mask, and the maps.
    """
    voxels = math.prod(geometry.size)
    needed = voxels * (4 * channels + samples + 4 * (2 * classes + own_maps))
    if needed > memory_bytes():
        raise ValueError(
            f"{samples} samples of {voxels:,} voxels take {size_text(needed)}, this process has "
            f"{size_text(memory_bytes())}; sample fewer, or crop the volume."
        )


def start_peak() -> None:
    """Forget the process's peak so far, where the system can."""
    with suppress(OSError):
        _PEAK[0].write_text("5", encoding="ascii")


def peak_bytes() -> int | None:
    """The most memory that the process had since ``start_peak`` (since its start, on other systems than Linux).

    None on Windows.
    """
    with suppress(OSError):
        for line in _PEAK[1].read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
