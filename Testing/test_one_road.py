"""Training sees a file exactly as sampling feeds it to the network, whichever reader found it: bit for bit.

Each layout is written to disk as it is in the world. One road is the reader, the index and the store of slices, through
which training draws; the other is the way of the command ``sample``: the same files given by hand to ``read_volume``
and ``sample_volume``, with a method that notes what it is shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from lidc_files import FIRST_Z, STEP, nodule, readings, rectangle, roi, write_ct
from tiny_models import Untrained, UntrainedConfig

from AmbiguousSegLib import cli
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.readers import READERS, read_all, recognised
from AmbiguousSegLib.data.slices import SliceStore, index
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label
from AmbiguousSegLib.model import Model
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.io import read_volume
from AmbiguousSegLib.volume.preprocessing import Intensity

RNG = np.random.default_rng(8)
OBLIQUE = (0.0, 0.0, 1.0, -1.0, 0.0, 0.0, 0.0, -1.0, 0.0)  # stored from left to right, as sagittal series are
Files = dict[str, list[Path]]  # of the images of each case, by its identity


class Seen(Untrained):
    """Marks nothing, and remembers every image that it is shown."""

    size_multiple = 4

    def __init__(self, config):
        super().__init__(config)
        self.images = []

    def prepare(self, image):
        self.images.extend(image.numpy().copy())
        return (image,)

    def sample(self, prepared, noise, settings, on_step=None):
        return torch.zeros(len(prepared[0]), 1, *prepared[0].shape[-2:])


def volume(path: Path, values: np.ndarray) -> Path:
    """A file of 0.8 × 1.1 × 2.5 mm on a turned grid."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.8, 1.1, 2.5)), image.SetOrigin((12.5, -7.25, 31.0)), image.SetDirection(OBLIQUE)
    sitk.WriteImage(image, str(path))
    return path


def picture(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(values, isVector=values.ndim == 3), str(path))
    return path


def ct() -> np.ndarray:
    return RNG.integers(-1000, 600, (9, 14, 11), np.int16)


def grey(size: tuple[int, int] = (13, 17), dtype: type = np.uint8) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max, size, dtype, endpoint=True)


def mask(shape: tuple[int, ...], value: int = 1) -> np.ndarray:
    return (RNG.random(shape) < 0.3).astype(np.uint8) * np.uint8(value)


def folder_of_volumes(root: Path) -> Files:
    files = {}
    for name in ("a", "b"):
        files[name] = [volume(root / name / "image.nii.gz", ct())]
        for rater in ("anna", "ben"):
            volume(root / name / f"rater_{rater}.nrrd", mask((9, 14, 11)))
    return files


def folder_of_pictures(root: Path) -> Files:
    files = {}
    for name, size in (("a", (13, 17)), ("b", (20, 12))):
        files[name] = [picture(root / name / "image.png", grey(size))]
        picture(root / name / "rater_anna.png", mask(size, 255))
    return files


def official_cimd(root: Path) -> Files:
    found = [picture(root / "7" / "image_0.jpg", grey((16, 16)))]
    for rater in range(4):
        picture(root / "7" / f"label{rater}_.jpg", mask((16, 16), 255))
    return {"7": found}


def folder_per_rater(root: Path) -> Files:
    files = {}
    for name in ("a", "b"):
        files[name] = [picture(root / "images" / f"{name}.tif", grey(dtype=np.uint16))]
        for rater in (1, 2):
            picture(root / f"rater_{rater}" / f"{name}.png", mask((13, 17), 255))
    return files


def table_of_files(root: Path) -> Files:
    volume(root / "m1.nrrd", mask((9, 14, 11))), volume(root / "m2.mha", mask((9, 14, 11)))
    files = [volume(root / "t1.nrrd", ct()), volume(root / "t2.nrrd", ct())]
    (root / "cases.csv").write_text("identity,image_t1,image_t2,rater_a,rater_b\nx,t1.nrrd,t2.nrrd,m1.nrrd,m2.mha\n")
    return {"x": files}


def raw_nnunet(root: Path) -> Files:
    files = {}
    for name in ("p1", "p2"):
        files[name] = [volume(root / "imagesTr" / f"{name}_{k:04d}.nii.gz", ct()) for k in range(2)]
        volume(root / "labelsTr" / f"{name}.nii.gz", mask((9, 14, 11)))
    described = {"channel_names": {"0": "a", "1": "b"}, "labels": {"background": 0, "lesion": 1}}
    described |= {"numTraining": 2, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(described))
    return files


