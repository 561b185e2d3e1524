"""What the CSV files of the ISIC challenges say of pictures: diagnosis, patient, lesion."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from AmbiguousSegLib.layouts.challenges import plain

log = logging.getLogger(__name__)

_IDENTITY = re.compile(r"ISIC_\d+(?:_downsampled)?", re.IGNORECASE)
_PICTURES = ("image", "imageid", "imagename", "isicid")
_DIAGNOSES = {
    "melanoma": ("mel",),
    "nevus": ("nv", "naevus", "melanocyticnevus", "melanocyticnaevus"),
    "basal cell carcinoma": ("bcc",),
    "actinic keratosis": ("akiec", "ak"),
    "benign keratosis": ("bkl",),
    "seborrheic keratosis": ("sk",),
    "dermatofibroma": ("df",),
    "vascular lesion": ("vasc",),
    "squamous cell carcinoma": ("scc",),
    "benign": (),
    "malignant": (),
}
_BY_NAME = {other: name for name, others in _DIAGNOSES.items() for other in (plain(name), *others)}
_TASK_OF_2017 = {"melanoma", "seborrheic keratosis"}  # what is neither is a nevus
_TASK_OF_2016 = {"benign": "benign", "malignant": "malignant", "0.0": "benign", "1.0": "malignant"}


def identity_of(text: str) -> str:
    """Identity of a picture, however its letters are written: isic_0000000 is ISIC_0000000."""
    return text.upper().replace("_DOWNSAMPLED", "_downsampled")


def diagnosis_of(text: str) -> str:
    """A diagnosis by its full name, "MEL" and "melanoma" as "melanoma"; what is none is given back in lower case."""
    return _BY_NAME.get(plain(text), text.strip().lower())


class Tables:
    """What all CSV files together say, by the picture's identity. A file without such columns says nothing.

    Read are files with a column ``image``, ``image_id``, ``image_name`` or ``isic_id``, for diagnoses as columns of 0
    and 1 (2017 to 2019) or in a column ``dx`` or ``diagnosis`` (HAM10000), for ``patient_id`` and ``lesion_id``; and
    those of 2016, which have no header, with "benign" or "malignant" (0.0 or 1.0) behind the picture.

    Attributes:
        diagnosis: full names.
    """

    def __init__(self) -> None:
        self.diagnosis: dict[str, str] = {}
        self._patients: dict[str, str] = {}
        self._lesions: dict[str, str] = {}

    def subject(self, identity: str) -> str:
        """Whom a picture shows: the patient, else the lesion, else the picture."""
        return self._patients.get(identity) or self._lesions.get(identity) or identity

    def read(self, file: Path) -> None:
        """Add what a CSV file says. Where it contradicts an earlier one on a diagnosis it is not followed, which is
        warned of, as of a file that cannot be read."""
        try:
            with open(file, encoding="utf-8-sig", errors="replace", newline="") as lines:
                rows = [[cell.strip() for cell in row] for row in csv.reader(lines) if row]
        except (OSError, csv.Error) as error:
            log.warning("%s is left out, as it cannot be read: %s.", file, error)
            return
        if not rows:
            return
        contradicted = []
        if len(rows[0]) == 2 and _IDENTITY.fullmatch(rows[0][0]) and rows[0][1] in _TASK_OF_2016:
            rows.insert(0, ["image", "task of 2016"])
        header = [cell.lower() for cell in rows[0]]
        picture = next((cell for cell in header if plain(cell) in _PICTURES), None)
        if picture is None:
            return
        columns = {cell: diagnosis_of(cell) for cell in header if plain(cell) in _BY_NAME}
        for row in rows[1:]:
            said = dict(zip(header, row))
            identity = identity_of(said.get(picture, ""))
            for column, known in (("patient_id", self._patients), ("lesion_id", self._lesions)):
                if said.get(column):
                    known[identity] = said[column]
            diagnosis = _diagnosis_in(said, columns)
            if diagnosis and self.diagnosis.setdefault(identity, diagnosis) != diagnosis:
                contradicted.append(identity)
        if contradicted:
            log.warning(
                "%s gives other diagnoses of %d picture(s) than a file before it, such as %s; the first stands.",
                *(file, len(contradicted), contradicted[0]),
            )


def _diagnosis_in(said: Mapping[str, str], columns: Mapping[str, str]) -> str:
    """What a row says, of whose columns these are diagnoses; empty if it says none, or several."""
    for column in ("dx", "diagnosis"):
        if said.get(column):
            return diagnosis_of(said[column])
    if "task of 2016" in said:
        return _TASK_OF_2016.get(said["task of 2016"], "")
    shares = []
    for column, diagnosis in columns.items():
        with suppress(ValueError):
            shares.append((float(said.get(column, "")), diagnosis))
    sure = [diagnosis for share, diagnosis in shares if share > 0.5]
    if len(sure) == 1:
        return sure[0]
    return "nevus" if not sure and {diagnosis for _, diagnosis in shares} == _TASK_OF_2017 else ""
