"""Many plausible segmentations of one image, and their comparison with what several raters drew.

Arrays are ``(N, Z, Y, X)`` for masks of a volume and ``(B, C, H, W)`` for batches of slices; lengths are
millimetres and end in ``_mm``. The library never imports Slicer, VTK or Qt.

The names below are the public interface. Each is imported when it is first asked for, so that importing the package
takes no time and no torch::

    import AmbiguousSegLib as ambiguous

    model = ambiguous.load_model("MODEL_FOLDER")
    volume, geometry = ambiguous.read_volume("ct.nrrd")
    samples = ambiguous.sample_volume(model, volume, geometry, ambiguous.SampleRequest(samples=16, seed=1))
    ambiguous.write_outputs(samples, volume, "results")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from AmbiguousSegLib.ensemble.sample_set import SampleSet
    from AmbiguousSegLib.evaluation.rater_comparison import compare_with_raters
    from AmbiguousSegLib.inference.point_sampling import Pointing
    from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
    from AmbiguousSegLib.labels import Label
    from AmbiguousSegLib.metrics.figures import compare
    from AmbiguousSegLib.model import load_model
    from AmbiguousSegLib.outputs.result_folder import write_outputs
    from AmbiguousSegLib.volume.io import read_volume

__version__ = "0.1.0"
REPOSITORY = "https://github.com/AmbiguousSeg/AmbiguousSeg"
"""Where the software is published. After a change of this line, ``make address`` brings it into all other files."""

__all__ = [
    "Label",
    "Pointing",
    "SampleRequest",
    "SampleSet",
    "compare",
    "compare_with_raters",
    "load_model",
    "read_volume",
    "sample_volume",
    "write_outputs",
]

_HOMES = {
    "Label": "labels",
    "Pointing": "inference.point_sampling",
    "SampleRequest": "inference.volume_sampling",
    "SampleSet": "ensemble.sample_set",
    "compare": "metrics.figures",
    "compare_with_raters": "evaluation.rater_comparison",
    "load_model": "model",
    "read_volume": "volume.io",
    "sample_volume": "inference.volume_sampling",
    "write_outputs": "outputs.result_folder",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
