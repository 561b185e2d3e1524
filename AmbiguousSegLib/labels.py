"""What a mask shows: its labels, and how the segments of a file or scene relate to them.

A mask is a label map: uint8, 0 is background, 1 to K are the model's labels in their order. K = 1 is the common case.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

LESION_TERMINOLOGY = (
    "Segmentation category and type - 3D Slicer General Anatomy list"
    "~SCT^49755003^Morphologically Altered Structure~SCT^52988006^Lesion~^^"
    "~Anatomic codes - DICOM master list~^^~^^"
)  # Slicer's TerminologyEntry: context~category~type~modifier~anatomic context~region~modifier
MOST_LABELS = 255  # a label map is uint8
_UNWRITABLE = ("Cc", "Cs", "Zl", "Zp")  # Unicode's controls, halves of characters, ends of lines: headers lose them
_LONGEST = 50  # characters of up to four bytes; a file's name has at most 255
SEGMENTS_ARE = ("auto", "raters", "classes")


@dataclass(frozen=True)
class Label:
    """What is segmented: a name, a colour (red, green, blue in [0, 1]) and a Slicer TerminologyEntry."""

    name: str = "lesion"
    color: tuple[float, float, float] = (0.9, 0.3, 0.2)
    terminology: str = LESION_TERMINOLOGY

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError("A label needs a name, got an empty one.")
        for key, text in (("name", self.name), ("terminology", self.terminology)):
            if any(unicodedata.category(c) in _UNWRITABLE for c in text):
                raise ValueError(f"Label.{key} must be one line without control characters, got {text!r}; correct it.")
        if len(self.color) != 3 or not all(0 <= c <= 1 for c in self.color):
            raise ValueError(f"Label.color must be red, green, blue in [0, 1], got {self.color}.")


DEFAULT_LABELS = (Label(),)


def file_names(labels: Sequence[Label]) -> list[str]:
    """A part of file names for each label: its name in lower case, all but letters and digits as "_".

    Where two would be alike, each has the number of its label behind it. A long name is cut.
    """
    names = ["".join(c if c.isalnum() else "_" for c in label.name.lower())[:_LONGEST] for label in labels]
    while len(set(names)) < len(names):  # a number may make a name that another label has
        names = [f"{name}_{k}" if names.count(name) > 1 else name for k, name in enumerate(names, start=1)]
    return names


def segments_of_mask(labels: Sequence[Label], title: str, identity: str) -> tuple[list[Label], list[str]]:
    """How the segments of one mask are named, and their ids: by the mask where there is one class, else by the labels.

    Args:
        title: of the mask, for people: "lesion 3".
        identity: of the mask: "sample_03".
    """
    if len(labels) == 1:
        return [replace(labels[0], name=title)], [identity]
    return list(labels), file_names(labels)


def check_labels(labels: Sequence[Label]) -> None:
    """ValueError unless these can be the labels 1 to K of a mask: one or more, at most 255, no name twice."""
    names = [label.name for label in labels]
    if not 1 <= len(names) <= MOST_LABELS:
        raise ValueError(f"A mask has 1 to {MOST_LABELS} labels, got {len(names)}.")
    if len(set(names)) < len(names):
        raise ValueError(f"Labels must differ in name, got {', '.join(names)}. Rename one.")


def segments_are_classes(segments: Sequence[str], labels: Sequence[str], segments_are: str = "auto") -> bool:
    """Whether the segments of one file or node are the classes of one rater, rather than a rater each.

    They are classes if the name of every one equals a label of the model, and raters if no name does. Beside a single
    label they are raters whatever their names: a segment shows the same then, and keeps its name.

    Args:
        segments: names of all segments of the file or node.
        labels: names of the model's labels.
        segments_are: "auto" for the rule above; "raters" or "classes" to say so instead.

    Raises:
        ValueError: some names are labels and others are not (the others are named), an unknown name or one that
            occurs twice where segments are classes, or an unknown ``segments_are``.
    """
    if segments_are not in SEGMENTS_ARE:
        raise ValueError(f"What segments are must be one of {', '.join(SEGMENTS_ARE)}, got {segments_are!r}.")
    others = [name for name in segments if name not in labels]
    if segments_are == "raters" or (segments_are == "auto" and (len(labels) == 1 or len(others) == len(segments))):
        return False
    if others:
        named = ", ".join(repr(name) for name in others)
        beside = ", while other segments do" if len(others) < len(segments) else ""
        raise ValueError(
            f"The segments {named} do not have the name of a label ({', '.join(labels)}){beside}; rename them, or say "
            "that segments are raters."
        )
    twice = sorted({name for name in segments if list(segments).count(name) > 1})
    if twice:
        raise ValueError(f"Two segments are named {twice[0]!r}, which is one label; rename or merge them.")
    return True
