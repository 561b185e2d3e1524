"""Small folders as those of LIDC-IDRI: CT series, and XML of their readers in the true format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from dicom_files import STRAIGHT, write_series

ROWS, COLUMNS, SLICES = 24, 20, 6
FIRST_Z, STEP = 30.0, 2.5  # as dicom_files.write_series places slices
CHARACTERISTICS = (
    *("subtlety", "internalStructure", "calcification", "sphericity", "margin", "lobulation", "spiculation"),
    *("texture", "malignancy"),
)


def write_ct(folder: Path, series: str, patient: str = "LIDC-IDRI-0001", **attributes) -> list[str]:
    """SOP instance UIDs by the index of the slice, of a CT of 6 slices of 24 × 20 pixels written to ``folder``."""
    pixels = np.random.default_rng(5).integers(0, 1000, (ROWS, COLUMNS), dtype=np.uint16).tobytes()
    told = {"Rows": ROWS, "Columns": COLUMNS, "PixelData": pixels, "RescaleIntercept": -1024, "RescaleSlope": 1}
    told |= {"SeriesInstanceUID": series, "PatientID": patient}
    images = write_series(folder, **{"axes": STRAIGHT, "slices": SLICES, **told, **attributes})
    import pydicom

    return [str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in images]


def rectangle(left: int, top: int, right: int, bottom: int) -> list[tuple[int, int]]:
    """The pixels (x, y) of a rectangle's line, pixel by pixel and closed, as in the files."""
    along, back = range(left, right), range(right, left, -1)
    down, up = range(top, bottom), range(bottom, top, -1)
    ring = (
        [(x, top) for x in along] + [(right, y) for y in down] + [(x, bottom) for x in back] + [(left, y) for y in up]
    )
    return [*ring, ring[0]]


def roi(points, image: str = "", z: float = FIRST_Z, inclusion: str = "TRUE") -> str:
    """An outline on one slice."""
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>\n" for x, y in points)
    return (
        f"<roi>\n<imageZposition>{z}</imageZposition>\n<imageSOP_UID>{image}</imageSOP_UID>\n"
        f"<inclusion>{inclusion}</inclusion>\n{edges}</roi>\n"
    )


def nodule(name: str, *rois: str, rated: bool = True) -> str:
    """A nodule of one reader, with its characteristics if it was rated."""
    values = "".join(f"<{c}>3</{c}>" for c in CHARACTERISTICS)
    told = f"<characteristics>{values}</characteristics>" if rated else ""
    return f"<unblindedReadNodule><noduleID>{name}</noduleID>{told}{''.join(rois)}</unblindedReadNodule>\n"


def non_nodule(name: str, image: str = "", z: float = FIRST_Z) -> str:
    """What a reader took for no nodule."""
    return (
        f"<nonNodule><nonNoduleID>{name}</nonNoduleID><imageZposition>{z}</imageZposition>"
        f"<imageSOP_UID>{image}</imageSOP_UID><locus><xCoord>3</xCoord><yCoord>4</yCoord></locus></nonNodule>\n"
    )


def readings(series: str, *sessions: str) -> str:
    """The file, of as many readers as there are sessions."""
    body = "".join(
        "<readingSession><annotationVersion>3.12</annotationVersion>"
        f"<servicingRadiologistID>anonymous</servicingRadiologistID>\n{session}</readingSession>\n"
        for session in sessions
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<LidcReadMessage uid="1.3.6.1.4.1.14519.5.2.1.6279.6001.1308168927505.0" xmlns="http://www.nih.gov" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:schemaLocation="http://www.nih.gov http://troll.rad.med.umich.edu/lidc/LidcReadMessage.xsd">\n'
        "<ResponseHeader><Version>1.8.1</Version><MessageId>148851</MessageId>"
        f"<SeriesInstanceUid>{series}</SeriesInstanceUid><StudyInstanceUID>1.2.3</StudyInstanceUID>"
        f"</ResponseHeader>\n{body}</LidcReadMessage>\n"
    )


def chest_x_ray_readings() -> str:
    """Readings of a chest x-ray, which has the same folders."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<IdriReadMessage uid="1.2" xmlns="http://www.nih.gov/idri">'
        "<ResponseHeader><CTSeriesInstanceUid>1.2.3</CTSeriesInstanceUid></ResponseHeader></IdriReadMessage>"
    )
