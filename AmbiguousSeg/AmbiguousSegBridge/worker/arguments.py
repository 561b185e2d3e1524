"""What each job is given: names and types of its arguments. Each job's docstring says what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from AmbiguousSegBridge.worker.messages import MaskFile, check_file_names
from AmbiguousSegLib.ensemble.refinement import DenseCRFConfig
from AmbiguousSegLib.inference.point_sampling import Pointing
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.volume.geometry import Geometry

Corner = tuple[float, float, float]


@dataclass(frozen=True)
class Sampling:
    """Of the jobs "sample" and "estimate" (which reads no files).

    Attributes:
        model: folder.
        device: "auto", "cpu", "cuda:0" …
        channels: files ``(Z, Y, X)`` of real numbers, all on the grid ``geometry``.
        sampler: {"name", "steps", "grid", "options"}; None: the model's own.
        slice_range: first and last, both included; None: all.
        region: two corners, LPS mm; None: everything.
        pointing: in place of both.
        refine: by what borders are moved to those of the image; None: masks as they are drawn.
        modality: as DICOM names it, or empty.
        picture: whether it does not tell the size of its pixels.
    """

    model: str
    device: str
    channels: tuple[str, ...]
    geometry: Geometry
    samples: int
    first_sample: int
    seed: int
    sampler: dict[str, Any] | None
    slice_range: tuple[int, int] | None
    region: tuple[Corner, Corner] | None
    pointing: Pointing | None
    refine: DenseCRFConfig | None
    modality: str
    picture: bool

    def __post_init__(self) -> None:
        check_file_names(*self.channels)


@dataclass(frozen=True)
class Grouping:
    """Of the job "modes": masks of one grid, how many classes they have, and the distance that parts two modes."""

    masks: tuple[MaskFile, ...]
    classes: int
    cut: float


@dataclass(frozen=True)
class Comparing:
    """Of the job "compare": masks of one grid with names, and the names of the classes."""

    samples: tuple[MaskFile, ...]
    raters: tuple[MaskFile, ...]
    sample_names: tuple[str, ...]
    rater_names: tuple[str, ...]
    labels: tuple[str, ...]
    geometry: Geometry


@dataclass(frozen=True)
class NamedMask(MaskFile):
    """A mask to export, with the name of its file and one to show."""

    stem: str
    title: str


@dataclass(frozen=True)
class Exporting:
    """Of the job "export".

    Attributes:
        maps: a file for each name.
        folder: where to.
        form: in ``FORMATS``.
        source_files: DICOM files of the volume, as far as they are known.
    """

    masks: tuple[NamedMask, ...]
    maps: dict[str, str]
    geometry: Geometry
    folder: str
    form: str
    labels: tuple[Label, ...]
    source_files: tuple[str, ...]
    model_name: str
    overwrite: bool

    def __post_init__(self) -> None:
        check_file_names(*self.maps.values())
