"""What the module remembers: the state of its panels, saved with the scene.

The names of fields and of enum members are the format of saved scenes.
"""

from __future__ import annotations

import enum
import pathlib
from typing import Annotated

from slicer import (
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLMarkupsROINode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLScriptedModuleNode,
    vtkMRMLSegmentationNode,
)
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from AmbiguousSegBridge.scene.review_queue import ReviewBy, ReviewOf
from AmbiguousSegBridge.scene.views import Overlay
from AmbiguousSegLib.ensemble.consensus import DEFAULT_THRESHOLD
from AmbiguousSegLib.labels import MOST_LABELS
from AmbiguousSegLib.quality import Quality

CHANNELS = 6  # selectors in the .ui
MOST_SAMPLES = 100
LARGEST_INT = 2**31 - 1  # of a spin box


class ExportContent(enum.Enum):
    """What of a run is exported."""

    EVERYTHING = "Samples, consensus and maps"
    SHOWN = "The shown sample"
    CONSENSUS = "The consensus"

    def label(self) -> str:
        return self.value


class SegmentsAre(enum.Enum):
    """What the segments of a rater's segmentation are; see ``labels.segments_are_classes``."""

    AUTO = "auto"
    RATERS = "raters"
    CLASSES = "classes"

    def label(self) -> str:
        """For people."""
        return {
            "auto": "Classes if all bear names of labels, otherwise raters",
            "raters": "Raters, one each",
            "classes": "Classes of one rater",
        }[self.value]


@parameterNodeWrapper
class AmbiguousSegParameterNode:
    """State of the module.

    model - Name of a bundled model, or path of a model folder; empty: the default model.
    channel1 ... channel6 - Input volumes, in the order of the model's channels.
    points - Points in lesions, each of which is segmented by itself; in place of region and slices.
    showWindows - Whether a box is drawn around each point, of what the model will look at.
    region - Box outside of which nothing is segmented.
    limitSlices, firstSlice, lastSlice - Slices to segment, both included, counted along the model's plane.
    samples, moreSamples - How many segmentations the two buttons sample.
    quality - Sampler and number of steps.
    seed - Everything random follows from it.
    device - "auto", or a device by its torch name.
    refineBorders - Whether the border of each sample is moved to that of the image.
    run - The run that the panels show.
    shownSample - Its position in the run, from 1; 0: all.
    consensusThreshold - Share of samples above which the consensus of one class takes a voxel.
    overlay, overlayOpacity - Map shown over the volume.
    shownClass - Class, from 1, whose mean or variance is shown; the first where the run has fewer.
    modeCut - 1 - IoU within which samples are one mode.
    raterNodes, raterSegments - Raters' segments; both lists have one entry per rater.
    showRaters - Whether the raters' segments are visible.
    segmentsAre - Whether the segments of a segmentation are raters, or classes that one rater marked.
    resampleRaters - Whether raters on another grid are resampled, rather than refused.
    comparisonTable - Which table of the comparison is shown.
    together - Whether all samples stay in the views when one is chosen, whose outline is then in front.
    showContours - Whether contours of the mean map are shown.
    reviewOf, reviewBy - What is reviewed one after another, and in which order.
    reviewOpenOnly - Whether lesions that are decided are left out.
    exportContent, exportForm, exportFolder - What is exported, as what (in FORMATS) and where to.
    """

    model: str = ""
    channel1: vtkMRMLScalarVolumeNode
    channel2: vtkMRMLScalarVolumeNode
    channel3: vtkMRMLScalarVolumeNode
    channel4: vtkMRMLScalarVolumeNode
    channel5: vtkMRMLScalarVolumeNode
    channel6: vtkMRMLScalarVolumeNode
    points: vtkMRMLMarkupsFiducialNode
    showWindows: bool = True
    region: vtkMRMLMarkupsROINode
    limitSlices: bool = False
    firstSlice: Annotated[int, WithinRange(0, LARGEST_INT)] = 0
    lastSlice: Annotated[int, WithinRange(0, LARGEST_INT)] = 0
    samples: Annotated[int, WithinRange(1, MOST_SAMPLES)] = 8
    moreSamples: Annotated[int, WithinRange(1, MOST_SAMPLES)] = 8
    quality: Quality = Quality.FAST
    seed: Annotated[int, WithinRange(0, LARGEST_INT)] = 0
    device: str = "auto"
    refineBorders: bool = False
    run: vtkMRMLScriptedModuleNode
    shownSample: Annotated[int, WithinRange(0, 10_000)] = 0
    consensusThreshold: Annotated[float, WithinRange(0.0, 0.99)] = DEFAULT_THRESHOLD
    overlay: Overlay = Overlay.MEAN
    overlayOpacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.5
    shownClass: Annotated[int, WithinRange(1, MOST_LABELS)] = 1
    modeCut: Annotated[float, WithinRange(0.05, 1.0)] = 0.5
    raterNodes: list[vtkMRMLSegmentationNode]
    raterSegments: list[str]
    showRaters: bool = True
    segmentsAre: SegmentsAre = SegmentsAre.AUTO
    resampleRaters: bool = False
    comparisonTable: str = "summary"
    together: bool = False
    showContours: bool = False
    reviewOf: ReviewOf = ReviewOf.LESIONS
    reviewBy: ReviewBy = ReviewBy.DISAGREEMENT
    reviewOpenOnly: bool = False
    exportContent: ExportContent = ExportContent.EVERYTHING
    exportForm: str = "seg_nrrd"
    exportFolder: pathlib.Path
