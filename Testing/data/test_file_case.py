"""A case of files: what is read of them, and how often."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from AmbiguousSegLib.data import file_case
from AmbiguousSegLib.data.file_case import FileCase, RaterFile


def test_masks_need_no_voxel_of_the_image(tmp_path, monkeypatch):
    """Its header tells the grid that they are checked against; a rater without a file is empty on it."""
    values = np.zeros((3, 4, 5), np.uint8)
    values[1, 2, 3] = 1
    image = sitk.GetImageFromArray(values.astype(np.int16))
    image.SetSpacing((0.5, 0.75, 2.5))
    mask = sitk.GetImageFromArray(values)
    mask.CopyInformation(image)
    sitk.WriteImage(image, str(tmp_path / "image.nii.gz"))
    sitk.WriteImage(mask, str(tmp_path / "mask.nii.gz"))
    raters = RaterFile("anna", tmp_path / "mask.nii.gz"), RaterFile("ben", None)
    case = FileCase("a", "a", (tmp_path / "image.nii.gz",), raters)
    read = []
    monkeypatch.setattr(file_case, "read_image", lambda path, *_: read.append(path))
    np.testing.assert_array_equal(case.load_masks(), [values, np.zeros_like(values)])
    assert read == []
