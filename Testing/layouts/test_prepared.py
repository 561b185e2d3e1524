"""Prepared data equal the originals bit for bit, and are refused where they are damaged or not what is asked for."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import shutil
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from AmbiguousSegLib.configuration import to_dict
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.file_case import FileCase, RaterFile
from AmbiguousSegLib.data.inspection import inspect
from AmbiguousSegLib.data.prepared_cases import packed, unpacked
from AmbiguousSegLib.data.prepared_index import START
from AmbiguousSegLib.data.prepared_writing import Skipped, bytes_needed, probing, smallest_type, write_prepared
from AmbiguousSegLib.data.readers import recognised
from AmbiguousSegLib.data.slices import index
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label
from AmbiguousSegLib.layouts import prepared
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing

UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
TURNED = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
TWO = (Label("core"), Label("halo"))


@dataclass(frozen=True, eq=False)
class ArrayCase:
    """A case in memory."""

    identity: str
    values: np.ndarray
    masks: np.ndarray
    geometry: Geometry
    subject: str = "s"
    group: str = ""
    part: str = ""
    modality: str = ""

    @property
    def rater_names(self):
        return tuple(f"r{k}" for k in range(len(self.masks)))

    def load_image(self):
        return self.values, self.geometry

    def load_masks(self):
        return self.masks


def case_of(values, masks=None, identity="c", **more):
    values = np.asarray(values)
    if masks is None:
        masks = np.zeros((1, *values.shape[1:]), np.uint8)
    size = values.shape[:0:-1]
    return ArrayCase(identity, values, masks, Geometry(size, (0.7, 0.7, 1 / 3), (0.1, 2, -3), TURNED), **more)


def write(folder, cases, labels=DEFAULT_LABELS, **options):
    head = {
        "kind": "made",
        "words": "made for a test",
        "labels": to_dict(labels),
        "channels": [],
        "subject_pattern": None,
    }
    return write_prepared(folder, cases, len(labels), head, lambda outcomes: {}, **options)


def read(folder, config=DataConfig(), labels=DEFAULT_LABELS):
    return prepared.read(folder, config, labels)


def volumes(seed=0, count=3):
    """CT-like volumes as their reader gives them, float32, of sizes that differ, with 3 raters, the last one empty."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        values = rng.integers(-1024, 2000, (1, 4 + number, 9, 7)).astype(np.float32)
        masks = (rng.random((3, 4 + number, 9, 7)) > 0.8).astype(np.uint8)
        masks[:, 0], masks[2] = 0, 0
        yield case_of(values, masks, f"p{number}/ct", subject=f"p{number}", part="test", modality="CT", group="g")


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "out", list(volumes()))
    return tmp_path / "out"


# The same as the originals


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal", "stored"])
@pytest.mark.parametrize("rule", [("window", -900.0, 300.0), ("percentile", 0.5, 99.5), ("minmax", None, None)])
def test_what_training_sees_is_the_same_bit_for_bit(folder, plane, rule):
    preprocessing = Preprocessing(("CT",), plane, 0.6, (8, 8), 1, Intensity(*rule))
    for case, original in zip(read(folder), volumes(), strict=True):
        slices = [preprocessing.prepare(*one.load_image()) for one in (case, original)]
        for i in slices[0].slice_indices:
            assert slices[0].image(i).numpy().tobytes() == slices[1].image(i).numpy().tobytes()


def test_few_values_of_16_bits_pass_for_what_they_were(tmp_path):
    """Full scale of 16 bits, of which one image uses the lowest 200 values, beside a channel by percentiles."""
    case = case_of(np.random.default_rng(0).integers(0, 200, (2, 1, 9, 8)).astype(np.uint16))
    write(tmp_path, [case])
    (kept,) = read(tmp_path)
    assert kept.dtype == "<u2"
    rules = Intensity("percentile", 1.0, 99.0), Intensity("full_scale", high=65535.0)
    preprocessing = Preprocessing(("a", "b"), "stored", None, (8, 8), 1, rules)
    limits = [index([one], preprocessing, 1)[2]["c"] for one in (case, kept)]
    assert limits[0] == limits[1] and limits[1][1] == (0.0, 65535.0)


def test_a_case_equals_its_original(folder):
    for case, original in zip(read(folder), volumes(), strict=True):
        names = ("identity", "subject", "group", "part", "modality", "rater_names")
        assert [getattr(case, name) for name in names] == [getattr(original, name) for name in names]
        (values, geometry), (expected, grid) = case.load_image(), original.load_image()
        assert geometry == grid and values.dtype == np.int16 and np.array_equal(values, expected)
        assert case.load_masks().dtype == np.uint8 and np.array_equal(case.load_masks(), original.load_masks())
        assert inspect(case, 1) == inspect(original, 1) and case.inspection.stored == "float32"
        with pytest.raises(ValueError, match="read-only"):
            values[...] = 0


