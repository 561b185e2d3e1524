"""The XML of LIDC's readers: what is in it, and what is refused before it does harm."""

from __future__ import annotations

import pytest
from lidc_files import chest_x_ray_readings, nodule, non_nodule, readings, rectangle, roi

from AmbiguousSegLib.layouts import lidc_xml
from AmbiguousSegLib.layouts.lidc_xml import Header, Outline, read_header, read_readings

UID = "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192"
SQUARE = rectangle(2, 3, 5, 6)


@pytest.fixture
def written(tmp_path):
    def write(text, encoding="utf-8"):
        (tmp_path / "069.xml").write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return tmp_path / "069.xml"

    return write


def test_what_is_in_it(written):
    path = written(
        readings(
            UID,
            nodule("Nodule 001", roi(SQUARE, "1.2.9", -125.5), roi([(3, 4)], "1.2.9", -125.5, "FALSE"))
            + nodule("small", roi([(7, 8)]), rated=False)
            + non_nodule("12"),
            "",
            nodule("IL057_127364", roi(SQUARE), rated=False) + nodule("blank", roi([(7, 8)]), rated=True),
        )
    )
    assert read_header(path) == Header("lidcreadmessage", UID)
    found = read_readings(path)
    assert (found.series, found.readers, found.small, found.others) == (UID, 3, 2, 1)
    first, other = found.outlined
    assert (first.reader, first.name) == (0, "Nodule 001")
    assert first.outlines == (
        Outline("1.2.9", -125.5, True, tuple(SQUARE)),
        Outline("1.2.9", -125.5, False, ((3, 4),)),
    )
    assert (other.reader, other.name) == (2, "IL057_127364")


def test_other_spellings_of_the_format(written):
    plain = readings(UID, nodule("1", roi(SQUARE)))
    expected = read_readings(written(plain))
    for text, encoding in (
        (plain.replace(' xmlns="http://www.nih.gov"', ""), "utf-8"),
        (plain.replace("SeriesInstanceUid", "SeriesInstanceUID"), "utf-8"),
        (plain.replace("UTF-8", "UTF-16"), "utf-16"),
        (plain.replace("xmlns=", "xmlns:n=").replace("<Lidc", "<n:Lidc").replace("</Lidc", "</n:Lidc"), "utf-8"),
        (plain.replace("\n", "\r\n").replace("<xCoord>", "<xCoord> ").replace("TRUE", "true"), "utf-8"),
        (plain, "utf-8-sig"),
    ):
        assert read_readings(written(text, encoding)) == expected
        assert read_header(written(text, encoding)).series == UID


def test_what_else_an_xml_may_be(written):
    assert read_header(written(chest_x_ray_readings())).root == "idrireadmessage"
    assert read_header(written("<plan><a/></plan>")) == Header("plan", "")
    for text in ("", "no XML at all", b"\xff\xfe\x00", "<plan", b"\x00" * 500):
        assert read_header(written(text)) == Header("", "")
    assert read_header(written(readings("", ""))).series == ""
    with pytest.raises(ValueError, match=r"069.xml is idrireadmessage, expected LidcReadMessage"):
        read_readings(written(chest_x_ray_readings()))


BOMB = '<!DOCTYPE LidcReadMessage [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE r [<!ENTITY secret SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("declared", [BOMB, OUTSIDE, '<!DOCTYPE r SYSTEM "http://localhost/x.dtd">', "<!DOCTYPE r>"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_document_types_are_refused(written, declared, encoding):
    text = readings("&b;", "&secret;").replace("?>\n", f"?>\n{declared}\n", 1).replace("UTF-8", encoding.upper())
    for read in (read_header, read_readings):
        with pytest.raises(ValueError, match=r"069.xml declares a document type \(DOCTYPE\).*Download it again"):
            read(written(text, encoding))


def test_cut_off_and_damaged(written):
    whole = readings(UID, nodule("1", roi(SQUARE)), "")
    for text in (whole[:-20], whole[: whole.index("<roi>") + 40], whole.replace("</roi>", "")):
        path = written(text)
        assert read_header(path).series == UID  # stands before
        with pytest.raises(ValueError, match=r"069.xml is cut off or damaged XML \(.*line \d+.*download it again"):
            read_readings(path)
    with pytest.raises(ValueError, match="cut off or damaged"):
        read_header(written(whole[: whole.index("<SeriesInstanceUid>") + 25]))
    with pytest.raises(ValueError, match="cut off or damaged"):
        read_readings(written("never XML"))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("TRUE", "MAYBE", "inclusion is 'MAYBE', expected TRUE or FALSE"),
        ("<xCoord>2<", "<xCoord>2.5<", "xCoord is '2.5', expected an index"),
        ("<yCoord>3<", "<yCoord>-3<", "yCoord is '-3', expected an index"),
        ("<yCoord>3<", "<yCoord><", "yCoord is ''"),
        ("<yCoord>3<", f"<yCoord>{'9' * 5000}<", "yCoord is '99999999999999999999', expected an index"),
        ("<yCoord>3<", "<yCoord>٣<", "yCoord is '٣'"),
        ("<yCoord>3</yCoord>", "", "yCoord is ''"),
        ("<imageZposition>30.0<", "<imageZposition>nan<", "imageZposition is 'nan', expected a number"),
        ("<imageZposition>30.0<", "<imageZposition>1e999<", "imageZposition is '1e999', expected a number"),
        ("<imageZposition>30.0<", "<imageZposition>top<", "imageZposition is 'top', expected a number"),
    ],
)
def test_values_that_are_none(written, old, new, told):
    text = readings(UID, "", nodule("N7", roi(SQUARE)))
    assert old in text
    with pytest.raises(ValueError, match=f"069.xml, reader 2, nodule N7: {told}"):
        read_readings(written(text.replace(old, new)))


def test_sizes_are_bounded(written, monkeypatch):
    whole = readings(UID, nodule("1", roi(SQUARE)))
    deep = whole.replace("<roi>", "<roi>" + "<a>" * 40, 1).replace("</roi>", "</a>" * 40 + "</roi>", 1)
    with pytest.raises(ValueError, match="33 deep in each other, more than readings of LIDC do"):
        read_readings(written(deep))
    with pytest.raises(ValueError, match="holds 5 reading sessions, expected 1 to 4"):
        read_readings(written(readings(UID, "", "", "", "", "")))
    with pytest.raises(ValueError, match="holds 0 reading sessions"):
        read_readings(written(readings(UID)))
    for name, limit, told in (
        ("_MOST_POINTS", 5, "reader 1, nodule 1: an outline has 13 points, expected at most 5"),
        ("_MOST_ELEMENTS", 40, "holds 41 elements"),
        ("_MOST_BYTES", 100, r"has [\d.]+ kB, expected at most 100 bytes of LIDC readings"),
    ):
        with monkeypatch.context() as patch, pytest.raises(ValueError, match=told):
            patch.setattr(lidc_xml, name, limit)
            read_readings(written(whole))


def test_header_is_read_alone(written):
    whole = readings(UID, nodule("1", roi(SQUARE)))
    at = whole.index("<readingSession>")
    assert read_header(written(whole[:at] + " " * (1 << 16) + "<<< damage")).series == UID


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_header(tmp_path / "gone.xml")
    with pytest.raises(ValueError, match="is a folder"):
        read_readings(tmp_path)
