"""Folders of LIDC-IDRI as they are downloaded: cases, masks of known volumes, nodules, and what is left out."""

from __future__ import annotations

import logging
import os
import pickle
import shutil

import numpy as np
import pytest
from lidc_files import (
    COLUMNS,
    FIRST_Z,
    ROWS,
    SLICES,
    STEP,
    chest_x_ray_readings,
    nodule,
    non_nodule,
    readings,
    rectangle,
    roi,
    write_ct,
)

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.inspection import inspect
from AmbiguousSegLib.data.readers import READERS, load_case, read_all, recognised
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.layouts.lidc import recognise

UID, OTHER = "1.3.6.1.4.1.14519.5.2.1.6279.6001.30001", "1.3.6.1.4.1.14519.5.2.1.6279.6001.30002"
STUDY = "01-01-2000-NA-NA-30178"
SQUARE = rectangle(3, 4, 9, 8)  # 5 × 3 pixels inside
HOLE = [(6, 5), (5, 6), (6, 7), (7, 6)]  # 5 pixels with its line


def read(folder, **settings):
    return READERS["lidc"](folder, DataConfig(kind="lidc", **settings), [Label("nodule")])


def z_of(index):
    return FIRST_Z + STEP * index


@pytest.fixture
def place(tmp_path):
    """Folder of a series, below that of a patient as the archive names them."""
    return tmp_path / "LIDC-IDRI" / "LIDC-IDRI-0001" / STUDY / "3000566.000000-NA-03192"


@pytest.fixture
def full(place):
    """A CT with the readings of four: one nodule by three of them, another by one; the fourth outlined nothing."""
    images = write_ct(place, UID)
    own = [
        nodule("1", roi(SQUARE, images[1], z_of(1)), roi(SQUARE, images[2], z_of(2)))
        + nodule("2", roi(rectangle(12, 15, 17, 20), images[4], z_of(4)))
        + nodule("tiny", roi([(2, 2)], images[3], z_of(3)), rated=False),
        nodule("7", roi(SQUARE, images[2], z_of(2)), roi(HOLE, images[2], z_of(2), "FALSE")),
        nodule("9", roi(rectangle(5, 2, 11, 8), images[2], z_of(2)), roi(SQUARE, images[3], z_of(3))),
        non_nodule("3", images[2], z_of(2)) + nodule("small", roi([(6, 6)], images[2], z_of(2)), rated=False),
    ]
    (place / "069.xml").write_text(readings(UID, *own))
    return place


VOLUMES = [15 + 15 + 4 * 4, 15 - 5, 5 * 5 + 15, 0]


def test_a_series_is_a_case_of_four_readers(full, tmp_path):
    assert recognised(tmp_path)[0] == "lidc"
    (case,) = read_all(tmp_path, DataConfig(), [Label("nodule")])
    assert (case.identity, case.subject) == ("LIDC-IDRI-0001_6001.30001", "LIDC-IDRI-0001")
    assert (case.group, case.part, case.modality) == ("", "", "CT")
    assert case.rater_names == ("reader_1", "reader_2", "reader_3", "reader_4")
    assert pickle.loads(pickle.dumps(case)) == case and hash(case)
    values, geometry, masks = load_case(case, 1)
    assert values.shape == (1, SLICES, ROWS, COLUMNS) and -1024 <= values.min() and values.max() < 0
    assert geometry.spacing_mm == (0.6, 0.8, STEP) and geometry.origin_mm[2] == FIRST_Z
    assert masks.sum((1, 2, 3)).tolist() == VOLUMES
    assert masks[0].sum((1, 2)).tolist() == [0, 15, 15, 0, 16, 0]
    expected = np.zeros((ROWS, COLUMNS), np.uint8)  # xCoord is the column
    expected[5:8, 4:9] = 1
    assert (masks[0, 1] == expected).all()
    seen = inspect(case, 1)
    assert seen.marked[0] == (1, 2, 3, 4) and seen.empty_raters == 1 and seen.labels == (1,)


