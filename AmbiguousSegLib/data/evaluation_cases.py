"""Cases that a model was not trained on, to judge it by: those of a part of the split, or phantoms of other seeds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.ndimage import label

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.inspection import inspect
from AmbiguousSegLib.data.lung_phantom import Phantom, phantom_case, phantom_classes, window
from AmbiguousSegLib.data.readers import Case, load_case
from AmbiguousSegLib.data.slices import Slice, SliceStore
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label
from AmbiguousSegLib.volume.geometry import SliceAxes
from AmbiguousSegLib.volume.point_map import point_map

log = logging.getLogger(__name__)

HELD_OUT_SEEDS = {"validation": 1, "test": 2}  # added to the seed of the training phantom
_RATERS = 2  # stream of random numbers under the phantom's seed


@dataclass(frozen=True)
class EvaluationCase:
    """A case to score: image float32 ``(C, H, W)`` in [0, 1], raters' masks, uint8 label maps ``(R, H, W)``.

    ``subject`` is whom it shows; empty: nobody else's case shows the same. ``volume`` is the case of a reader that it
    is a part of, and ``part_of`` brings label maps on that case's grid, uint8 ``(R, Z, Y, X)``, to ``(R, H, W)`` as it
    did the raters'; None for phantoms. ``spacing_mm``: of its rows and columns, where they are the volume's own.
    """

    identity: str
    image: np.ndarray
    masks: np.ndarray
    subject: str = ""
    volume: Case | None = None
    part_of: Callable[[np.ndarray], np.ndarray] | None = None
    spacing_mm: tuple[float, float] | None = None


def loaded_cases(slices: Sequence[Slice], store: SliceStore, count: int | None = None) -> list[EvaluationCase]:
    """Cases of a reader as the network sees them: the first ``count`` of their slices (None: all), marked ones alone
    where a case has several.

    Of each case the middle one of its marked slices comes before any second slice of another. Larger slices are cut to
    the preprocessing's size, as ``patch_around`` has it; so they are what sampling a region there works on. What was
    marked beyond it is not judged, which is logged. Where the network is told of a point, it is the patch's middle.

    Raises:
        ValueError: as ``SliceStore.load``.
    """
    cases, cut, size = [], 0, store.preprocessing.size
    again = copy(store)  # starts empty: what the cases hold on to does not keep all that was read
    for chosen in _in_turn(slices)[:count]:
        image, masks = store.load(chosen.case, chosen.number)
        marks = np.count_nonzero(masks)
        rows, columns = patch_around(np.any(masks, axis=0), size)
        image, masks = image[:, rows, columns], masks[:, rows, columns]
        if (sigma := store.preprocessing.point_sigma) is not None:
            height, width = image.shape[1:]
            image = np.concatenate([image, point_map((height, width), (height - 1) / 2, (width - 1) / 2, sigma)])
        part_of = partial(_part_of, again, chosen, rows, columns)
        cases.append(EvaluationCase(chosen.identity, image, masks, chosen.case.subject, chosen.case, part_of))
        cut += int(marks > np.count_nonzero(masks))
    if cut:
        told = "marks of %d of %d slices to judge by reach beyond a patch of %d × %d pixels, and count within it alone."
        log.warning(told, cut, len(cases), *size)
    return cases


def _part_of(store: SliceStore, chosen: Slice, rows: slice, columns: slice, masks: np.ndarray) -> np.ndarray:
    return store.label_maps(chosen.case, chosen.number, masks)[:, rows, columns]


def native_cases(
    cases: Sequence[Case], classes: int, plane: str, count: int | None = None, images: int | None = None
) -> list[EvaluationCase]:
    """Cases of a reader on their own grids, where no model asks for another: slices chosen as ``loaded_cases`` does.

    Args:
        classes: K of the masks.
        plane: of ``PLANES``; a picture is one slice whatever the plane.
        count: only the first so many slices; None: all.
        images: of how many cases the images are kept, brought to [0, 1] from their own extremes; those of others are
            of no pixels.

    Raises:
        ValueError: as ``inspect``.
    """
    slices = []
    for case in cases:
        seen = inspect(case, classes)
        flat = seen.geometry.size[2] == 1
        total, marked = seen.marked_slices("stored" if flat else plane)
        marks = set(marked)
        slices += [Slice(case, number, number in marks, total) for number in range(total)]
    chosen = _in_turn(slices)[:count]
    found: dict[str, EvaluationCase] = {}
    for case in dict.fromkeys(one.case for one in chosen):
        values, geometry, masks = load_case(case, classes)
        axes = SliceAxes.of(geometry, "stored" if geometry.size[2] == 1 else plane)
        untold = geometry.size[2] == 1 and geometry.spacing_mm == (1.0, 1.0, 1.0)  # a picture, as ``inputs_of`` says
        spacing = None if untold else axes.of_index(geometry.spacing_mm)[1:]
        for place, one in enumerate(chosen):
            if one.case is case:
                image = np.zeros((1, 0, 0), np.float32)
                if images is None or place < images:
                    image = _from_extremes(axes.view(values)[:, one.number])
                part_of = partial(_slice_of, axes, one.number)
                own = part_of(masks)
                found[one.identity] = EvaluationCase(one.identity, image, own, case.subject, case, part_of, spacing)
    return [found[one.identity] for one in chosen]


def _slice_of(axes: SliceAxes, number: int, masks: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(axes.view(masks)[:, number])


def _from_extremes(values: np.ndarray) -> np.ndarray:
    """float32 ``(C, H, W)`` in [0, 1] of each channel's own extremes."""
    values = values.astype(np.float32)
    low, high = (limit(axis=(1, 2), keepdims=True) for limit in (values.min, values.max))
    return (values - low) / np.maximum(high - low, np.finfo(np.float32).tiny)


