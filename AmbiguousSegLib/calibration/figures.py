"""What a calibration says of a sample set: frequencies among readers, and intervals that cover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from AmbiguousSegLib.calibration.areas import LEAST, VOLUME, log_area
from AmbiguousSegLib.calibration.parts import Calibration, OfSamples, calibration_of
from AmbiguousSegLib.diffusion.settings import GAUSSIAN, SamplerSettings

KEY = "calibrated"  # of the provenance of samples
NOT_VALIDATED = "not validated"
GIVEN = "at least one reader outlines something in the slice"
"""What the chance that a reader outlines nothing is conditional on: slices that nobody marked were not fitted on."""
CHOSEN = (
    "the samples themselves chose the slice, that of their largest mean area; the figures were fitted on slices that "
    "were not chosen so"
)


def calibrated_figures(
    calibrations: Sequence[Calibration],
    sampling: SamplerSettings | None,
    areas_mm2: np.ndarray,
    volumes_ml: np.ndarray | None = None,
    by_samples: bool = False,
) -> dict[str, Any]:
    """Figures of samples of one slice, and of their volumes, as plain JSON types; "absent" says why there are none.

    Args:
        calibrations: of the model; one or more.
        sampling: how the samples were drawn.
        areas_mm2: of each sample in the slice, in the order of their numbers, 0 for an empty one: float ``(N,)``.
        volumes_ml: of each sample as a whole; None: one slice is all there is.
        by_samples: whether the samples themselves chose the slice, which no slice of the fit was chosen by.

    Returns:
        "samples_used"; "no_outline": "samples_empty", "probability" that a reader outlines nothing in the slice,
        "given" that some reader outlines something there, because no other slices were fitted on;
        "mean_map": the frequency among readers by the number of samples that mark a pixel, from 0; "area_mm2", and
        for volumes "volume_ml": "intervals", each {"level", "low", "high"}, of the area that a reader outlines who
        outlines something, or "absent". No volumes with several readers were at hand: theirs are the area's factors on
        the samples' volumes, and say "not validated". So do, by "validation" and "validation_reason", all figures of a
        slice that the samples chose. Where all samples used are empty everything is "absent".
    """
    calibration = calibration_of(calibrations, sampling)
    if calibration is None:
        known = ", ".join(_words(one.sampling) for one in calibrations)
        return {"absent": f"the model is calibrated for {known}; these samples were drawn by {_words(sampling)}"}
    entry = calibration.for_samples(len(areas_mm2))
    if entry is None:
        least = calibration.of_samples[0].samples
        return {"absent": f"the model is calibrated for {least} samples or more, these are {len(areas_mm2)}"}
    n = entry.samples
    empty = int(np.count_nonzero(areas_mm2[:n] == 0))
    if empty == n:
        return {
            "absent": f"none of the {n} samples outlines anything in the slice, and nothing was fitted on places "
            "without a lesion"
        }
    chance = float(entry.no_outline.frequency(empty, n))
    found: dict[str, Any] = {
        "samples_used": n,
        "calibrated_on": calibration.data,
        **({"validation": NOT_VALIDATED, "validation_reason": CHOSEN} if by_samples else {}),
        "no_outline": {"samples_empty": empty, "probability": chance, "given": GIVEN},
        "mean_map": [float(p) for p in mean_map_frequencies(entry)],
        "area_mm2": _intervals(entry, areas_mm2[:n]),
    }
    if volumes_ml is not None:
        found["volume_ml"] = {"validation": NOT_VALIDATED, **_intervals(entry, volumes_ml[:n], VOLUME)}
    return found


def mean_map_frequencies(entry: OfSamples) -> np.ndarray:
    """Share of readers who mark a pixel that k samples mark: float64 ``(N + 1,)`` by k.

    Inside the smallest box that holds all marks, as it was fitted; further away nothing says that it is not 0.
    """
    return entry.mean_map.frequency(np.arange(entry.samples + 1), entry.samples)


def intervals_of(entry: OfSamples, sizes: np.ndarray, power: float = 1.0) -> list[tuple[float, float, float]] | None:
    """Level, lower and upper end of each interval for what a reader outlines; None: too few samples are not empty.

    Each holds those of the lower levels: percentiles and factor of a level are its own, and where samples agree a
    higher one may have the narrower interval of its own. A wider one covers no less.

    Args:
        sizes: areas or volumes of the samples, 0 for an empty one: float ``(N,)``; the ends have their unit.
        power: as ``log_area`` takes it.
    """
    found: list[tuple[float, float, float]] = []
    for one in entry.areas:
        at = log_area(sizes, one.level, power)
        if at is None:
            return None
        if one.factor is not None:
            ends = [at.interval(one.factor), *(lower[1:] for lower in found[-1:])]
            found.append((one.level, min(low for low, _ in ends), max(high for _, high in ends)))
    return found


def calibrated_lines(provenance: Mapping[str, Any]) -> list[str]:
    """The figures that samples carry in their provenance, in sentences for people; none: no sentence."""
    found = provenance.get(KEY)
    if not found:
        return []
    if "absent" in found:
        return [f"Not calibrated: {found['absent']}."]
    where = f"slice {found['slice']}" if "slice" in found else "the slice"
    chance = 100 * found["no_outline"]["probability"]
    whole = found.get("validation")
    lines = [
        f"{where[0].upper()}{where[1:]}: where at least one reader outlines something, {chance:.0f} % of readers would "
        f"outline nothing (calibrated{f', {whole}' if whole else ''})."
    ]
    for key, what, unit in (("area_mm2", f"Area in {where}", "mm²"), ("volume_ml", "Volume", "mL")):
        if key not in found:
            continue
        told = found[key].get("absent") or "; ".join(
            f"{100 * i['level']:g} %: {i['low']:.3g} to {i['high']:.3g} {unit}" for i in found[key]["intervals"]
        )
        marked = f" ({NOT_VALIDATED})" if NOT_VALIDATED in (whole, found[key].get("validation")) else ""
        lines.append(f"{what} of a reader who outlines something{marked}: {told}.")
    if whole:
        lines.append(f"{whole[0].upper()}{whole[1:]}: {found['validation_reason']}.")
    return lines


def _intervals(entry: OfSamples, sizes: np.ndarray, power: float = 1.0) -> dict[str, Any]:
    found = intervals_of(entry, sizes, power)
    if found is None:
        marked = int(np.count_nonzero(sizes))
        return {"absent": f"no interval: {marked} of {len(sizes)} samples outline something, {LEAST} are needed"}
    if not found:
        return {"absent": "no interval: the model was calibrated on too few outlines for any level"}
    return {"intervals": [{"level": level, "low": low, "high": high} for level, low, high in found]}


def _words(sampling: SamplerSettings | None) -> str:
    if sampling is None:
        return "one pass"
    return sampling.in_words(GAUSSIAN)