WIDE = {
    "int8": [-128, 127],
    "int16": [-129, 32767],
    "uint32": [0, 2**32 - 1],
    "int32": [-32769, 2**31 - 1],
}


@pytest.mark.parametrize("stored", [np.float64, ">f8", np.int64])
@pytest.mark.parametrize("name", WIDE)
def test_the_smallest_type_that_holds_all_values(name, stored):
    assert smallest_type(np.array(WIDE[name], stored).reshape(1, 1, 1, 2)).name == name


def test_types_that_tell_the_full_scale_stay_and_are_taken_by_no_other(tmp_path):
    """16 bits with few values are of 65535 all the same; whole floats up to 255 are of no full scale."""
    cases = [case_of(np.arange(6).astype(t).reshape(1, 1, 2, 3), identity=t) for t in ("uint8", ">u2", "float32", "i8")]
    write(tmp_path, cases)
    types = [case.load_image()[0].dtype.name for case in read(tmp_path)]
    assert types == ["uint8", "uint16", "int8", "int8"]
    full = Intensity("full_scale", high=255.0)
    for case, original in zip(read(tmp_path), cases):
        told = [_limits_or_refusal(full, one.load_image()[0]) for one in (case, original)]
        assert told[0] == told[1]


def _limits_or_refusal(rule, channel):
    try:
        return rule.limits(channel, "a")
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (np.array([0.0, -0.0, 3.0], np.float32), "float32"),  # −0 is no whole number of other types
        (np.array([0.0, 255.0], np.float32), "int16"),
        (np.array([0.0, 65535.0], np.float32), "float32"),
        (np.array([-1.0, 40000.0], np.float32), "float32"),
        (np.array([-1.0, 2.0**20]), "float32"),
        (np.array([0.1, 1.0]), "float64"),
        (np.array([2.0**24 + 1, 0.0]), "uint32"),
        (np.array([1e300, 0.5]), "float64"),
        (np.array([0.5, 1.0], np.float16), "float16"),
        (np.array([1, 2], np.int16), "int8"),
        (np.array([-1, 300], ">i2"), "int16"),
        (np.array([2**40, 0]), "int64"),
    ],
)
def test_values_that_other_types_change_keep_theirs(tmp_path, values, kept):
    values = values.reshape(1, 1, 1, -1)
    assert smallest_type(values).name == kept
    write(tmp_path, [case_of(values)])
    loaded, _ = read(tmp_path)[0].load_image()
    assert loaded.astype(values.dtype).tobytes() == values.tobytes()


def test_masks_take_the_rectangles_of_their_marks():
    masks = np.zeros((2, 3, 100, 90), np.uint8)
    masks[0, 1, 10:14, 20:25] = 1
    masks[1, 1, 99, 89] = 2
    masks[1, 2, 0, 0], masks[1, 2, 2, 3] = 1, 1
    block = packed(masks)
    assert len(block) == 4 * (1 + 3 * 6) + 4 * 5 + 1 + 3 * 4
    assert np.array_equal(unpacked(block, masks.shape), masks)
    assert not unpacked(packed(masks * 0), masks.shape).any() and len(packed(masks * 0)) == 4


def test_two_classes_and_the_order_of_labels(tmp_path):
    masks = np.array([0, 1, 2, 2], np.uint8).reshape(1, 1, 2, 2)
    write(tmp_path, [case_of(np.arange(4.0).reshape(1, 1, 2, 2), masks)], TWO)
    assert np.array_equal(read(tmp_path, labels=TWO)[0].load_masks(), masks)
    for other in (DEFAULT_LABELS, TWO[::-1], TWO[:1]):
        names = ", ".join(label.name for label in other)
        with pytest.raises(ValueError, match=rf"prepared for the label\(s\) core, halo, now {names} are asked for"):
            read(tmp_path, labels=other)


def pictures(folder: Path, config: DataConfig) -> list[FileCase]:
    """A photograph of 6 × 4 pixels, told its pixels as readers tell it, and an NRRD file that knows them."""
    field = None if config.spacing_mm is None else tuple(config.spacing_mm * side for side in config.size)
    return [
        FileCase("a", "a", (folder / "a.png",), (RaterFile("r", folder / "a_mask.png"),), field_mm=field),
        FileCase("b", "b", (folder / "b.nrrd",), (RaterFile("r", None),)),
    ]


