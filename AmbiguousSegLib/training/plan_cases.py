"""What a plan needs to know of the cases beyond their inspection: what their masks show, and what lies around it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.inspection import Inspection, inspect_all
from AmbiguousSegLib.data.readers import Case, read_all
from AmbiguousSegLib.data.split import split_cases
from AmbiguousSegLib.labels import DEFAULT_LABELS, MOST_LABELS, Label
from AmbiguousSegLib.training.plan_intensity import is_hounsfield
from AmbiguousSegLib.volume.inputs import ChannelValues, channel_values

_CASES_NEAR, _NEAR_MM = 16, 20.0  # volumes that are read again, and how far around the marks they are looked at
_MOST_CLASSES = 16  # more values than this in a mask are not taken for classes
# Of classes without a name, so that they differ from each other in pictures.
_COLORS = (0.9, 0.3, 0.2), (0.95, 0.75, 0.3), (0.4, 0.6, 1.0), (0.4, 0.8, 0.4), (0.8, 0.5, 0.9), (0.4, 0.85, 0.85)


def inspected(
    folder: Path,
    config: DataConfig,
    labels: Sequence[Label] | None,
    on_case: Callable[[int, int], None] | None = None,
) -> tuple[Sequence[Case], list[Inspection], tuple[Label, ...]]:
    """The cases of a folder or list, what is in each, and the labels of their masks.

    Cases that the data itself keeps for the test are left out: nothing of a plan comes from them.

    Args:
        labels: of the masks; None: one lesion or, where the masks hold several values, a class for each.
        on_case: called with the number of cases inspected so far, and of all.

    Raises:
        ValueError: as ``read_all`` and ``inspect_all``.
    """
    try:
        return *_read(folder, config, labels or DEFAULT_LABELS, on_case), tuple(labels or DEFAULT_LABELS)
    except ValueError as error:
        if labels is not None:
            raise
        try:
            _, seen = _read(folder, config, _numbered(MOST_LABELS), on_case)
        except ValueError:
            raise error from None
        found = max((label for case in seen for label in case.labels), default=0)
        if not 1 < found <= _MOST_CLASSES:
            raise
        return *_read(folder, config, _numbered(found), None), _numbered(found)


def near_marks(cases: Sequence[Case], seen: Sequence[Inspection]) -> list[tuple[ChannelValues, ...]]:
    """Values around the marks in some CT volumes; none for other data, whose images are brought to [0, 1] as wholes.

    A whole scan is mostly air and bed; what a window has to show is where the lesions are.

    Args:
        cases, seen: in the same order.
    """
    marked = [k for k, case in enumerate(seen) if all(case.marked) and min(case.geometry.size) > 1]
    if not marked or not any(
        is_hounsfield([seen[k].values[c] for k in marked], seen[marked[0]].modality) for c in range(len(seen[0].values))
    ):
        return []
    some = [marked[k] for k in np.linspace(0, len(marked) - 1, min(len(marked), _CASES_NEAR)).round().astype(int)]
    # None is a channel with NaN, which inspection has refused
    near = ([channel_values(channel) for channel in _around(cases[k].load_image()[0], seen[k])] for k in some)
    return [tuple(values for values in found if values is not None) for found in near]


def _read(folder: Path, config: DataConfig, labels: Sequence[Label], on_case: Any) -> tuple[Sequence[Case], list[Any]]:
    found = read_all(folder, config, labels)
    split_cases(config, found)  # parts that contradict each other are found before anything is read
    cases = [case for case in found if case.part != "test"]
    told = None if on_case is None else lambda number: on_case(number, len(cases))
    return cases, inspect_all(cases, len(labels), told)


def _numbered(count: int) -> tuple[Label, ...]:
    return tuple(Label(f"class {k + 1}", _COLORS[k % len(_COLORS)]) for k in range(count))


def _around(values: np.ndarray, seen: Inspection) -> np.ndarray:
    """The box of the marks and what is near it, of an image ``(C, Z, Y, X)``."""
    box = []
    for found, spacing in zip(seen.marked, seen.geometry.spacing_mm[::-1]):
        more = round(_NEAR_MM / spacing)
        box.append(slice(max(found[0] - more, 0), found[-1] + 1 + more))
    return values[(slice(None), *box)]


def in_lines(seen: Sequence[Inspection], labels: Sequence[Label]) -> tuple[str, ...]:
    """What is in the data, in a few lines for people."""
    parts = Counter(case.part for case in seen)
    stated = ", ".join(f"{count} {part or 'of no stated part'}" for part, count in parts.items())
    sizes = Counter(case.geometry.size for case in seen)
    shown = ", ".join(" × ".join(map(str, size)) for size, _ in sizes.most_common(3))
    spacing = [
        "–".join(dict.fromkeys(f"{fold(of):.3g}" for fold in (min, max)))
        for of in zip(*(c.geometry.spacing_mm for c in seen))
    ]
    stored = ", ".join(sorted({case.stored for case in seen}))
    least, greatest = (
        fold(getattr(v, at) for c in seen for v in c.values) for fold, at in ((min, "least"), (max, "greatest"))
    )
    raters = Counter(len(case.raters) for case in seen)
    empty, masks = sum(case.empty_raters for case in seen), sum(len(case.raters) for case in seen)
    return (
        f"{len(seen)} cases of {len({case.subject for case in seen})} subjects" + (f": {stated}" if any(parts) else ""),
        f"size {shown}"
        + (f" and {len(sizes) - 3} more" if len(sizes) > 3 else "")
        + f" (x, y, z), spacing {' × '.join(spacing)} mm",
        f"values {least:g} to {greatest:g}, {len(seen[0].values)} channel(s), {stored}",
        "raters: "
        + ", ".join(f"{count} in {cases} cases" for count, cases in sorted(raters.items()))
        + f"; {empty} of {masks} masks are empty",
        f"labels: {', '.join(label.name for label in labels)}",
    )
