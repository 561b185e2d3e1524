"""Reading images and masks as volumes, and writing volumes and segmentations that 3D Slicer opens."""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from AmbiguousSegLib.files import replacing
from AmbiguousSegLib.volume.geometry import Geometry

LESION_TERMINOLOGY = (
    "Segmentation category and type - 3D Slicer General Anatomy list"
    "~SCT^49755003^Morphologically Altered Structure~SCT^52988006^Lesion~^^"
    "~Anatomic codes - DICOM master list~^^~^^"
)  # Slicer's TerminologyEntry: context~category~type~modifier~anatomic context~region~modifier

_PICTURES = ("PNGImageIO", "JPEGImageIO", "TIFFImageIO", "BMPImageIO")  # made for screens, know no patient
_FULL_SCALE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0, "float64": 1.0}
_GRID_TOLERANCE = 0.01  # grids of two files are one when corners agree to this share of a voxel
_SERIES_TOLERANCE = 0.05  # of the slice distance: larger steps of the positions mean missing slices or a tilt


def read_image(path: Path | str) -> sitk.Image:
    """Any image as a 3-D SimpleITK image with its geometry.

    ``path`` is a file SimpleITK reads (NRRD, NIfTI, MetaImage, PNG, JPEG, TIFF, BMP, one DICOM file) or a folder with
    the files of one DICOM series. A 2-D image becomes a volume of one slice, a 4-D image with one time point loses
    that axis. Colour and vector images keep their components. What pictures (PNG, JPEG, TIFF, BMP) call resolution is
    meant for printing, so their spacing is always 1 mm; an alpha channel that is opaque everywhere is dropped.

    Raises:
        FileNotFoundError: nothing is there. PermissionError, OSError: the file cannot be opened.
        ValueError: not an image, cut off, several time points, complex numbers, a picture with transparency; a folder
            with no or several DICOM series, with missing slices, or with slices sheared by a tilted gantry.
    """
    path = Path(path)
    if path.is_dir():
        image, reader = _read_series(path), "GDCMImageIO"
    else:
        open(path, "rb").close()  # says what is wrong with a path better than SimpleITK does
        with _one_line_errors(path):
            image, reader = sitk.ReadImage(str(path)), sitk.ImageFileReader.GetImageIOFromFileName(str(path))
        if _is_cut_off(path, image):
            raise ValueError(f"{path} is cut off: data is missing at its end. Copy or download it again.")
    return _as_volume(image, reader in _PICTURES, path)


def read_channels(paths: Sequence[Path | str] | Path | str) -> tuple[np.ndarray, Geometry]:
    """Channels of one case, float32 ``(C, Z, Y, X)``, and their common grid.

    Each file gives one channel, or one per component (red, green, blue), in the order given. Values are as stored.

    Raises:
        ValueError: no file; grids that differ (both files and the property are named); a channel that holds NaN or
            infinity, or one value only. Otherwise as ``read_image``.
    """
    paths = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not paths:
        raise ValueError("No image was given; give one file for each channel.")
    images = [read_image(path) for path in paths]
    grids = [Geometry.of(image) for image in images]
    for path, grid in zip(paths, grids):
        if not _same_grid(grids[0], grid):
            raise ValueError(
                f"{paths[0]} and {path} do not share a grid: {grids[0].difference(grid)}. "
                "Resample one of them onto the other."
            )
    channels = []
    for path, image in zip(paths, images):
        components = _components(image)
        for number, stored in enumerate(components, 1):
            name = f"{path}" if len(components) == 1 else f"{path}, component {number} of {len(components)},"
            with np.errstate(over="ignore"):
                channel = stored.astype(np.float32)
            low, high = channel.min(), channel.max()  # a NaN survives min and max
            if not np.isfinite([low, high]).all():
                raise ValueError(f"{name} holds NaN or infinite values; replace them before use.")
            if low == high:
                raise ValueError(f"{name} holds the single value {low:g} everywhere; is it the intended image?")
            channels.append(channel)
    return np.stack(channels), grids[0]


