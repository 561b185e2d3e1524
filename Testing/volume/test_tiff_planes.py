"""What the pages of a TIFF are: slices, channels, points of time; by tifffile for ImageJ and OME, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from picture_bytes import tiff, tiff_tags

from AmbiguousSegLib.volume.image import components_of, read_image
from AmbiguousSegLib.volume.io import is_flat
from AmbiguousSegLib.volume.tiff_planes import planes_of

STACK = np.random.default_rng(0).integers(0, 60_000, (4, 3, 6, 7)).astype(np.uint16)  # four slices of three channels


def values(path):
    """``(Z, Y, X, C)``."""
    return np.stack(components_of(read_image(path)), -1)


@pytest.mark.parametrize("program", ["imagej", "ome"])
def test_slices_and_channels(tmp_path, program):
    path = tmp_path / ("p.ome.tif" if program == "ome" else "p.tif")
    for axes, stack in (("ZCYX", STACK), ("ZYX", STACK[:, 0]), ("CYX", STACK[0]), ("YX", STACK[0, 0])):
        tifffile.imwrite(path, stack, **{program: True}, metadata={"axes": axes}, photometric="minisblack")
        z, c = stack.shape[0] if "Z" in axes else 1, 3 if "C" in axes else 1
        true = stack.reshape(z, c, 6, 7).transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(values(path), true)
        assert is_flat(path) == (z == 1)


def test_channels_before_slices(tmp_path):
    tifffile.imwrite(tmp_path / "p.ome.tif", STACK, ome=True, metadata={"axes": "CZYX"}, photometric="minisblack")
    np.testing.assert_array_equal(values(tmp_path / "p.ome.tif"), STACK.transpose(1, 2, 3, 0))


def test_a_coloured_stack(tmp_path):
    rgb = STACK.transpose(0, 2, 3, 1)
    for options in ({"ome": True}, {}):
        tifffile.imwrite(tmp_path / "p.tif", rgb, metadata={"axes": "ZYXS"}, photometric="rgb", **options)
        np.testing.assert_array_equal(values(tmp_path / "p.tif"), rgb)


def test_pages_without_a_word_are_slices(tmp_path):
    pages = [(tiff_tags(7, 6, 16), [plane.tobytes()]) for plane in STACK[:, 0]]
    (tmp_path / "p.tif").write_bytes(tiff(pages))
    np.testing.assert_array_equal(values(tmp_path / "p.tif")[..., 0], STACK[:, 0])
    assert not is_flat(tmp_path / "p.tif")


@pytest.mark.parametrize("program", ["imagej", "ome", "shaped"])
def test_points_of_time_are_refused(tmp_path, program):
    options = {} if program == "shaped" else {program: True}
    tifffile.imwrite(tmp_path / "p.tif", STACK[:, 0], **options, metadata={"axes": "TYX"}, photometric="minisblack")
    with pytest.raises(ValueError, match=r"holds 4 points of time, expected one picture.*save the part that is meant"):
        read_image(tmp_path / "p.tif")


def test_pages_that_differ_are_refused(tmp_path):
    pages = [(tiff_tags(7, 6), [bytes(42)]), (tiff_tags(7, 5), [bytes(35)])]
    (tmp_path / "p.tif").write_bytes(tiff(pages))
    with pytest.raises(ValueError, match=r"2 pages that are no stack: page 2 is.*\(7 × 6 and 7 × 5 pixels\)"):
        read_image(tmp_path / "p.tif")


def test_pages_that_are_told_of_but_not_there_are_refused(tmp_path):
    path = tmp_path / "p.tif"
    for text in (b"ImageJ=1.53\nimages=20\nslices=20\n\0", b'{"shape": [20, 6, 7], "axes": "ZYX"}\0'):
        path.write_bytes(tiff([(tiff_tags(7, 6) | {270: (2, text)}, [bytes(42)])]))
        with pytest.raises(ValueError, match=r"says that it has 20 slices, but has 1 page\(s\)"):
            read_image(path)
    two = b'<OME><Image><Pixels SizeC="1"/></Image><Image><Pixels SizeC="1"/></Image></OME>\0'
    path.write_bytes(tiff([(tiff_tags(7, 6) | {270: (2, two)}, [bytes(42)])]))
    with pytest.raises(ValueError, match="holds 2 images of OME, expected one"):
        read_image(path)


def test_signed_values_of_imagej(tmp_path):
    """ImageJ keeps HU as what they are above −32768, and says so."""
    hu = np.array([[-1024, 0, 40], [3071, -32768, 32767]])
    text = b"ImageJ=1.53\ncf=0\nc0=-32768.0\nc1=1.0\nvunit=Gray Value\n\0"
    stored = (hu + 32768).astype("<u2")
    (tmp_path / "p.tif").write_bytes(tiff([(tiff_tags(3, 2, 16) | {270: (2, text)}, [stored.tobytes()])]))
    np.testing.assert_array_equal(values(tmp_path / "p.tif")[0, ..., 0], hu)
    other = text.replace(b"cf=0", b"cf=3")
    (tmp_path / "p.tif").write_bytes(tiff([(tiff_tags(3, 2, 16) | {270: (2, other)}, [stored.tobytes()])]))
    with pytest.raises(ValueError, match=r"ImageJ calibrates by its function '3'.*convert it to 32 bits"):
        read_image(tmp_path / "p.tif")


@pytest.mark.parametrize(
    ("description", "pages", "told"),
    [
        ("ImageJ=1\nimages=junk\nslices=99999999999999999999\n", 1, None),
        ('{"shape": ' + "[" * 100_000, 2, None),
        ('{"shape": [2, 2, 3], "axes": "QRST"}', 2, None),
        ('{"shape": [2, 3, 4], "axes": "HYX"}', 2, "2 pictures along an axis H"),
        ('{"shape": [2, 3, 4, 4], "axes": "ZQYX"}', 6, "3 pages"),
        ('<OME><Pixels SizeZ="2" DimensionOrder="XYZ"/></OME>', 2, "DimensionOrder is 'XYZ'"),
        ('<OME><Pixels SizeZ="two"/></OME>', 2, "says that it has 0 slices"),
    ],
)
def test_odd_descriptions(tmp_path, description, pages, told):
    if told is None:
        assert planes_of(tmp_path / "p.tif", description, pages, 1).pages.shape == (pages, 1)
    else:
        with pytest.raises(ValueError, match=told):
            planes_of(tmp_path / "p.tif", description, pages, 1)
