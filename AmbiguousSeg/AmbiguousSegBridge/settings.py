"""What is to be sampled, and the job by which the runner is asked for it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import slicer

from AmbiguousSegBridge.scene.fit import kind_of
from AmbiguousSegBridge.scene.grid import channel_arrays, point_of, region_of
from AmbiguousSegBridge.worker.runner import Job
from AmbiguousSegLib.description import ModelDescription
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.ensemble.refinement import DenseCRFConfig
from AmbiguousSegLib.inference.point_sampling import Pointing
from AmbiguousSegLib.quality import Quality, sampler_of
from AmbiguousSegLib.volume.geometry import Geometry, SliceAxes


@dataclass(frozen=True)
class Settings:
    """What to sample.

    Attributes:
        model: description of the model.
        volumes: one scalar volume node per channel of the model, in its order.
        samples: how many.
        region: box outside of which nothing is marked; None: the whole volume.
        slice_range: first and last slice, both included, along the model's plane; None: all.
        point: in place of both: a place in the lesion, as the scene has it (RAS mm), around which the model's field of
            view is sampled, slice by slice outward until no sample goes on.
        window_mm, grow_window: how much is looked at around it, see ``Pointing``.
        lesion: what is pointed at, by name; the run is named after it.
        device: "auto", or a device by its torch name.
        sampler: None: what the quality stands for.
        refine: by what the border of each sample is moved to that of the image; None: nothing does.
    """

    model: ModelDescription
    volumes: tuple[slicer.vtkMRMLScalarVolumeNode, ...]
    samples: int = 8
    quality: Quality = Quality.FAST
    seed: int = 0
    device: str = "auto"
    region: slicer.vtkMRMLMarkupsROINode | None = None
    slice_range: tuple[int, int] | None = None
    sampler: SamplerSettings | None = None
    point: tuple[float, float, float] | None = None
    window_mm: float | None = None
    grow_window: bool = False
    lesion: str = ""
    refine: DenseCRFConfig | None = None

    def pointing(self, geometry: Geometry) -> Pointing | None:
        """What is pointed at in the first volume, on its grid; ValueError where it cannot be sampled."""
        if self.point is None:
            if self.window_mm is not None or self.grow_window:
                raise ValueError("A window belongs to a point. Give a point, too.")
            return None
        pointing = Pointing(point_of(self.point, self.volumes[0]), self.window_mm, self.grow_window)
        pointing.check_alone(self.slice_range, self.region)
        pointing.likely_slices(self.model.preprocessing, geometry)
        return pointing

    def sampler_argument(self) -> dict[str, Any] | None:
        """Sampler in plain JSON types; None for a model that does not sample by steps."""
        model = self.model
        own = sampler_of(self.quality, model.training_steps, model.qualities, model.sampler_family)
        chosen = self.sampler or own
        return None if chosen is None else asdict(chosen)


def slice_count(model: ModelDescription, volume: slicer.vtkMRMLScalarVolumeNode) -> int:
    """Slices of a volume along the model's plane."""
    geometry = channel_arrays([volume])[1]
    return SliceAxes.of(geometry, model.plane).of_index(geometry.size)[0]


def sample_job(settings: Settings, first_sample: int = 0, kind: str = "sample") -> Job:
    """Job that samples (or, by ``kind``, estimates) what the settings say.

    Raises:
        ValueError: volumes, region or point that do not fit, in one line.
    """
    wanted = len(settings.model.channels)
    if len(settings.volumes) != wanted or None in settings.volumes:
        raise ValueError(
            f"The model reads {wanted} volume(s) ({', '.join(settings.model.channels)}), "
            f"{sum(volume is not None for volume in settings.volumes)} chosen. Choose one for each channel."
        )
    gone = [volume.GetName() for volume in settings.volumes if volume.GetScene() is None]
    if gone:
        raise ValueError(f"The volume {', '.join(gone)} is no longer in the scene. Choose one that is.")
    arrays, geometry = channel_arrays(settings.volumes)
    files = [f"channel_{number}.npy" for number in range(len(arrays))]
    region = None if settings.region is None else region_of(settings.region, settings.volumes[0])
    modality, picture = kind_of(settings.volumes)
    arguments = {
        "model": str(settings.model.folder),
        "device": settings.device,
        "channels": files,
        "geometry": asdict(geometry),
        "samples": settings.samples,
        "first_sample": first_sample,
        "seed": settings.seed,
        "sampler": settings.sampler_argument(),
        "slice_range": None if settings.slice_range is None else list(settings.slice_range),
        "region": None if region is None else [list(corner) for corner in region],
        "pointing": None if (pointing := settings.pointing(geometry)) is None else asdict(pointing),
        "refine": None if settings.refine is None else asdict(settings.refine),
        "modality": modality,
        "picture": picture,
    }
    plain = json.loads(json.dumps(arguments))  # tuples become the lists that the worker would see
    return Job(kind, plain, dict(zip(files, arrays)) if kind == "sample" else {})
