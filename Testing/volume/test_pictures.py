"""Pictures in all doors: channels, masks, headers; and what is no picture."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image
from shared_data import shared_path

from AmbiguousSegLib.data.file_case import FileCase, RaterFile
from AmbiguousSegLib.volume.headers import read_header
from AmbiguousSegLib.volume.image import components_of, read_image
from AmbiguousSegLib.volume.io import is_flat, read_label_map, read_mask, read_volume
from AmbiguousSegLib.volume.pictures import is_picture
from AmbiguousSegLib.volume.segments import read_rater_maps

CLASSES = np.array([[0, 1, 2, 3], [3, 2, 1, 0], [0, 0, 1, 1]], np.uint8)
VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]


def test_label_maps_with_a_palette_are_its_numbers_in_every_door(tmp_path):
    path = tmp_path / "m.png"
    picture = Image.fromarray(CLASSES).convert("P")
    picture.putdata(CLASSES.ravel().tolist())
    picture.putpalette(VOC)
    picture.save(path)
    np.testing.assert_array_equal(read_label_map(path, classes=3)[0], CLASSES)
    np.testing.assert_array_equal(read_rater_maps(path, ("a", "b", "c")).masks["m"][0], CLASSES)
    Image.fromarray(CLASSES * 10).save(tmp_path / "i.png")
    own = FileCase("c", "c", (tmp_path / "i.png",), (RaterFile("r", path),), ("a", "b", "c"))
    np.testing.assert_array_equal(own.load_masks()[0, 0], CLASSES)
    merged = RaterFile("r", path, labels=((1, 1), (2, 1), (3, 0)))
    case = FileCase("c", "c", (tmp_path / "i.png",), (merged,))
    np.testing.assert_array_equal(case.load_masks()[0, 0], np.isin(CLASSES, (1, 2)))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_label_maps_of_few_bits_keep_their_numbers(tmp_path, bits):
    labels = CLASSES % (1 << bits)
    palette = Image.fromarray(labels).convert("P")
    palette.putdata(labels.ravel().tolist())
    palette.putpalette(VOC)
    palette.save(tmp_path / "m.png", bits=bits)
    np.testing.assert_array_equal(read_label_map(tmp_path / "m.png", classes=3)[0], labels)


def test_a_grey_mask_with_opaque_alpha_is_a_mask(tmp_path):
    marked = CLASSES > 1
    for alpha in (255, 0):
        pair = np.stack([255 * marked, np.full(marked.shape, 255) & np.where(marked, 255, alpha)], -1).astype(np.uint8)
        Image.fromarray(pair, "LA").save(tmp_path / "m.png")
        if alpha:
            np.testing.assert_array_equal(read_mask(tmp_path / "m.png")[0], marked)
        else:
            with pytest.raises(ValueError, match="partly transparent"):
                read_mask(tmp_path / "m.png")


def test_values_keep_their_type_which_tells_the_full_scale(tmp_path):
    dark = np.arange(12, dtype=np.uint16).reshape(3, 4)
    tifffile.imwrite(tmp_path / "a.tif", dark)
    Image.fromarray(dark.astype(np.uint8)).save(tmp_path / "b.png")
    assert read_volume(tmp_path / "a.tif")[0].dtype == np.uint16
    assert read_volume([tmp_path / "b.png"] * 2)[0].dtype == np.uint8
    assert read_volume([tmp_path / "a.tif", tmp_path / "b.png"])[0].dtype == np.float32
    tifffile.imwrite(tmp_path / "f.tif", dark.astype(np.float64))
    assert read_volume(tmp_path / "f.tif")[0].dtype == np.float32


def test_views_outlive_their_image(tmp_path):
    Image.fromarray(CLASSES).save(tmp_path / "p.png")
    parts = components_of(read_image(tmp_path / "p.png"))
    for _ in range(50):
        components_of(read_image(tmp_path / "p.png"))
    np.testing.assert_array_equal(parts[0][0], CLASSES)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "I;16"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_headers_say_what_reading_gives(tmp_path, mode, suffix):
    source = np.add.outer(np.arange(6), np.arange(9)).astype(np.uint16 if mode == "I;16" else np.uint8)
    picture = Image.fromarray(source) if mode in ("L", "I;16") else Image.fromarray(source).convert(mode)
    exif = Image.Exif()
    exif[0x112] = 8
    picture.save(tmp_path / f"p.{suffix}", exif=exif)
    path = tmp_path / f"p.{suffix}"
    image, header = read_image(path), read_header(path)
    assert image.GetSize() == (6, 9, 1) == header.geometry.size
    assert header.channels == image.GetNumberOfComponentsPerPixel()
    assert is_flat(path) and is_picture(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"GIF89a" + bytes(30), "is a GIF, which is not read; save it as PNG or TIFF"),
        (b"RIFF\x1e\0\0\0WEBPVP8 " + bytes(30), "is WebP"),
        (b"\0\0\0\x18ftypheic" + bytes(30), "is HEIC"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(30), "is JPEG 2000"),
        (b"8BPS" + bytes(30), "Photoshop"),
        (b"%PDF-1.4" + bytes(30), "is a PDF"),
        (b"BM, in words, is no bitmap", "is not a readable image"),
        (b"\x89PNG", "is not a readable image"),
    ],
)
def test_what_is_not_read_is_named(tmp_path, content, told):
    (tmp_path / "p.png").write_bytes(content)
    for door in (read_image, read_mask, read_volume, read_header):
        with pytest.raises(ValueError, match=told) as caught:
            door(tmp_path / "p.png")
        assert "\n" not in str(caught.value)


def test_damaged_pictures_are_read_or_refused_in_one_line(tmp_path, capfd):
    """Flips, gaps and insertions at random places: no other exception, nothing on the terminal."""
    source = np.add.outer(np.arange(20), np.arange(30)).astype(np.uint8)
    wholes = []
    for number, (mode, options) in enumerate(
        [
            ("L", {"format": "PNG"}),
            ("P", {"format": "PNG", "bits": 4}),
            ("RGB", {"format": "JPEG", "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
            ("L", {"format": "JPEG", "progressive": True}),
            ("RGB", {"format": "TIFF", "compression": "tiff_lzw"}),
            ("L", {"format": "TIFF", "compression": "jpeg"}),
            ("1", {"format": "TIFF"}),
            ("P", {"format": "BMP"}),
        ]
    ):
        Image.fromarray(source).convert(mode).save(tmp_path / f"{number}.png", **options)
        wholes.append((tmp_path / f"{number}.png").read_bytes())
    tifffile.imwrite(tmp_path / "t.tif", np.stack([source] * 3), imagej=True)
    wholes.append((tmp_path / "t.tif").read_bytes())
    rng = np.random.default_rng(5)
    told = []
    for whole in wholes * 25:
        changed = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            at = int(rng.integers(min(len(changed), 300) if rng.random() < 0.5 else len(changed)))
            changed[at : at + int(rng.integers(3))] = rng.bytes(int(rng.integers(3)))
        (tmp_path / "x.tif").write_bytes(changed)
        for door in (read_header, read_image):
            try:
                door(tmp_path / "x.tif")
            except ValueError as error:
                told.append(str(error))
    assert len(told) > 200 and capfd.readouterr() == ("", "")
    assert all("\n" not in line and "Errno" not in line and len(line) < 500 for line in told)


def test_real_pictures_are_read_as_pillow_reads_them():
    files = [*sorted(shared_path("data/lidc_crops").glob("*/image_*.jpg"))[:4]]
    files += sorted(shared_path("data/bu_bil").glob("*/*/*.png"))[::120]
    for file in files:
        picture = Image.open(file)
        stored = np.array(picture.convert("L") if picture.mode == "1" else picture)
        stored = stored if stored.ndim == 3 else stored[..., None]
        read = np.stack(components_of(read_image(file)), -1)[0]
        np.testing.assert_allclose(read.astype(int), stored, atol=1 if file.suffix == ".jpg" else 0)
