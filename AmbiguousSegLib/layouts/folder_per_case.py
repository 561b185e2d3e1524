"""The reader "folder": images with the masks of several raters, as picture files.

A case is a folder with files ``image*`` and ``label*`` or ``rater*`` (PNG, JPEG or TIFF). That covers the layout of the
official CIMD code (``<case>/image_<n>.jpg, label0_.jpg, …``) and ``<set>/<case>/image.png, rater_<name>.png``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.readers import READERS
from AmbiguousSegLib.labels import Label

JPEG, SUFFIXES = (".jpg", ".jpeg"), (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_ROLE = re.compile(r"(image|label|rater)", re.IGNORECASE)
_FULL_SCALE = {sitk.sitkUInt8: 255, sitk.sitkVectorUInt8: 255, sitk.sitkUInt16: 65535, sitk.sitkVectorUInt16: 65535}


@dataclass(frozen=True)
class FolderCase:
    """One image and its raters' masks; a ``readers.Case``. Nothing is read before it is asked for.

    Attributes:
        identity: path of the case's folder below the data folder, with slashes: ``rabbit_aorta_mri/TPre01``.
        subject: whom it shows; cases of one subject never go to different splits.
        image_files: one file per channel, or one whose components are the channels.
        mask_files: one per rater.
        classes: K, number of labels of the masks.
    """

    identity: str
    subject: str
    image_files: tuple[Path, ...]
    mask_files: tuple[Path, ...]
    classes: int = 1

    @property
    def group(self) -> str:
        """First folder of the identity if there are several, the set a case belongs to; otherwise empty."""
        return self.identity.split("/")[0] if "/" in self.identity else ""

    @property
    def rater_names(self) -> tuple[str, ...]:
        """Raters in the order of :meth:`load_masks`: ``rater_crowd1.png`` is crowd1, ``label0_.jpg`` is label0."""
        return tuple(re.sub(r"^rater[_-]+", "", f.stem, flags=re.IGNORECASE).rstrip("_-") for f in self.mask_files)

    def load_image(self) -> np.ndarray:
        """Image as float32 (C, H, W) in [0, 1]: 8-bit values / 255, 16-bit values / 65535, never stretched.

        Raises:
            ValueError: unreadable or truncated file, a stack of pages, a pixel type other than 8- or 16-bit unsigned
                (float images bear no full scale, and may hold NaN), or files of different sizes.
        """
        channels = [_read(file) for file in self.image_files]
        for file, channel in zip(self.image_files, channels, strict=True):
            _check_same_size(file, channel.shape[1:], self.image_files[0], channels[0].shape[1:])
        return np.concatenate([c.astype(np.float32) / np.iinfo(c.dtype).max for c in channels])

    def load_masks(self) -> np.ndarray:
        """Masks as uint8 label maps (R, H, W) in the order of ``rater_names``; empty masks stay.

        PNG and TIFF hold the labels 0 to K. With one class they must hold 0 and at most one other value, which is the
        lesion, whatever it is. JPEG blurs masks: there the lesion, the only class, is what lies above half of full
        scale (> 127), and something must if not all is 0.

        Raises:
            ValueError: as :meth:`load_image`; also a mask with other values, with several components, of another size
                than the image, or a JPEG of several classes.
        """
        size = _header(self.image_files[0])[1]
        return np.stack([self._load_mask(file, size) for file in self.mask_files])

    def _load_mask(self, file: Path, size: tuple[int, int]) -> np.ndarray:
        values = _read(file)
        _check_mask(file, len(values), values.shape[1:], self.image_files[0], size)
        if self.classes > 1:
            return self._label_map(file, values[0])
        if file.suffix.lower() in JPEG:
            if 0 < values.max() <= np.iinfo(values.dtype).max // 2:
                raise ValueError(f"{file}: mask is not black and white: brightest value {values.max()}, expected 255.")
            return (values[0] > np.iinfo(values.dtype).max // 2).view(np.uint8)
        others = np.unique(values[values > 0])
        if len(others) > 1:
            raise ValueError(f"{file}: mask is not binary: {len(others)} values beside 0, expected one (such as 255).")
        return (values[0] > 0).view(np.uint8)

    def _label_map(self, file: Path, values: np.ndarray) -> np.ndarray:
        if file.suffix.lower() in JPEG:
            raise ValueError(f"{file}: JPEG blurs labels: store masks of {self.classes} classes as PNG or TIFF.")
        if values.max() > self.classes:
            raise ValueError(
                f"{file}: mask holds the value {values.max()}, expected the labels 0 to {self.classes}; number the "
                "classes in the order of the labels."
            )
        return values.astype(np.uint8)


@READERS.register("folder")
def read_folder(folder: Path, config: DataConfig, labels: Sequence[Label]) -> list[FolderCase]:
    """Reader of this layout: what :func:`read_cases` gives, checked by :func:`check_cases`, whose errors are these."""
    cases = read_cases(folder, config.subject_pattern, len(labels))
    check_cases(cases)
    return cases


def read_cases(folder: Path | str, subject_pattern: str | None = None, classes: int = 1) -> list[FolderCase]:
    """Cases anywhere below ``folder``, sorted by identity (numbers by value). Reads names only, not the files.

    Args:
        folder: data folder. Links to folders inside it are not followed; hidden files are left out.
        subject_pattern: regular expression with one group, which is the subject, searched in the identity. By default
            every case is its own subject.
        classes: K, number of labels of the masks.

    Raises:
        ValueError: a folder that cannot be listed; no case found; a case without image or rater; a file named like one
            but not PNG, JPEG or TIFF; two masks of one rater; a pattern without exactly one group, or not found in an
            identity.
    """
    folder = Path(folder)
    try:
        pattern = re.compile(subject_pattern or "(.*)")
    except re.error as error:
        raise ValueError(f"subject_pattern {subject_pattern!r} is not a regular expression: {error}.") from error
    if pattern.groups != 1:
        raise ValueError(f"subject_pattern {subject_pattern!r} has {pattern.groups} groups, expected exactly one.")
    cases = []
    for place, _, names in os.walk(folder, onerror=_raise):
        files = [Path(place, n) for n in sorted(names, key=_by_number) if _ROLE.match(n)]
        if files:
            identity = Path(place).relative_to(folder).as_posix()
            identity = folder.resolve().name if identity == "." else identity
            cases.append(_case(Path(place), identity, files, pattern, classes))
    if not cases:
        raise ValueError(f"{folder}: no cases found; expected folders with files image* and label* or rater*.")
    return sorted(cases, key=lambda case: _by_number(case.identity))


def check_cases(cases: Sequence[FolderCase]) -> int:
    """Check every case by the headers of its files, without reading pixels: about 0.3 ms a file.

    Returns:
        Number of channels, the same for all cases.

    Raises:
        ValueError: the first file that ``load_image`` or ``load_masks`` would refuse for its header,
            or a case with another number of channels than the first.
    """
    if not cases:
        raise ValueError("No cases to check: expected at least one.")
    counts = []
    for case in cases:
        reference, size = case.image_files[0], _header(case.image_files[0])[1]
        for file in case.mask_files:
            _check_mask(file, *_header(file), reference, size)
        for file in case.image_files:
            _check_same_size(file, _header(file)[1], reference, size)
        counts.append(sum(_header(file)[0] for file in case.image_files))
        if counts[-1] != counts[0]:
            raise ValueError(
                f"{reference.parent}: {counts[-1]} channels, but {counts[0]} in {cases[0].identity}: give all cases "
                "the same channels."
            )
    return counts[0]


def _case(place: Path, identity: str, files: list[Path], pattern: re.Pattern[str], classes: int) -> FolderCase:
    for file in files:
        if file.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{file}: not one of {', '.join(SUFFIXES)}: convert it, or give it another name.")
    images = tuple(f for f in files if f.name.lower().startswith("image"))
    masks = tuple(f for f in files if f not in images)
    if not images or not masks:
        missing = "no raters (files label* or rater*)" if images else "no image (file image*)"
        raise ValueError(f"{place}: {missing}: a case needs at least one image and one rater.")
    found = pattern.search(identity)
    if found is None or found[1] is None:
        raise ValueError(f"{place}: subject_pattern {pattern.pattern!r} is not found in {identity!r}: correct it.")
    case = FolderCase(identity, found[1], images, masks, classes)
    names = case.rater_names
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{place}: {names.count(name)} masks of rater {name!r}, expected one: rename or remove.")
    return case


def _header(file: Path) -> tuple[int, tuple[int, int]]:
    """Number of components, and size (H, W)."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ValueError(f"{file}: cannot be read: missing, truncated, or not an image.") from error
    if reader.GetDimension() != 2 and set(reader.GetSize()[2:]) != {1}:
        raise ValueError(f"{file}: a stack of {reader.GetSize()[2]} pages, expected one image.")
    if reader.GetPixelID() not in _FULL_SCALE:
        kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
        raise ValueError(f"{file}: pixels are {kind}, expected 8- or 16-bit unsigned integers: convert it.")
    return reader.GetNumberOfComponents(), reader.GetSize()[1::-1]