def read_mask(path: Path | str, geometry: Geometry | None = None, threshold: float | None = None) -> np.ndarray:
    """Binary mask, bool ``(Z, Y, X)``; all False is a valid mask ("nothing there").

    Without ``threshold`` the file must hold 0 and at most one positive value. With it (a share of full scale in
    (0, 1): 0.5 for masks kept as JPEG) voxels above ``threshold`` × full scale are True, full scale being 255, 65535
    or, for floats, 1. A colour file must say the same in each colour. With ``geometry`` the file must lie on that
    grid; a ``.seg.nrrd``, which Slicer crops to the segment, may cover a part of it and is padded with False (Slicer
    saves an empty one without any grid).

    Raises:
        ValueError: more than two values, colours that disagree, a grid other than ``geometry``, a threshold outside
            (0, 1) or for a type without full scale. Otherwise as ``read_image``.
    """
    image = read_image(path)
    mask = _binary(_components(image), threshold, path)
    if geometry is None:
        return mask
    grid = Geometry.of(image)
    if _same_grid(geometry, grid):
        return mask
    if "Segment0_ID" in image.GetMetaDataKeys():
        if not mask.any():
            return np.zeros(geometry.shape, bool)
        first = np.round(geometry.to_index(grid.origin_mm)).astype(int)
        last = first + grid.size
        cropped = Geometry(grid.size, geometry.spacing_mm, tuple(geometry.to_mm(first)), geometry.direction)
        if np.all(first >= 0) and np.all(last <= geometry.size) and _same_grid(cropped, grid):
            padded = np.zeros(geometry.shape, bool)
            padded[tuple(slice(a, b) for a, b in zip(first[::-1], last[::-1]))] = mask
            return padded
    raise ValueError(
        f"{path} does not lie on the grid of its image: {geometry.difference(grid)}. Resample the mask onto the image."
    )


def write_volume(path: Path | str, array: np.ndarray, geometry: Geometry) -> None:
    """Write ``array`` ``(Z, Y, X)`` as compressed NRRD, in its own type (bool as uint8); all of it or nothing.

    Raises:
        ValueError: a name that does not end in ``.nrrd``, a shape other than the grid's, a type NRRD does not hold.
        OSError: the file could not be written; a file that was there before is unchanged.
    """
    if not str(path).lower().endswith(".nrrd"):
        raise ValueError(f"A volume is written as NRRD, got the name {path}; let it end in .nrrd.")
    if array.dtype not in (bool, "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"):
        raise ValueError(f"NRRD does not hold {array.dtype}; convert the volume to float32 first.")
    _write(geometry.image(array), path)


def write_segmentation(
    path: Path | str,
    mask: np.ndarray,
    geometry: Geometry,
    name: str,
    color: tuple[float, float, float] = (0.86, 0.2, 0.2),
    segment_id: str = "Segment_1",
    terminology: str = LESION_TERMINOLOGY,
) -> None:
    """Write ``mask``, bool ``(Z, Y, X)``, as a Slicer segmentation (``.seg.nrrd``) of one segment; all or nothing.

    ``color`` is red, green, blue in [0, 1]; ``terminology`` is a Slicer TerminologyEntry. The whole grid is stored, and
    named as reference geometry, so that Slicer keeps it when it saves the segmentation again.

    Raises:
        ValueError: another file name, a mask that is not bool or not of the grid's shape, a colour outside [0, 1], an
            empty name or id. OSError: as ``write_volume``.
    """
    if not str(path).lower().endswith(".seg.nrrd"):
        raise ValueError(f"A segmentation is written as .seg.nrrd, got the name {path}; let it end in .seg.nrrd.")
    if mask.dtype != bool:
        raise ValueError(f"A segmentation is written from a bool mask, got {mask.dtype}; threshold it first.")
    if len(color) != 3 or not all(0 <= c <= 1 for c in color):
        raise ValueError(f"Segment colour must be red, green, blue in [0, 1], got {color}; divide 8-bit values by 255.")
    if not name or not segment_id:
        raise ValueError(f"A segment needs a name and an id, got {name!r} and {segment_id!r}.")
    image = geometry.image(mask)
    header = {
        "Segment0_ID": segment_id,
        "Segment0_Name": name,
        "Segment0_NameAutoGenerated": "0",
        "Segment0_Color": " ".join(f"{c:.6g}" for c in color),
        "Segment0_ColorAutoGenerated": "0",
        "Segment0_Extent": _extent(mask),
        "Segment0_LabelValue": "1",
        "Segment0_Layer": "0",
        "Segment0_Tags": f"TerminologyEntry:{terminology}|",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
        "Segmentation_ConversionParameters": f"Reference image geometry|{geometry.slicer_text()}|&",
    }
    for key, value in header.items():
        image.SetMetaData(key, value)
    _write(image, path)