def test_nodules_with_the_masks_of_four(full, tmp_path):
    (case,) = read(tmp_path)
    near, far = case.load_nodules()
    assert [(mark.reader, mark.name) for mark in near.marks] == [(0, "1"), (1, "7"), (2, "9")]
    assert near.box == (slice(1, 4), slice(3, 8), slice(4, 11)) and near.readers == (0, 1, 2)
    assert near.masks().sum((1, 2, 3)).tolist() == [30, 10, 40, 0]
    assert [(mark.reader, mark.name) for mark in far.marks] == [(0, "2")]
    assert far.masks().sum((1, 2, 3)).tolist() == [16, 0, 0, 0]
    whole = np.zeros_like(case.load_masks())
    for one in (near, far):
        whole[(slice(None), *one.box)] |= one.masks()
    assert (whole == case.load_masks()).all()


def test_ambiguous_nodules_are_told(place, tmp_path, caplog):
    images = write_ct(place, UID)
    parts = [nodule(name, roi(rectangle(x, 4, x + 4, 9), images[2], z_of(2))) for name, x in (("a", 2), ("b", 9))]
    whole = nodule("w", roi(rectangle(2, 4, 14, 9), images[2], z_of(2)))
    (place / "1.xml").write_text(readings(UID, "".join(parts), whole, whole, whole))
    (case,) = read(tmp_path)
    with caplog.at_level(logging.INFO):
        (one,) = case.load_nodules()
    assert len(one.marks) == 5 and one.several == (0,)
    assert "LIDC-IDRI-0001_6001.30001: nodule 1 has 5 marks; several of reader_1." in caplog.text


@pytest.mark.parametrize("backwards", [False, True])
def test_slices_follow_their_images_whatever_the_order(place, tmp_path, backwards):
    images = write_ct(place, UID, backwards=backwards)  # by name of the file
    top = images[0] if backwards else images[-1]
    (place / "1.xml").write_text(readings(UID, nodule("1", roi(SQUARE, top, z_of(SLICES - 1)))))
    (case,) = read(tmp_path)
    assert case.load_masks()[0].sum((1, 2)).tolist() == [0, 0, 0, 0, 0, 15]


def test_slices_by_z_where_images_are_not_named(place, tmp_path, caplog):
    write_ct(place, UID)
    (place / "1.xml").write_text(readings(UID, nodule("1", roi(SQUARE, "", z_of(4)), roi(SQUARE, "1.9", z_of(3)))))
    (case,) = read(tmp_path)
    with caplog.at_level(logging.INFO):
        masks = case.load_masks()
    assert masks.sum((0, 2, 3)).tolist() == [0, 0, 0, 15, 15, 0]
    assert "1.xml: 2 outline(s) placed by z, as the CT lacks their images" in caplog.text


def test_what_does_not_fit_the_series_is_refused(place, tmp_path):
    images = write_ct(place, UID)
    for one, told in (
        (roi(SQUARE, images[1], z_of(2)), rf"image {images[1]} lies at 32.5 mm"),
        (roi(SQUARE, "", z_of(9)), "z = 52.5 mm, but the nearest slice lies at 42.5 mm"),
        (roi(rectangle(3, 4, 20, 8), images[1], z_of(1)), "column 20, row 4, but slices have 20 × 24 pixels"),
    ):
        (place / "1.xml").write_text(readings(UID, "", nodule("5", one)))
        (case,) = read(tmp_path)
        for load in (case.load_masks, case.load_nodules):
            with pytest.raises(ValueError, match=f"1.xml, reader 2, nodule 5: an outline .*{told}"):
                load()


def test_a_series_that_is_no_volume_is_refused_when_it_is_loaded(full, tmp_path):
    (case,) = read(tmp_path)
    (full / "002.dcm").unlink()
    for load in (case.load_image, case.load_masks):
        with pytest.raises(ValueError, match="slices are missing"):
            load()


def test_damaged_readings_are_refused_when_they_are_loaded(full, tmp_path):
    xml = full / "069.xml"
    xml.write_text(xml.read_text()[:-300])
    (case,) = read(tmp_path)
    with pytest.raises(ValueError, match=r"069.xml is cut off or damaged XML"):
        load_case(case, 1)


