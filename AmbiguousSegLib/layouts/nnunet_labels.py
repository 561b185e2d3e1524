"""What the values in nnU-Net's masks mean: the classes of ``dataset.json`` as labels of the configuration."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from colorsys import hsv_to_rgb
from functools import lru_cache
from pathlib import Path
from typing import Any

from AmbiguousSegLib.labels import Label, check_labels
from AmbiguousSegLib.layouts.names import some
from AmbiguousSegLib.text_files import read_json
from AmbiguousSegLib.volume.file_checks import shown

_log = logging.getLogger(__name__)

DESCRIPTION = "dataset.json"
_LARGEST = 65535
_GOLDEN = 0.618034  # of a turn: hues that stay apart, however many there are


def describes_nnunet(described: Any) -> bool:
    """Whether what a ``dataset.json`` holds is a description by nnU-Net, version 2 (``channel_names``) or 1."""
    return (
        isinstance(described, dict)
        and isinstance(described.get("labels"), dict)
        and isinstance(described.get("channel_names", described.get("modality")), dict)
    )


def labels_beside(mask: Path, labels: Sequence[Label]) -> tuple[tuple[int, int], ...]:
    """``stored_labels`` by the ``dataset.json`` beside a mask (predictions) or above its folder ``labelsTr…``.

    Empty where there is none of nnU-Net: the values are the labels then.
    """
    places = [mask.parent]
    if mask.parent.name.lower().startswith("labels"):
        places.append(mask.parent.parent)
    files = [file for place in places if (file := place / DESCRIPTION).is_file()]
    return next((found for file in files if (found := _labels_by(file, file.stat().st_mtime_ns, tuple(labels)))), ())


@lru_cache(maxsize=256)
def _labels_by(file: Path, _changed: int, labels: tuple[Label, ...]) -> tuple[tuple[int, int], ...]:
    described = read_json(file)
    return stored_labels(described, labels, file) if describes_nnunet(described) else ()


def stored_labels(described: Mapping[str, Any], labels: Sequence[Label], file: Path) -> tuple[tuple[int, int], ...]:
    """Pairs of a value in the masks and the label that it means, 0 for background; every class has its values in them.

    Labels are found by name (upper and lower case alike); classes that then have no label are background, which is
    logged. A single label without a namesake is all classes together. Several without any namesake are the classes by
    number, where there are as many.

    Args:
        described: what ``dataset.json`` holds.
        labels: of the configuration, 1 to K.
        file: for messages.

    Raises:
        ValueError: as ``classes_of``; labels of which some have a namesake and others none, or that are not as many as
            the classes; classes that share values (regions) as different labels.
    """
    classes = classes_of(described, file)
    alike = {name.casefold(): name for name in classes}
    namesakes = {**alike, **{name: name for name in classes}}
    found = [namesakes.get(label.name, alike.get(label.name.casefold())) for label in labels]
    names = some(list(classes), 10)
    if len(labels) == 1 and found[0] is None:
        if len(classes) > 1:
            _log.warning("%s: the classes %s together are the label %s.", shown(file), names, labels[0].name)
        chosen = [tuple(sorted({value for values in classes.values() for value in values}))]
    elif all(found):
        chosen = [classes[name] for name in found if name is not None]
        if left := [name for name in classes if name not in found]:
            _log.warning("%s: the classes %s are no labels and taken for background.", shown(file), some(left, 10))
    elif not any(found) and sorted(classes.values()) == [(k,) for k in range(1, len(labels) + 1)]:
        chosen = [(k,) for k in range(1, len(labels) + 1)]
        ordered = [next(name for name, values in classes.items() if values == own) for own in chosen]
        same = ", ".join(f"{name} is {label.name}" for name, label in zip(ordered, labels))
        _log.warning("%s: the classes are labels by their number: %s.", shown(file), same)
    else:
        raise ValueError(
            f"{shown(file)} has the classes {names}, which do not fit the labels "
            f"{', '.join(label.name for label in labels)}; name labels as the classes are named, or only one."
        )
    meant: dict[int, int] = {value: 0 for values in classes.values() for value in values}
    for label, values in enumerate(chosen, start=1):
        for value in values:
            if meant[value]:
                raise ValueError(
                    f"{shown(file)}: the regions {labels[meant[value] - 1].name} and {labels[label - 1].name} overlap "
                    f"(value {value}), but a mask has one label at a place; name one of them alone."
                )
            meant[value] = label
    return tuple(sorted(meant.items()))


def named_labels(described: Mapping[str, Any], file: Path) -> tuple[Label, ...]:
    """A label for each class, in the order of the values; none where classes share values, or cannot be labels."""
    try:
        classes = classes_of(described, file)
        values = [value for own in classes.values() for value in own]
        if len(set(values)) < len(values):
            return ()
        names = sorted(classes, key=classes.__getitem__)
        labels = tuple(Label(name, _color(k)) for k, name in enumerate(names))
        check_labels(labels)
    except ValueError:
        return ()
    return labels


def _color(number: int) -> tuple[float, float, float]:
    red, green, blue = (round(part, 2) for part in hsv_to_rgb(number * _GOLDEN % 1, 0.7, 0.95))
    return red, green, blue


def classes_of(described: Mapping[str, Any], file: Path) -> dict[str, tuple[int, ...]]:
    """Values of each class but background, ascending; several where it is a region.

    Version 1 has ``{"1": "tumour"}``, version 2 ``{"tumour": 1}`` or, for regions, ``{"tumour": [1, 2]}``.

    Raises:
        ValueError: no class; values that are no whole numbers, or that belong to two classes that are no regions; the
            label "ignore".
    """
    stored = described["labels"]
    if stored and all(isinstance(name, str) for name in stored.values()):
        if len(set(stored.values())) < len(stored):
            raise ValueError(f"{shown(file)}: two labels have one name, got {stored!r}; rename one.")
        if all(value.isdecimal() for value in stored):  # version 1
            stored = {name: int(value) for value, name in stored.items()}
        elif all(value.isdecimal() for value in stored.values()):
            stored = {name: int(value) for name, value in stored.items()}
    classes: dict[str, tuple[int, ...]] = {}
    for name, told in stored.items():
        values = told if isinstance(told, list) else [told]
        if not values or not all(type(value) is int and 0 <= value <= _LARGEST for value in values):
            raise ValueError(
                f"{shown(file)}: the label {name!r} has the value {told!r}, expected whole numbers from 0."
            )
        if name.casefold() == "ignore":
            raise ValueError(
                f'{shown(file)} has the label "ignore" for places that nobody judged, of which a mask here knows '
                "nothing; judge them, or remove the label from the masks and from the file."
            )
        if values != [0]:
            classes[name] = tuple(sorted(values))
    single = [values for values in classes.values() if len(values) == 1]
    if not classes or len(set(single)) < len(single) or any(0 in values for values in classes.values()):
        raise ValueError(f"{shown(file)}: expected labels of different values from 1, got {stored!r}.")
    return classes