def _read_series(folder: Path) -> sitk.Image:
    with _one_line_errors(folder):
        series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        files = [sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid) for uid in series]
        if len(series) != 1:
            found = "; ".join(f"{uid} ({len(f)} files, e.g. {Path(f[0]).name})" for uid, f in zip(series, files))
            raise ValueError(
                f"{folder} holds {len(series)} DICOM series, expected one. "
                + (f"Move the wanted one to a folder of its own: {found}." if series else "Give a folder with one.")
            )
        if len(files[0]) == 1:
            return sitk.ReadImage(files[0][0])
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(files[0])
        reader.MetaDataDictionaryArrayUpdateOn()
        image = reader.Execute()
    if not all(reader.HasMetaDataKey(i, "0020|0032") for i in range(len(files[0]))):
        raise ValueError(f"{folder}: the DICOM files tell no slice positions, so they do not make a volume.")
    positions = np.array([reader.GetMetaData(i, "0020|0032").split("\\") for i in range(len(files[0]))], float)
    steps = np.diff(positions, axis=0)
    normal = np.array(image.GetDirection()).reshape(3, 3)[:, 2]
    along = steps @ normal
    allowed = _SERIES_TOLERANCE * abs(np.median(along))
    if not np.ptp(along) < allowed:
        raise ValueError(
            f"{folder}: slices are missing, doubled or unevenly spaced (steps from {along.min():.4g} to "
            f"{along.max():.4g} mm); complete the series, or load it in Slicer and export a regular volume."
        )
    if np.linalg.norm(steps - along[:, None] * normal, axis=1).max() > allowed:
        raise ValueError(
            f"{folder}: slices are shifted against each other (tilted gantry); load the series in Slicer with "
            "acquisition geometry regularization and export the corrected volume."
        )
    return image


def _as_volume(image: sitk.Image, picture: bool, path: Path) -> sitk.Image:
    if "complex" in image.GetPixelIDTypeAsString():
        raise ValueError(f"{path} holds complex numbers; give their magnitude.")
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = sitk.Extract(image, [*image.GetSize()[:3], 0])
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
    if image.GetDimension() != 3:
        raise ValueError(f"{path} has the size {image.GetSize()}, expected a 2-D or 3-D image; choose one time point.")
    if picture:
        image.SetSpacing((1.0, 1.0, 1.0))
        if image.GetNumberOfComponentsPerPixel() == 4:
            alpha = _components(image)[3]
            if alpha.min() < np.iinfo(alpha.dtype).max:
                raise ValueError(f"{path} is partly transparent; save it without an alpha channel.")
            image = sitk.Compose([sitk.VectorIndexSelectionCast(image, k) for k in range(3)])
    return image


def _components(image: sitk.Image) -> list[np.ndarray]:
    """Views ``(Z, Y, X)``, one per component."""
    array = sitk.GetArrayViewFromImage(image)
    return [array] if array.ndim == 3 else [array[..., k] for k in range(array.shape[-1])]


