"""Is this scan what the model was trained on? One check for training, sampling, studies and Slicer.

It speaks of what changes what the network sees, and of nothing else: values are compared after the model's intensity
rule, sizes after its resampling. It only warns, and each threshold has a margin beyond what the training data held, so
that an ordinary scan passes without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from AmbiguousSegLib.volume.geometry import Geometry, Region
from AmbiguousSegLib.volume.inputs import ChannelSpans, Inputs, Span, channel_values, in_words
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing

# A pixel a quarter larger or smaller blurs or sharpens as much as augmentation does (scale 0.8 to 1.25).
PIXEL_FACTOR = 1.25
# Slices are looked at one by one: only how thick they are shows, and their distance tells that roughly.
SLICE_FACTOR = 2.0
# Slices, or patches of them, of less than half the least trained field: more than three quarters are padding.
FIELD_SHARE = 0.5
# Slices that are stretched and whose millimetres are unknown: a lesion is then shown half or twice as large.
PIXELS_FACTOR = 2.0
# Of the range [0, 1] that the network sees. CT that is not in Hounsfield units is off by .5 and more (1024 of a window
# of 1400, but for what training held), 8 bits for 16 by nearly 1, while scans of one kind differ by less than .1 from
# the crops that lie in `lidc_nodules`.
VALUE_TOLERANCE = 0.25
# Of the width of the trained values: negative values where training had none, or none where all images had some.
SIGN_TOLERANCE = 0.1

ABSOLUTE = ("window", "full_scale")  # rules that map a value to the same brightness in every image

_UNRELIABLE = "outlines may be unreliable"
_STATISTICS = {"low": "the 0.5th percentile", "median": "the median", "high": "the 99.5th percentile"}
_HU_OFFSET = 1024.0


def check_inputs(
    inputs: Inputs | None,
    values: np.ndarray | Sequence[np.ndarray],
    geometry: Geometry,
    preprocessing: Preprocessing,
    modality: str = "",
    picture: bool = False,
    region: Region | None = None,
) -> list[str]:
    """How a scan differs from what a model was trained on: sentences for people; empty where nothing is amiss.

    Args:
        inputs: what it was trained on; None: unknown.
        values: real numbers ``(C, Z, Y, X)`` as stored, or an array ``(Z, Y, X)`` of each channel. What cannot be
            sampled, such as NaN, is left to ``Preprocessing.prepare``.
        geometry: grid of ``values``.
        preprocessing: of the model.
        modality: of the scan, as DICOM names it; empty: unknown.
        picture: a picture that does not tell the size of its pixels, which 1 mm is assumed for.
        region: box outside of which nothing is seen; None: the whole scan is.

    Raises:
        ValueError: a region outside the scan.
    """
    assumed = []
    if picture and preprocessing.spacing_mm is not None:
        known = None if inputs is None else inputs.pixel_mm
        trained = "" if known is None else f" was trained on pixels of {in_words(known)} mm and"
        assumed.append(
            "A picture does not tell the size of its pixels, and 1 mm is assumed: this model"
            f"{trained} resamples to {preprocessing.spacing_mm:g} mm. Give the size by --spacing-mm or, in Slicer, in "
            "the module Volumes."
        )
    if inputs is None:
        return assumed
    seen = [channel_values(channel) for channel in values]
    found = Inputs.of([s for s in seen if s is not None], geometry, preprocessing.plane, modality, picture, region)
    return [*assumed, *compare_inputs(inputs, found, preprocessing)]


def compare_inputs(known: Inputs, seen: Inputs, preprocessing: Preprocessing) -> list[str]:
    """How images differ from what a model was trained on: sentences for people; empty where nothing is amiss.

    Args:
        known: what it was trained on.
        seen: what the images are like, of one that is to be sampled, or of all that training is to go on with.
        preprocessing: of the model.
    """
    notes = [*_of_modality(known, seen), *_of_pixels(known, seen, preprocessing), *_of_size(known, seen, preprocessing)]
    if len(known.channels) == len(seen.channels) == len(preprocessing.channels):
        several = len(known.channels) > 1
        for name, rule, *spans in zip(preprocessing.channels, preprocessing.rules, known.channels, seen.channels):
            notes += _of_values(spans[0], spans[1], rule, name if several else "")
    return notes


def _of_modality(known: Inputs, seen: Inputs) -> Iterator[str]:
    others = [name for name in seen.modalities if name not in known.modalities]
    if known.modalities and others:
        yield f"This is {', '.join(others)}: the model was trained on {', '.join(known.modalities)}; {_UNRELIABLE}."


def _of_pixels(known: Inputs, seen: Inputs, preprocessing: Preprocessing) -> Iterator[str]:
    if preprocessing.spacing_mm is not None and _beyond(seen.pixel_mm, known.pixel_mm, PIXEL_FACTOR):
        yield (
            f"Pixels are {_words(seen.pixel_mm)} mm large: the model was trained on {_words(known.pixel_mm)} mm; "
            f"{_UNRELIABLE}."
        )
    if _beyond(seen.slice_mm, known.slice_mm, SLICE_FACTOR):
        yield (
            f"Slices are {_words(seen.slice_mm)} mm apart: the model was trained on slices {_words(known.slice_mm)} "
            f"mm apart; {_UNRELIABLE}."
        )


def _of_size(known: Inputs, seen: Inputs, preprocessing: Preprocessing) -> Iterator[str]:
    if preprocessing.spacing_mm is not None:
        least = min(_field(known)[0], min(preprocessing.size) * preprocessing.spacing_mm)
        mine = _field(seen)[0]
        if mine < FIELD_SHARE * least:
            yield (
                f"What is looked at is {mine:.3g} mm wide or high: the model was trained on {least:.3g} mm and more, "
                "and sees mostly padding; give a larger image, or a larger region."
            )
        return
    shapes = [(one.rows_px[0] / one.columns_px[1], one.rows_px[1] / one.columns_px[0]) for one in (seen, known)]
    if _beyond(shapes[0], shapes[1], PIXEL_FACTOR):
        yield (
            f"Slices have {in_words(seen.rows_px)} × {in_words(seen.columns_px)} pixels (rows × columns): the model "
            f"was trained on {in_words(known.rows_px)} × {in_words(known.columns_px)} and stretches them to "
            f"{preprocessing.size[0]} × {preprocessing.size[1]}, so that shapes are distorted; choose a region of the "
            "trained proportions."
        )
    if known.pixel_mm is not None and seen.pixel_mm is not None:
        if _beyond(_field(seen), _field(known), PIXEL_FACTOR):
            yield (
                f"Slices are {in_words(_field(seen))} mm wide and high: the model was trained on "
                f"{in_words(_field(known))} mm and stretches what it sees, so that lesions look larger or smaller; "
                "choose a region of the trained size."
            )
    elif any(_beyond(a, b, PIXELS_FACTOR) for a, b in zip(_pixels(seen), _pixels(known))):
        yield (
            f"Slices have {in_words(seen.rows_px)} × {in_words(seen.columns_px)} pixels: the model was trained on "
            f"{in_words(known.rows_px)} × {in_words(known.columns_px)} and stretches what it sees, so that lesions may "
            "look larger or smaller; choose a region of the trained size."
        )


def _of_values(known: ChannelSpans, seen: ChannelSpans, rule: Intensity, channel: str) -> Iterator[str]:
    """At most one sentence: of the statistic that is farthest from what training held."""
    found = _farthest_absolute(known, seen, rule) if rule.rule in ABSOLUTE else _middle(known, seen)
    if found is None and _sign_differs(known, seen):
        found = f"the 0.5th percentile of the values is {in_words(seen.low)}", in_words(known.low)
    if found is None:
        return
    text, trained = found
    text = f"{text}: in the images that the model was trained on it is {trained}{_guess(known, seen)}; {_UNRELIABLE}."
    yield f"{channel}: {text}" if channel else text[0].upper() + text[1:]


def _farthest_absolute(known: ChannelSpans, seen: ChannelSpans, rule: Intensity) -> tuple[str, str] | None:
    """What is amiss where the rule's limits are fixed, and what training held; None if nothing is."""
    low, high = float(rule.low or 0), float(rule.high or 0)
    off = {}
    for name in _STATISTICS:
        old, new = (np.clip((np.array(getattr(c, name)) - low) / (high - low), 0, 1) for c in (known, seen))
        off[name] = float(max(old[0] - new[0], new[1] - old[1]))
    name = max(off, key=lambda key: off[key])
    if off[name] <= VALUE_TOLERANCE:
        return None
    return f"{_STATISTICS[name]} of the values is {in_words(getattr(seen, name))}", in_words(getattr(known, name))


