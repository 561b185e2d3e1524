"""Which of the training steps a sampler takes: pure functions of (total, count), by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from AmbiguousSegLib.registry import Registry

StepGrid = Callable[[int, int], np.ndarray]

STEP_GRIDS: Registry[StepGrid] = Registry("step grid", room="AmbiguousSegLib.diffusion")


def steps_of(grid: str, total: int, count: int) -> np.ndarray:
    """``count`` of the steps 0 to ``total`` − 1, ascending: int ``(count,)``.

    Raises:
        ValueError: an unknown grid, or a number of steps that it cannot take.
    """
    if not 1 <= count <= total:
        raise ValueError(f"The number of steps must lie in [1, {total}], got {count}.")
    return STEP_GRIDS[grid](total, count)


@STEP_GRIDS.register("trailing")
def trailing(total: int, count: int) -> np.ndarray:
    """t_i = round(i·T/k) − 1, i = 1 … k, halves to even: the last step is always the pure noise.

    (Lin et al. 2024, *Common diffusion noise schedules and sample steps are flawed*, Table 2.) With fewer than two
    thirds of the steps no evaluation is spent at t = 0, where the mask is all but known.
    """
    return np.array([round(i * total / count) - 1 for i in range(1, count + 1)])


@STEP_GRIDS.register("both_ends")
def both_ends(total: int, count: int) -> np.ndarray:
    """Evenly spaced from 0 to T − 1 and rounded, as improved-diffusion does for "50": 0, 20, 41, … 979, 999.

    For parity with the published code. One step is the last one, the pure noise, rather than the first, from which
    nothing can be generated.
    """
    if count == 1:
        return np.array([total - 1])
    stride = (total - 1) / (count - 1)
    steps, position = [], 0.0
    for _ in range(count):
        steps.append(round(position))  # half to even, summed up in floats, as the published maps were made
        position += stride
    return np.array(steps)


@STEP_GRIDS.register("integer_stride")
def integer_stride(total: int, count: int) -> np.ndarray:
    """One integer stride, starting at 0: the rule of improved-diffusion for "ddim50"."""
    for stride in range(1, total):
        if len(range(0, total, stride)) == count:
            return np.arange(0, total, stride)
    raise ValueError(f"No integer stride takes {count} steps out of {total}; use evenly spaced steps instead.")