def test_readings_in_a_tree_of_their_own(full, tmp_path):
    apart = tmp_path / "LIDC-XML-only" / "tcia-lidc-xml" / "157"
    apart.mkdir(parents=True)
    (full / "069.xml").rename(apart / "158.XML")
    assert recognise(tmp_path) is not None
    (case,) = read(tmp_path)
    assert case.readings == apart / "158.XML" and case.folder == full
    assert case.load_masks().sum((1, 2, 3)).tolist() == VOLUMES


def test_nobody_outlined_anything(place, tmp_path):
    write_ct(place, UID)
    (place / "1.xml").write_text(readings(UID, non_nodule("1"), ""))
    (case,) = read(tmp_path)
    assert case.load_masks().shape == (4, SLICES, ROWS, COLUMNS) and not case.load_masks().any()
    assert case.load_nodules() == [] and inspect(case, 1).empty_raters == 4


def test_two_ct_of_one_patient_and_other_patients(tmp_path):
    for patient, uid in (("LIDC-IDRI-0132", UID), ("LIDC-IDRI-0132", OTHER), ("LIDC-IDRI-0007", "1.2.7")):
        folder = tmp_path / patient / f"study-{uid[-1]}" / "series"
        write_ct(folder, uid, patient)
        (folder / "1.xml").write_text(readings(uid, nodule("1", roi(SQUARE, "", z_of(2)))))
    cases = read_all(tmp_path, DataConfig(kind="lidc"), [Label()])
    assert [(case.identity, case.subject) for case in cases] == [
        ("LIDC-IDRI-0007_1.2.7", "LIDC-IDRI-0007"),
        ("LIDC-IDRI-0132_6001.30001", "LIDC-IDRI-0132"),
        ("LIDC-IDRI-0132_6001.30002", "LIDC-IDRI-0132"),
    ]
    assert {case.subject for case in read(tmp_path, subject_pattern=r"IDRI-(\d+)")} == {"0007", "0132"}


def test_what_is_left_out_is_told(full, tmp_path, caplog):
    above = full.parent.parent / "01-01-2000-35511" / "3000923.000000-62357"
    write_ct(above, "1.2.50", Modality="DX")
    write_ct(tmp_path / "LIDC-IDRI" / "LIDC-IDRI-0009" / STUDY / "s", OTHER, "LIDC-IDRI-0009")
    (above / "071.xml").write_text(chest_x_ray_readings())
    for name, text in (("gone.xml", readings("1.2.99", "")), ("plan.xml", "<plan/>"), ("._069.xml", "\0")):
        (tmp_path / name).write_text(text)
    with caplog.at_level(logging.INFO):
        assert len(read(tmp_path)) == 1
    told = {record.getMessage().split(": left out: ")[1]: record.levelname for record in caplog.records}
    assert told == {
        "1 series that are no CT: 1 DX.": "INFO",
        "1 readings of chest x-rays (IdriReadMessage): 071.xml.": "INFO",
        "1 readings of series that are not here: gone.xml.": "INFO",
        "1 XML that is no readings of a series: plan.xml.": "WARNING",
        f"1 CT series without readings: LIDC-IDRI-0009 ({OTHER}).": "WARNING",
    }


def test_several_series_in_one_folder(full, tmp_path):
    for uid, name, modality in (("1.2.50", "a", "DX"), (OTHER, "z", "CT")):
        write_ct(tmp_path / name, uid, Modality=modality)
        for file in (tmp_path / name).iterdir():
            file.rename(full / f"{name}{file.name}")
    (full / "z.xml").write_text(readings(OTHER, nodule("1", roi(SQUARE, "", z_of(0)))))
    first, second = read(tmp_path)
    assert (first.series, second.series) == (UID, OTHER) and first.folder == second.folder == full
    assert first.load_masks().sum((1, 2, 3)).tolist() == VOLUMES
    assert second.load_masks().sum((0, 2, 3)).tolist() == [15, 0, 0, 0, 0, 0]
    assert first.load_image()[0].shape == second.load_image()[0].shape == (1, SLICES, ROWS, COLUMNS)