def _middle(known: ChannelSpans, seen: ChannelSpans) -> tuple[str, str] | None:
    """The same where the limits follow from each image itself, so that only the shape of its histogram counts."""
    if max(known.middle[0] - seen.middle[0], seen.middle[1] - known.middle[1]) <= VALUE_TOLERANCE:
        return None
    mine, trained = (in_words((round(100 * a), round(100 * b))) for a, b in (seen.middle, known.middle))
    return f"the median of the values lies {mine} % of the way from the darkest to the brightest", f"{trained} %"


def _sign_differs(known: ChannelSpans, seen: ChannelSpans) -> bool:
    """Values clearly below 0 where no training image had any, or none where every training image had some."""
    margin = SIGN_TOLERANCE * (known.high[1] - known.low[0])
    return (known.least[0] >= 0 and seen.low[0] < -margin) or (known.least[1] < -margin and seen.least[1] >= 0)


def _guess(known: ChannelSpans, seen: ChannelSpans) -> str:
    """What may be the reason, in brackets; empty where nothing is likely."""
    kinds, positive = (known.stored, seen.stored), seen.least[0] >= 0
    if kinds in (("uint8", "uint16"), ("uint16", "uint8")):
        bits = {"uint8": 8, "uint16": 16}
        return f" (these are values of {bits[kinds[1]]} bits, those of {bits[kinds[0]]}: convert the image)"
    if positive and seen.greatest[1] <= 1 < known.greatest[1] and not seen.whole:
        return " (these are scaled to 0 … 1: give the values as they were stored)"
    if positive and known.low[1] < -_HU_OFFSET / 4:
        return f" (are these Hounsfield units? Without their offset values are {_HU_OFFSET:g} too high)"
    if known.least[0] >= 0 and seen.low[0] < -_HU_OFFSET / 4:
        return " (these may be Hounsfield units, those were not)"
    return ""


def _field(one: Inputs) -> Span:
    """Least and greatest side of a slice, mm; where no pixel size is known, of pixels of 1 mm, as is assumed."""
    low, high = one.pixel_mm or (1.0, 1.0)
    return min(one.rows_px[0], one.columns_px[0]) * low, max(one.rows_px[1], one.columns_px[1]) * high


def _pixels(one: Inputs) -> tuple[Span, Span]:
    return one.rows_px, one.columns_px


def _beyond(seen: Span | None, known: Span | None, factor: float) -> bool:
    """Whether something lies outside of what is known by more than the factor; not where either is unknown."""
    return seen is not None and known is not None and (seen[0] * factor < known[0] or seen[1] > known[1] * factor)


def _words(span: Span | None) -> str:
    return "unknown" if span is None else in_words(span)
