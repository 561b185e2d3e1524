"""What the result of a job depends on, and whether a folder holds it."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from AmbiguousSegLib.studies.jobs import Job

if TYPE_CHECKING:
    from AmbiguousSegLib.ensemble.refinement import DenseCRFConfig
    from AmbiguousSegLib.inference.point_sampling import Pointing

REQUEST, RESULT = "request.json", "samples.json"
_DATA_FILE = re.compile(rb"^(?:ElementDataFile\s*=|data ?file:)\s*(.*?)\s*$", re.MULTILINE)  # of .mhd and .nhdr
_UNNAMED: dict[str, Any] = {  # in requests of earlier versions
    **dict.fromkeys(("grid", "spacing_mm", "series", "pointing", "refinement", "region")),
    **{"computation": [None, False, None], "fuse": False},
}


def pointing_of(job: Job, options: argparse.Namespace) -> Pointing | None:
    """What a job points at, or None; the study's window counts where its row gives no size.

    Raises:
        ValueError: a size that is none.
    """
    from AmbiguousSegLib.inference.point_sampling import Pointing

    if job.point_mm is None:
        return None
    return Pointing(job.point_mm, options.window if job.window_mm is None else job.window_mm, options.grow_window)


def request_of(job: Job, options: argparse.Namespace, refine: DenseCRFConfig | None = None) -> dict[str, Any]:
    """Everything the result depends on, as plain JSON: two equal requests give equal results.

    Raises:
        OSError: if a channel or the model does not exist, or cannot be read.
    """
    from AmbiguousSegLib.configuration import to_dict

    model = options.model if job.model is None else job.model
    return {
        "channels": [state_of(path) for path in job.channels],
        "model_sha256": hashlib.sha256((model / "model.json").read_bytes()).hexdigest(),
        "samples": options.samples,
        "seed": options.seed if job.seed is None else job.seed,
        "sampler": options.sampler,
        "steps": options.steps,
        "grid": options.grid,
        "quality": options.quality,
        "series": job.series,
        "slices": None if job.slices is None else list(job.slices),
        "region": None if job.region is None else [list(corner) for corner in job.region],
        "spacing_mm": options.spacing_mm,
        "pointing": None if (pointing := pointing_of(job, options)) is None else to_dict(pointing),
        "computation": [options.precision, options.cuda_graph, options.random_source],
        "refinement": None if refine is None else refine.in_json(),
        "fuse": options.fuse,
    }


def state_of(path: Path) -> dict[str, str]:
    """A volume as it is now: changes when a file of it is written anew, added or removed."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path, *_data_file(path)]
    states = [(file.name, (state := file.stat()).st_size, state.st_mtime_ns) for file in files]
    return {"path": str(path.resolve()), "files_sha256": hashlib.sha256(json.dumps(states).encode()).hexdigest()}


def _data_file(path: Path) -> list[Path]:
    """The file of voxels that a header names, if it names just one."""
    if path.suffix.lower() not in (".mhd", ".nhdr"):
        return []
    found = _DATA_FILE.search(path.read_bytes())
    data = path.parent / (found[1].decode(errors="replace") if found else "")
    return [data] if data.is_file() else []


def is_done(folder: Path, request: dict[str, Any], extra: Sequence[str] = ()) -> bool:
    """Whether ``folder`` holds the complete result of an equal request.

    Args:
        extra: names of files that belong to it, beside request and result. A request or result that cannot be read
            counts as not there.
    """
    if not all((folder / name).is_file() for name in (REQUEST, RESULT, *extra)):
        return False
    earlier = read_object(folder / REQUEST)
    return earlier is not None and read_object(folder / RESULT) is not None and {**_UNNAMED, **earlier} == request


def read_object(path: Path) -> dict[str, Any] | None:
    """The object that a file of JSON holds; None where there is none, or it cannot be read."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
