"""Of which types the arguments of the worker's jobs are; each job says what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

Voxel = tuple[int, int, int]
Corner = tuple[float, float, float]


@dataclass(frozen=True)
class MaskEntry:
    """A mask as ``runner.crops_argument`` makes it; those that are exported have a name of a file, and one to show."""

    file: str
    start: Voxel
    shape: Voxel
    stem: str = ""
    title: str = ""


class Given(dict[str, Any]):
    """Arguments of a job; one that is missing is a ValueError that names it."""

    def __missing__(self, key: str) -> Any:
        raise ValueError(f"The job lacks its argument {key!r}; restart Slicer, so that all parts are of one version.")


def given(kind: str, arguments: Mapping[str, Any]) -> Given:
    """The arguments of a job of this kind; ValueError that names the one that is not of its type."""
    from AmbiguousSegLib.configuration import check_value

    types = _types().get(kind, {})
    for key in arguments.keys() & types.keys():
        check_value(types[key], arguments[key], key)
    return Given(arguments)


@cache
def _types() -> dict[str, dict[str, Any]]:
    from AmbiguousSegLib.ensemble.refinement import DenseCRFConfig
    from AmbiguousSegLib.inference.point_sampling import Pointing
    from AmbiguousSegLib.labels import Label
    from AmbiguousSegLib.volume.geometry import Geometry

    masks, names = tuple[MaskEntry, ...], tuple[str, ...]
    sampling = {
        **{"model": str, "device": str, "geometry": Geometry, "samples": int, "first_sample": int, "seed": int},
        **{"sampler": dict[str, Any] | None, "slice_range": tuple[int, int] | None, "modality": str, "picture": bool},
        **{"region": tuple[Corner, Corner] | None, "pointing": Pointing | None, "refine": DenseCRFConfig | None},
    }
    raters = {"samples": masks, "raters": masks, "sample_names": names, "rater_names": names, "geometry": Geometry}
    files = {"masks": masks, "maps": dict[str, str], "geometry": Geometry, "folder": str, "form": str}
    files |= {"labels": tuple[Label, ...], "source_files": names, "model_name": str, "overwrite": bool}
    return {
        "sample": {**sampling, "channels": names},
        "estimate": sampling,
        "modes": {"masks": masks, "classes": int, "cut": float},
        "compare": raters,
        "export": files,
    }