def _read(file: Path) -> np.ndarray:
    """Values as stored: uint8 or uint16 (components, H, W)."""
    components, size = _header(file)
    if file.suffix.lower() in JPEG and b"\xff\xd9" not in file.read_bytes()[-1024:]:
        raise ValueError(f"{file}: truncated: the end marker of JPEG is missing.")  # the decoder would fill up in grey
    try:
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    except RuntimeError as error:
        raise ValueError(f"{file}: cannot be read: truncated or damaged.") from error
    return np.moveaxis(values.reshape(*size, components), -1, 0)


def _check_mask(file: Path, components: int, size: tuple[int, int], image: Path, expected: tuple[int, int]) -> None:
    if components != 1:
        raise ValueError(f"{file}: mask has {components} components, expected 1: store it as a grey image.")
    _check_same_size(file, size, image, expected)


def _check_same_size(file: Path, size: tuple[int, int], reference: Path, expected: tuple[int, int]) -> None:
    if tuple(size) != tuple(expected):
        raise ValueError(
            f"{file}: {size[0]} × {size[1]} pixels (H × W), but {reference.name} has {expected[0]} × {expected[1]}: "
            "they must be drawn on the same grid."
        )


def _raise(error: OSError) -> None:
    raise ValueError(f"{error.filename}: cannot be listed: {error.strerror}.") from error


def _by_number(text: str) -> list[int | str]:
    """Sorting key by which label2 comes before label10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]