def brats(root: Path) -> Files:
    name = "BraTS20_Training_001"
    names = {part: root / name / f"{name}_{part}.nii.gz" for part in ("t1", "t1ce", "t2", "flair", "seg")}
    volume(names.pop("seg"), mask((9, 14, 11), 4))
    return {name: [volume(path, RNG.integers(0, 900, (9, 14, 11), np.int16)) for path in names.values()]}


def isic(root: Path) -> Files:
    found = picture(root / "ISIC2018_Task1-2_Training_Input" / "ISIC_0000001.jpg", grey((13, 17, 3)))
    truth = root / "ISIC2018_Task1_Training_GroundTruth" / "ISIC_0000001_segmentation.png"
    picture(truth, mask((13, 17), 255))
    return {"ISIC_0000001": [found]}


def ms_challenge(root: Path) -> Files:
    patient = root / "training" / "training01"
    for rater in (1, 2):
        volume(patient / "masks" / f"training01_01_mask{rater}.nii", mask((9, 14, 11)))
    images = {
        part: volume(patient / "preprocessed" / f"training01_01_{part}_pp.nii", ct().astype(np.float32))
        for part in ("pd", "flair", "mprage", "t2")
    }
    return {"training01_01": list(images.values())}


def lidc_idri(root: Path) -> Files:
    folder, series = root / "LIDC-IDRI-0001" / "1.2" / "1.2.3", "1.2.3"
    images = write_ct(folder, series)
    outline = rectangle(4, 5, 12, 15)
    marked = nodule("n", *(roi(outline, images[k], FIRST_Z + k * STEP) for k in (1, 2)))
    (folder / "069.xml").write_text(readings(series, marked, "", marked, ""), encoding="utf-8")
    return {f"LIDC-IDRI-0001_{series}": [folder]}


WINDOW, WHOLE = Intensity("window", -900.0, 400.0), Intensity("percentile", 1.0, 99.0)
BYTES = Intensity("full_scale", high=255.0)
SPACED: dict = {"plane": "axial", "spacing_mm": 1.3, "size": (8, 8)}
FOUR = ("one", "two", "three", "four")
LAYOUTS: dict[str, tuple[str, Callable[[Path], Files], dict]] = {
    "volumes": ("folder", folder_of_volumes, {**SPACED, "intensity": WINDOW}),
    "volumes as stored": ("folder", folder_of_volumes, {"size": (12, 8), "intensity": WHOLE}),
    "pictures": ("folder", folder_of_pictures, {"size": (16, 16), "intensity": BYTES}),
    "official CIMD": ("folder", official_cimd, {"size": (16, 16), "intensity": BYTES}),
    "raters": ("raters", folder_per_rater, {"size": (8, 12), "intensity": Intensity("full_scale", high=65535.0)}),
    "list": ("list", table_of_files, {**SPACED, "intensity": (WINDOW, WHOLE), "channels": ("t1", "t2")}),
    "nnunet": ("nnunet", raw_nnunet, {**SPACED, "intensity": WHOLE, "channels": ("a", "b"), "plane": "coronal"}),
    "brats": ("brats", brats, {**SPACED, "intensity": WHOLE, "channels": FOUR}),
    "isic": ("isic", isic, {"size": (16, 20), "intensity": BYTES, "channels": ("red", "green", "blue")}),
    "lidc": ("lidc", lidc_idri, {**SPACED, "intensity": WINDOW}),
    "ms_challenge": ("ms_challenge", ms_challenge, {"size": (8, 8), "intensity": WHOLE, "channels": FOUR}),
}


def fed(files: list[Path], config: DataConfig) -> list[np.ndarray]:
    """What sampling shows the network of these files, slice after slice."""
    return fed_of(*read_volume(files), config)


def fed_of(values: np.ndarray, geometry: Geometry, config: DataConfig) -> list[np.ndarray]:
    method = Seen(UntrainedConfig(len(config.channels)))
    sample_volume(Model(method, config.preprocessing(4)), values, geometry, SampleRequest(samples=1, batch_size=3))
    return method.images