def test_copies_of_series_and_readings(full, tmp_path):
    copy = tmp_path / "copy.xml"
    shutil.copy(full / "069.xml", copy)
    (case,) = read(tmp_path)  # the same twice
    assert case.load_masks().sum() == sum(VOLUMES)
    copy.write_text(copy.read_text().replace("<noduleID>7<", "<noduleID>8<"))
    with pytest.raises(ValueError, match=r"(?s)copy.xml and .*069.xml are different readings of the series .*30001"):
        read(tmp_path)
    copy.unlink()
    shutil.copytree(full, tmp_path / "again", ignore=shutil.ignore_patterns("*.xml"))
    with pytest.raises(ValueError, match=r"again.* both hold the series .*30001; keep one|again both hold"):
        read(tmp_path)


def test_links_are_read_once(full, tmp_path):
    (tmp_path / "link").symlink_to(full)
    assert len(read(tmp_path)) == 1


def test_patients(place, tmp_path):
    write_ct(place, UID, patient="")
    (place / "1.xml").write_text(readings(UID, ""))
    assert read(tmp_path)[0].subject == "LIDC-IDRI-0001"  # by the folder
    moved = tmp_path / "anonymous"
    place.rename(moved)
    with pytest.raises(ValueError, match=r"anonymous/000.dcm tells no PatientID, and lies in no folder LIDC-IDRI-0001"):
        read(tmp_path)


def test_nothing_that_fits(full, tmp_path):
    with pytest.raises(ValueError, match="outlines one class, nodules, but there are 2 labels"):
        READERS["lidc"](tmp_path, DataConfig(kind="lidc"), [Label("a"), Label("b")])
    (full / "069.xml").write_text(readings("1.2.3", ""))
    with pytest.raises(ValueError, match=r"1 CT series and 1 readings \(LidcReadMessage\) of CT, but none of one"):
        read(tmp_path)


def test_entity_bombs_are_refused_at_listing(full, tmp_path):
    (full / "069.xml").write_text('<!DOCTYPE r [<!ENTITY a "&b;&b;"><!ENTITY b "ha">]><LidcReadMessage>&a;')
    with pytest.raises(ValueError, match=r"069.xml declares a document type"):
        read(tmp_path)


def test_recognised_from_any_folder_above(full, tmp_path):
    for folder in (tmp_path, tmp_path / "LIDC-IDRI", full.parent.parent, full.parent, full):
        assert recognise(folder).specific
    (full / "069.xml").unlink()
    for folder in (tmp_path, tmp_path / "LIDC-IDRI", full.parent.parent):  # by the name of the patient's folder
        assert recognise(folder).specific
    assert recognise(full) is None


def test_foreign_folders_are_not_taken_for_it(tmp_path, full):
    assert recognise(tmp_path / "gone") is None and recognise(full / "069.xml") is None
    foreign = tmp_path / "foreign"
    write_ct(foreign / "LIDC-IDRI-0001" / "image", UID)  # a folder per case, of some study of its own
    (foreign / "LIDC-IDRI-0001" / "plan.xml").write_text("<plan/>")
    (foreign / "LIDC-IDRI-0002").mkdir()
    os.mkfifo(foreign / "pipe.xml")
    (foreign / "link.xml").symlink_to("nothing")
    assert recognise(foreign) is None


def test_without_pydicom(full, tmp_path, monkeypatch):
    for module in ("dicom_files", "dicom_headers", "dicom_reading"):
        monkeypatch.setattr(f"AmbiguousSegLib.volume.{module}.has_pydicom", lambda: False)
    monkeypatch.setattr("AmbiguousSegLib.layouts.lidc.has_pydicom", lambda: False)
    (case,) = read(tmp_path)
    assert case.subject == "LIDC-IDRI-0001" and case.load_masks().sum((1, 2, 3)).tolist() == VOLUMES