def test_pictures_are_told_their_pixels_by_the_settings_as_the_original_is(tmp_path):
    rng = np.random.default_rng(2)
    sitk.WriteImage(sitk.GetImageFromArray(rng.integers(0, 255, (6, 4)).astype(np.uint8)), str(tmp_path / "a.png"))
    sitk.WriteImage(sitk.GetImageFromArray(np.eye(6, 4, dtype=np.uint8)), str(tmp_path / "a_mask.png"))
    known = sitk.GetImageFromArray(rng.random((1, 6, 4)).astype(np.float32))
    known.SetSpacing((1.0, 1.0, 1.0))
    sitk.WriteImage(known, str(tmp_path / "b.nrrd"))
    write(tmp_path / "out", pictures(tmp_path, probing(DataConfig())))
    for config in (DataConfig(), DataConfig(spacing_mm=0.3, size=(12, 10))):
        for case, original in zip(read(tmp_path / "out", config), pictures(tmp_path, config), strict=True):
            assert case.load_image()[1] == original.load_image()[1]
            assert case.inspection == inspect(original, 1)
    assert case.load_image()[1].spacing_mm == (1.0, 1.0, 1.0)


def test_subjects_by_a_pattern(folder):
    assert [case.subject for case in read(folder, DataConfig(subject_pattern="(.)/"))] == ["0", "1", "2"]
    for pattern in ("x(.)", "p./"):
        with pytest.raises(ValueError, match="subject_pattern"):
            read(folder, DataConfig(subject_pattern=pattern))


def test_a_case_is_small_and_loads_in_a_new_process(folder):
    cases = read(folder)
    assert len(pickle.dumps(cases)) < 4000
    assert len(set(cases)) == 3 and set(read(folder)) == set(cases)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        sums = pool.map(_sums, cases)
    assert sums == [(c.load_image()[0].sum(), c.load_masks().sum()) for c in volumes()]


def _sums(case):
    return case.load_image()[0].sum(dtype=np.float32), case.load_masks().sum()


def test_the_files_can_be_read_without_us(folder):
    """What docs/data.md says of the form holds."""
    index = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
    case, original = index["cases"][1], list(volumes())[1]
    place = case["image"]
    file = folder / index["head"]["files"]["values"]["file"]
    values = np.memmap(file, place["dtype"], "r", place["start"], tuple(place["shape"]))
    assert np.array_equal(values, original.values) and place["crc32"] == zlib.crc32(values.tobytes())
    assert case["geometry"]["spacing_mm"] == [0.7, 0.7, 1 / 3]


def test_large_blocks_are_looked_at_where_they_lie(tmp_path):
    """A volume above 1 MB is mapped, not read: of what is given, no byte is memory of its own."""
    values = np.random.default_rng(0).integers(0, 200, (1, 20, 256, 256)).astype(np.float32)
    write(tmp_path, [case_of(values)])
    loaded, _ = read(tmp_path)[0].load_image()
    base = loaded
    while not isinstance(base, np.memmap):
        base = base.base
    assert np.array_equal(loaded, values) and base.nbytes == 2 * values.size


# Damage


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 8
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["values", "marks"])
def test_a_flipped_bit_is_found_where_the_case_is_used(folder, name):
    (file,) = folder.glob(f"{name}-*.bin")
    flip(file, -1)
    first, _, last = read(folder)
    first.load_image()
    for use in (last.load_image, last.load_masks, lambda: last.inspection, lambda: inspect(last, 1)):
        with pytest.raises(ValueError, match=rf"{file.name} is damaged: .* case 'p2/ct' .*; prepare the data again"):
            use()


def test_files_that_are_cut_off_gone_or_changed(folder):
    (file,) = folder.glob("values-*.bin")
    content = file.read_bytes()
    for wrong in (content[:-1], content + b"0", b""):
        file.write_bytes(wrong)
        with pytest.raises(ValueError, match=rf"{file.name} has {len(wrong)} bytes, expected {len(content)}; prepare"):
            read(folder)
    file.write_bytes(content)
    cases = read(folder)
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"is cut off; prepare the data again|is damaged"):
        cases[-1].load_image()
    file.unlink()
    with pytest.raises(FileNotFoundError, match="is gone; was the data prepared again meanwhile"):
        cases[0].load_image()
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read(folder)


