"""``python Testing/SlicerHost/render_pictures.py OUT_DIR``: the tutorial's slice views, and a thumbnail.

The scene is the sample data with samples of the bundled model; Slicer's own code draws it (``render.py``). The pictures
belong into ``Resources/Screenshots``, ``AmbiguousSegPhantom.png`` into ``AmbiguousSeg/Resources/Icons``.
"""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "AmbiguousSeg"), str(REPOSITORY / "Testing")]

import numpy as np  # noqa: E402
import slicer  # noqa: E402
from AmbiguousSegBridge.scene.grid import read_channels  # noqa: E402
from AmbiguousSegBridge.scene.sample_data import add_phantom  # noqa: E402
from AmbiguousSegBridge.scene.sample_sets import add_sample_set  # noqa: E402
from PIL import Image  # noqa: E402

from SlicerHost.host import make_host  # noqa: E402
from SlicerHost.render import SliceView, add_slice_view, montage, why_not  # noqa: E402

SAMPLES, SEED = 8, 0
OUTLINE_PIXELS = 2
THUMBNAIL_SIZE = (240, 180)


class Pictures:
    """The scene, one axial view of it, and what is shown there."""

    def __init__(self) -> None:
        from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
        from AmbiguousSegLib.model import load_model
        from AmbiguousSegLib.resources import find_model

        self.scene = make_host()
        self.scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())  # as Slicer's module Colors does
        self.volume, self.raters = add_phantom(self.scene)
        voxels, geometry = read_channels([self.volume])
        request = SampleRequest(samples=SAMPLES, seed=SEED)
        samples = sample_volume(load_model(find_model("phantom-cimd-64")), voxels, geometry, request)
        self.run = add_sample_set(self.scene, samples, "AmbiguousSeg phantom samples", self.volume)
        self.where, self.composite = add_slice_view(self.scene)
        self.view = SliceView(self.scene, self.where)
        self.composite.SetBackgroundVolumeID(self.volume.GetID())
        worst = int(samples.variance().sum(axis=(1, 2)).argmax())
        self.where.SetSliceOffset(worst * geometry.spacing_mm[2])

    def render(self, size: tuple[int, int], *segmentations: slicer.vtkMRMLSegmentationNode) -> np.ndarray:
        """The view with these segmentations' outlines alone."""
        for node in (self.raters, self.run.consensus, *self.run.samples):
            node.GetDisplayNode().SetVisibility(node in segmentations)
            node.GetDisplayNode().SetSliceIntersectionThickness(OUTLINE_PIXELS)
        return self.view.render(size)

    def sample_data(self) -> np.ndarray:
        """The image, each rater, and all of them."""
        size = (262, 262)
        segments = list(self.raters.GetSegmentation().GetSegmentIDs())
        display, pictures = self.raters.GetDisplayNode(), [self.render(size)]
        for shown in (*([segment] for segment in segments), segments):
            for segment in segments:
                display.SetSegmentVisibility(segment, segment in shown)
            pictures.append(self.render(size, self.raters))
        return montage(pictures, ["image", *(s.replace("_", " ") for s in segments), "all four"], 3)

    def samples(self) -> np.ndarray:
        """Every sample in its colour."""
        pictures = [self.render((196, 196), sample) for sample in self.run.samples]
        return montage(pictures, [f"sample {number:02d}" for number in range(1, SAMPLES + 1)], 4)

    def map(self, node: slicer.vtkMRMLScalarVolumeNode, title: str) -> np.ndarray:
        """A map over the image with its colour legend and the consensus."""
        self.composite.SetForegroundVolumeID(node.GetID())
        self.composite.SetForegroundOpacity(0.7)
        legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(node)
        legend.SetTitleText(title)
        legend.SetLabelFormat("%.2f")
        legend.SetNumberOfLabels(6)
        legend.SetMaxNumberOfColors(256)
        legend.SetSize(0.09, 0.6)
        for text in (legend.GetTitleTextProperty(), legend.GetLabelTextProperty()):
            text.SetFontSize(18)
            text.SetFontFamilyToArial()
        legend.SetVisibility(True)
        picture = self.render((760, 570), self.run.consensus)
        legend.SetVisibility(False)
        self.composite.SetForegroundVolumeID(None)
        return picture

    def thumbnail(self) -> np.ndarray:
        """The raters' outlines, small and without margins."""
        self.render(THUMBNAIL_SIZE, self.raters)
        width, height = THUMBNAIL_SIZE
        field = 64.0  # mm, the phantom's width
        self.where.SetFieldOfView(field, field * height / width, self.where.GetFieldOfView()[2])
        return self.view.render(THUMBNAIL_SIZE, fit=False)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    if reason := why_not():
        print(f"error: {reason}", file=sys.stderr)
        return 1
    out = Path(arguments[0])
    out.mkdir(parents=True, exist_ok=True)
    pictures = Pictures()
    for name, picture in (
        ("1_sample_data", pictures.sample_data()),
        ("2_samples", pictures.samples()),
        ("3_mean", pictures.map(pictures.run.mean, "mean")),
        ("4_variance", pictures.map(pictures.run.variances[0], "variance")),
        ("AmbiguousSegPhantom", pictures.thumbnail()),
    ):
        path = out / f"{name}.png"
        Image.fromarray(picture).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size // 1000} kB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
