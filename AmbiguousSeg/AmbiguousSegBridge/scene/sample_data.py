"""The phantom with four raters as Slicer sample data: computed on this machine, nothing is downloaded.

Needs nothing beyond Slicer's bundled packages.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import slicer

from AmbiguousSegBridge.scene.grid import ijk_to_ras
from AmbiguousSegBridge.scene.sample_sets import add_volume
from AmbiguousSegBridge.scene.segments import add_segment
from AmbiguousSegLib import __version__
from AmbiguousSegLib.labels import LESION_TERMINOLOGY
from AmbiguousSegLib.volume.crops import Crop
from AmbiguousSegLib.volume.geometry import Geometry

log = logging.getLogger(__name__)

CATEGORY = "AmbiguousSeg"
SAMPLE_NAME = "AmbiguousSegPhantom"
VOLUME_NAME, RATERS_NAME = "AmbiguousSeg phantom", "AmbiguousSeg phantom raters"
THUMBNAIL = Path(__file__).resolve().parents[2] / "Resources" / "Icons" / "AmbiguousSegPhantom.png"
LUNG_WINDOW_HU = (-1000.0, 200.0)
RATER_COLOURS = ((0.35, 0.71, 0.95), (1.0, 0.65, 0.1), (0.3, 0.85, 0.4), (0.95, 0.5, 0.85))  # apart on grey

_ADDRESS = "ambiguousseg:"
_FILES = (f"{SAMPLE_NAME}-{__version__}.nrrd", f"{SAMPLE_NAME}Raters-{__version__}.seg.nrrd")


def add_phantom(
    scene: slicer.vtkMRMLScene, seed: int = 0
) -> tuple[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSegmentationNode]:
    """Put the phantom volume and its four raters into the scene.

    Voxels, grid and masks are those that ``python -m AmbiguousSegLib phantom --volume`` writes for the seed. The
    raters' masks overlap: each is a segment with a labelmap of its own, cropped to what it marks.

    Returns:
        volume node, and segmentation node with the segments ``rater_1`` to ``rater_4``.

    Raises:
        ValueError: negative seed.
    """
    # Imported late: it brings parts of scipy for which Slicer's start need not wait.
    from AmbiguousSegLib.data.lung_phantom import phantom_volume

    phantom = phantom_volume(seed)
    masks = phantom.draw_masks(np.random.default_rng([seed, 1]), len(RATER_COLOURS))
    size, spacing = phantom.image.shape[::-1], phantom.spacing_mm[::-1]
    geometry = Geometry(size, spacing, (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))

    volume = add_volume(scene, phantom.image, geometry, scene.GenerateUniqueName(VOLUME_NAME))
    display = volume.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(*LUNG_WINDOW_HU)

    raters = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(RATERS_NAME))
    raters.CreateDefaultDisplayNodes()
    raters.GetDisplayNode().SetVisibility2DFill(False)  # four fills on top of each other hide what they disagree on
    raters.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for number, (mask, colour) in enumerate(zip(masks, RATER_COLOURS, strict=True), start=1):
        add_segment(
            raters,
            f"rater_{number}",
            f"rater {number}",
            colour,
            LESION_TERMINOLOGY,
            Crop.of(mask),
            ijk_to_ras(geometry),
        )
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    if not hierarchy.GetItemByDataNode(raters):  # Slicer made it with the node, slicer-core does not
        hierarchy.CreateItem(hierarchy.GetSceneItemID(), raters)
    return volume, raters


def register() -> None:
    """Add the phantom to the module Sample Data; call it once Slicer has started up. A second call changes nothing.

    Slicer's button calls ``customDownloader``. ``SampleData.downloadSample`` and its kin do not (5.10 to 5.13): they
    ask for the addresses, for which a rewrite rule then makes files.
    """
    import SampleData  # a module of Slicer, there once Slicer has started up

    SampleData.SampleDataLogic.registerUrlRewriteRule(SAMPLE_NAME, _made_file)
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=SAMPLE_NAME,
        uris=[_ADDRESS + name for name in _FILES],
        fileNames=list(_FILES),
        nodeNames=[VOLUME_NAME, RATERS_NAME],
        loadFileTypes=["VolumeFile", "SegmentationFile"],
        thumbnailFileName=str(THUMBNAIL),
        customDownloader=_load,
    )


def _load(_source: object) -> list[slicer.vtkMRMLNode]:
    """What the button in Sample Data does: the phantom into Slicer's scene, and into its slice views."""
    nodes = list(add_phantom(slicer.mrmlScene))
    if hasattr(slicer, "app"):
        slicer.util.setSliceViewerLayers(background=nodes[0], fit=True)
    return nodes


def _made_file(address: str) -> str:
    """URL of a file made for one of our addresses; any other address as it is."""
    name = address.removeprefix(_ADDRESS)
    if name == address or name not in _FILES:
        return address
    # Not the name under which Sample Data keeps its copy: it may copy from here to there.
    folder = Path(slicer.mrmlScene.GetCacheManager().GetRemoteCacheDirectory()) / CATEGORY
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    scene = slicer.vtkMRMLScene()
    node = add_phantom(scene)[_FILES.index(name)]
    storage = node.CreateDefaultStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(path))
    if not storage.WriteData(node):
        raise OSError(f"{path} could not be written; check space and permission of Slicer's cache folder.")
    log.info("Phantom written to %s", path)
    return path.as_uri()
