"""What a number of independent draws can say of the next one, by ranks and counts alone."""

from __future__ import annotations

import math

_ROUNDED = 9  # decimals, so that 1.95 / 0.05 is 39


def level_of_range(draws: int) -> float:
    """Chance that one more draw lies between the least and the greatest of ``draws``: (n − 1)/(n + 1).

    Of n + 1 exchangeable numbers each is as likely as any other to be the last one drawn, and two of them are the
    extremes (Wilks 1941; David & Nagaraja, Order Statistics, 2003, section 7.2). Without ties it is exact, with ties
    it is more.

    Raises:
        ValueError: no draw.
    """
    if draws < 1:
        raise ValueError(f"A range needs one draw or more, got {draws}; sample first.")
    return (draws - 1) / (draws + 1)


def least_draws(level: float) -> int:
    """The least n with ``level_of_range(n)`` ≥ ``level``: ⌈(1 + level)/(1 − level)⌉; 3 for .5, 9 for .8, 39 for .95.

    Fewer hold no interval of this level, whichever of them are its ends.

    Raises:
        ValueError: a level that does not lie in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"A level lies between 0 and 1, got {level}; give .95 for 95 %.")
    return math.ceil(round((1 + level) / (1 - level), _ROUNDED))


def frequency_interval(count: int, draws: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of the probability of something that happened in ``count`` of ``draws`` draws: Wilson's.

    Its coverage is near the level on average, and below it for some probabilities, by up to twelve points at 8 draws
    (Wilson 1927; Brown, Cai & DasGupta 2001, who recommend it for 40 draws or fewer).

    Raises:
        ValueError: a count beyond the draws, or no draw.
    """
    if not 0 <= count <= draws or draws < 1:
        raise ValueError(f"Expected a count from 0 to the number of draws, at least 1, got {count} of {draws}.")
    from scipy.stats import binomtest  # slow to import: Slicer's GUI, which asks for ranks alone, does not wait

    found = binomtest(int(count), int(draws)).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)