def patch_around(marked: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a patch of ``size`` in a slice, bool ``(H, W)``, with its marks in the middle, as far as the
    slice reaches; without marks, the middle of the slice.

    Where they do not fit, the largest connected one lies in the middle. Of one that does not fit by itself it is the
    marked pixel nearest to its middle, so that something marked is always seen.
    """
    places = np.argwhere(marked)
    if len(places) and np.any(np.ptp(places, axis=0) >= size):
        numbered, _ = label(marked, np.ones((3, 3)))
        places = np.argwhere(numbered == np.bincount(numbered.ravel())[1:].argmax() + 1)
    middle = (places.min(0) + places.max(0)) / 2 if len(places) else (np.array(marked.shape) - 1) / 2
    if len(places) and np.any(np.ptp(places, axis=0) >= size):
        middle = places[np.square(places - middle).sum(1).argmin()]
    corner = np.clip(np.round(middle - (np.array(size) - 1) / 2), 0, np.maximum(np.array(marked.shape) - size, 0))
    rows, columns = (slice(int(start), int(start) + n) for start, n in zip(corner, size))
    return rows, columns


def _in_turn(slices: Sequence[Slice]) -> list[Slice]:
    """Slices by their rank in their case, from the middle of its marked ones outwards, then in order of the cases."""
    of_case: dict[str, list[Slice]] = {}
    for one in slices:
        if one.marked or one.of == 1:
            of_case.setdefault(one.case.identity, []).append(one)
    ranked: list[tuple[int, int, Slice]] = []
    for place, own in enumerate(of_case.values()):
        middle = own[len(own) // 2].number
        outwards = sorted((abs(one.number - middle), one.number, one) for one in own)
        ranked.extend((rank, place, one) for rank, (_, _, one) in enumerate(outwards))
    return [one for _, _, one in sorted(ranked, key=lambda entry: entry[:2])]


def held_out_cases(
    config: DataConfig, part: str, count: int, raters: int, labels: Sequence[Label] = DEFAULT_LABELS
) -> list[EvaluationCase]:
    """The first ``count`` phantom cases of the part "validation" or "test", each with ``raters`` masks drawn.

    Args:
        labels: of the masks, 1 to K.

    Raises:
        ValueError: other labels than the phantom has.
    """
    seed = held_out_seed(config, part)
    made = []
    for index, phantom in enumerate(held_out_phantoms(config, part, count, labels)):
        masks = phantom.draw_masks(np.random.default_rng([seed, _RATERS, index]), raters)
        made.append(EvaluationCase(f"phantom/{seed}/{index}", window(phantom.image)[None], masks))
    return made


def held_out_phantoms(
    config: DataConfig, part: str, count: int, labels: Sequence[Label] = DEFAULT_LABELS
) -> list[Phantom]:
    """The phantoms of :func:`held_out_cases`, whose true distribution is known."""
    seed, spacing = held_out_seed(config, part), config.phantom_spacing_mm
    classes = phantom_classes([label.name for label in labels])
    return [phantom_case(seed, index, config.size, spacing, classes) for index in range(count)]


def held_out_seed(config: DataConfig, part: str) -> int:
    """Seed of the phantoms of the part "validation" or "test"."""
    return config.phantom_seed + HELD_OUT_SEEDS[part]