def _binary(components: list[np.ndarray], threshold: float | None, path: Path | str) -> np.ndarray:
    stored = components[0].dtype.name
    if threshold is not None:
        if not 0 < threshold < 1 or stored not in _FULL_SCALE:
            raise ValueError(
                f"{path}: a threshold is a share of full scale in (0, 1) of 8-bit, 16-bit unsigned or float data, "
                f"got {threshold} for {stored}."
            )
        masks = [c > threshold * _FULL_SCALE[stored] for c in components]
    else:
        jpeg = str(path).lower().endswith((".jpg", ".jpeg"))
        for c in components:
            top = 255 if jpeg and c.any() else c.max()  # what is not 0 or 255 in a JPEG is a trace of compression
            if top < 0 or not np.all((c == 0) | (c == top)):
                raise ValueError(
                    f"{path} is not a binary mask: it holds {_some_values(c)}. Expected 0 and one positive value; "
                    "choose one label, or pass threshold=0.5 to cut grey values (JPEG) at half of full scale."
                )
        masks = [c != 0 for c in components]
    if any(not np.array_equal(masks[0], other) for other in masks[1:]):
        raise ValueError(f"{path} holds {len(masks)} colours or layers that differ; save one mask as one grey image.")
    return masks[0]


def _some_values(array: np.ndarray) -> str:
    values = np.unique(array)
    return f"{len(values)} values ({', '.join(f'{v:g}' for v in values[:5])}{', …' if len(values) > 5 else ''})"


def _same_grid(a: Geometry, b: Geometry) -> bool:
    return a.same_grid(b, _GRID_TOLERANCE * min(a.spacing_mm))


def _extent(mask: np.ndarray) -> str:
    """First and last index of the mask along x, y, z; 0 −1, Slicer's empty extent, for an empty mask."""
    inside = [np.flatnonzero(mask.any(axis=other)) for other in ((0, 1), (0, 2), (1, 2))]
    return " ".join(f"{axis[0]} {axis[-1]}" if len(axis) else "0 -1" for axis in inside)


def _write(image: sitk.Image, path: Path | str) -> None:
    with replacing(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise OSError(f"{path} could not be written ({_reason(error)}); check space and permission.") from error


@contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    """Keep ITK's warnings off the terminal and turn its exceptions, a page each, into one line."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    except RuntimeError as error:
        raise ValueError(f"{path} is not a readable image ({_reason(error)}); is it complete, and an image?") from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _reason(error: RuntimeError) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    while lines[-1].startswith("Reason:"):  # ITK adds the last error of the system, often of another call
        lines.pop()
    return re.sub(r"^.*ERROR:\s*(\w+\(0x\w+\):\s*)?", "", lines[-1]).strip()


def _is_cut_off(path: Path, image: sitk.Image) -> bool:
    """True where SimpleITK has read zeros or grey for data that is missing at the end of the file."""
    with open(path, "rb") as file:
        head = file.read(6)
    if head[:2] == b"\xff\xd8":  # JPEG: an "end of image" must follow the last "start of scan"
        data = path.read_bytes()
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    size = path.stat().st_size
    if head[:2] == b"BM":  # BMP: the file's size follows
        return size < int.from_bytes(head[2:], "little")
    if head[:2] == b"\x1f\x8b":  # gzip: only its end tells
        try:
            with gzip.open(path) as stream:
                size = sum(iter(lambda: len(stream.read(1 << 22)), 0))
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return True
    if path.name.lower().endswith((".nii", ".nii.gz")):
        shape = [int(image.GetMetaData(f"dim[{k}]")) for k in range(1, 1 + int(image.GetMetaData("dim[0]")))]
        return size < float(image.GetMetaData("vox_offset")) + math.prod(shape) * int(image.GetMetaData("bitpix")) / 8
    return False