def test_an_index_that_is_damaged_or_edited_is_refused(folder):
    index = folder / "prepared.json"
    text = index.read_bytes()
    rng = np.random.default_rng(0)
    for place in [*rng.integers(0, len(text), 60).tolist(), 0, len(text) - 1]:
        flip(index, place)
        with pytest.raises(ValueError, match="it does not agree with its checksum; prepare the data again"):
            read(folder)
        index.write_bytes(text)
    later = text.partition(b"\n")[2].replace(b'"version": 1', b'"version": 9')
    later = f"{START}{zlib.crc32(later)},\n".encode() + later
    for wrong in (text[:200], b"", b"{" * 100_000, later):
        index.write_bytes(wrong)
        with pytest.raises(ValueError, match="prepare the data again"):
            read(folder)


def test_what_is_read_is_not_mixed_with_what_is_prepared_meanwhile(folder):
    before = read(folder)
    write(folder, list(volumes(seed=1)))
    assert len(list(folder.glob("*.bin"))) == 2
    with pytest.raises(FileNotFoundError, match="start again|Start again"):
        before[0].load_image()
    assert np.array_equal(read(folder)[0].load_image()[0], next(volumes(seed=1)).values)


# Recognised


def test_recognised_by_its_index_and_nothing_else(folder, tmp_path):
    name, words = recognised(folder)
    assert (name, words) == ("prepared", "prepared data, 3 case(s) from: made for a test")
    assert prepared.recognise(tmp_path) is None
    assert prepared.recognise(tmp_path / "nothing") is None
    for foreign in ("{}", '{"prepared": true}', ""):
        (tmp_path / "prepared.json").write_text(foreign, encoding="utf-8")
        assert prepared.recognise(tmp_path) is None
    (tmp_path / "prepared.json").write_text((folder / "prepared.json").read_text(encoding="utf-8")[:70])
    assert prepared.recognise(tmp_path).words == "prepared data"


# Writing


def test_bad_cases_are_skipped_with_their_reasons_and_told_of_at_each_use(tmp_path, caplog):
    good = list(volumes())
    nan = replace(good[1], values=np.full_like(good[1].values, np.nan))
    label = replace(good[2], masks=good[2].masks * 7)
    outcomes = write(tmp_path, [good[0], nan, label])
    assert [type(one) is Skipped for one in outcomes] == [False, True, True]
    assert "NaN" in outcomes[1].reason and "holds the label 7, but there are 1" in outcomes[2].reason
    with caplog.at_level("WARNING"):
        assert [case.identity for case in read(tmp_path)] == ["p0/ct"]
    assert "2 of 3 cases are missing, as prepare could not read them: p1/ct, p2/ct" in caplog.text


def test_if_no_case_can_be_read_nothing_is_written(tmp_path):
    nan = case_of(np.full((1, 1, 2, 2), np.nan))
    with pytest.raises(ValueError, match=r"None of 2 case\(s\) can be read; the first: c: the image holds NaN"):
        write(tmp_path / "out", [nan, nan])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interruption_leaves_what_was_there(tmp_path, error):
    def interrupted(done):
        if done == 2:
            raise error("stop")

    for before in (False, True):
        if before:
            write(tmp_path / "out", list(volumes(seed=5)))
        files = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
        with pytest.raises(error):
            write(tmp_path / "out", list(volumes()), on_case=interrupted)
        assert {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()} == files
        assert (tmp_path / "out").exists() == before


def test_several_processes_write_the_same_bytes(tmp_path, folder):
    """Cases of files, which travel; one of them cannot be read."""
    for number, case in enumerate(volumes()):
        sitk.WriteImage(case.geometry.image(case.values[0]), str(tmp_path / f"{number}.nii.gz"))
    cases = [FileCase(f"c{n}", "s", (tmp_path / f"{n}.nii.gz",), (RaterFile("r", None),)) for n in range(4)]
    for jobs in (1, 2):
        outcomes = write(tmp_path / f"jobs{jobs}", cases, jobs=jobs)
        assert [type(one) is Skipped for one in outcomes] == [False, False, False, True]
    one, two = ({f.name: f.read_bytes() for f in (tmp_path / f"jobs{n}").iterdir()} for n in (1, 2))
    assert one == two and len(one) == 3


def test_the_estimate_is_that_of_first_middle_and_last(tmp_path):
    cases = [case_of(np.arange(n).reshape(1, 1, 1, n), identity=str(n)) for n in (10, 20, 60, 20, 30)]
    assert bytes_needed(cases, 1) == (14 + 64 + 34) * 5 // 3
    write(tmp_path, cases)
    shutil.rmtree(tmp_path)