def trained_on(folder: Path, config: DataConfig, labels=DEFAULT_LABELS) -> dict[str, list[np.ndarray]]:
    """What training draws patches from, by the identity of the case, slice after slice."""
    preprocessing, cases = config.preprocessing(4), read_all(folder, config, labels)
    slices, _, limits = index(cases, preprocessing, len(labels))
    store = SliceStore(preprocessing, len(labels), limits, 2**24)
    found: dict[str, list[np.ndarray]] = {case.identity: [] for case in cases}
    for one in slices:
        found[one.case.identity].append(store.load(one.case, one.number)[0])
    return found


def assert_alike(trained: list[np.ndarray], sampled: list[np.ndarray]) -> None:
    assert len(trained) == len(sampled) > 0
    for one, other in zip(trained, sampled):
        assert one.dtype == other.dtype == np.float32 and 0 <= one.min() < one.max() <= 1
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("prepared", [False, True], ids=["originals", "prepared"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_training_sees_what_sampling_feeds(tmp_path, layout, prepared, capsys):
    kind, write, settings = LAYOUTS[layout]
    if kind == "lidc":
        pytest.importorskip("pydicom")
    folder = tmp_path / "data"
    folder.mkdir()
    files = write(folder)
    assert recognised(folder)[0] == kind
    config = DataConfig(**settings)
    if prepared:
        assert cli.main(["prepare", "--data", str(folder), "--out", str(tmp_path / "out")]) == 0
        folder = tmp_path / "out"
    trained = trained_on(folder, config)
    assert trained.keys() == files.keys()
    for identity, images in files.items():
        assert_alike(trained[identity], fed(images, config))


def test_arrays_of_a_list_are_what_sampling_would_feed(tmp_path):
    """No file of its own could be sampled: against the same values on a grid made by hand."""
    values = RNG.integers(-1000, 600, (3, 15, 12), np.int16)
    np.savez(tmp_path / "a.npz", ct=values, masks=mask((3, 2, 15, 12)), mm=np.array([0.5, 0.7, 0.9]))
    entry = {"npz": "a.npz", "image": "ct", "raters": "masks", "spacing": "mm"}
    (tmp_path / "cases.json").write_text(json.dumps(entry))
    config = DataConfig(**SPACED, intensity=WINDOW)
    trained = trained_on(tmp_path / "cases.json", config)
    for images, plane, mm in zip(trained.values(), values, (0.5, 0.7, 0.9), strict=True):
        grid = Geometry((12, 15, 1), (mm, mm, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
        assert_alike(images, fed_of(plane[None, None].astype(np.float32), grid, config))


def test_pictures_of_told_spacing_fill_the_size(tmp_path):
    """A picture does not know its pixels: told that it has 0.5 mm at 16 × 16, it is stretched to that size."""
    files = folder_of_pictures(tmp_path)
    config = DataConfig(size=(16, 16), spacing_mm=0.5, intensity=BYTES)
    trained = trained_on(tmp_path, config)
    for identity, images in files.items():
        assert_alike(trained[identity], fed(images, replace(config, spacing_mm=None)))


def test_every_reader_is_tried_here():
    tried = {kind for kind, *_ in LAYOUTS.values()} | {"prepared", "list"}
    assert tried == set(READERS)


@pytest.mark.parametrize("labels", [DEFAULT_LABELS, (Label("core"), Label("edema"))])
def test_masks_lie_where_their_image_does(tmp_path, labels):
    """The image of each case is its rater's mask, scaled: on the network's grid the two are still one."""
    values = mask((9, 14, 11))
    if len(labels) > 1:
        values[values > 0] = RNG.integers(1, 3, int(values.sum()), np.uint8)
    volume(tmp_path / "a" / "image.nrrd", values.astype(np.int16) * 100)
    volume(tmp_path / "a" / "rater_x.nii.gz", values)
    config = DataConfig(size=(8, 8), plane="axial", spacing_mm=1.1, intensity=Intensity("window", 0.0, 200.0))
    (case,) = read_all(tmp_path, config, labels)
    slices, _, limits = index([case], config.preprocessing(), len(labels))
    store = SliceStore(config.preprocessing(), len(labels), limits, 2**24)
    for one in slices:
        image, masks = store.load(case, one.number)
        inside = np.abs(image[0] * 2 - np.rint(image[0] * 2)) < 1e-6  # where interpolation mixes nothing
        np.testing.assert_array_equal(np.rint(image[0] * 2)[inside], masks[0][inside])
