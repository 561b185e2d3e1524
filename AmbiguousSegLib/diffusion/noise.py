"""Random numbers as a pure function of where they are used.

Each number follows from (seed, row, draw, pixel) alone. A row is one sample of one slice when sampling, or one item of
the global batch when training. So a sample does not depend on the batch it was computed in, on how many others were
asked for, on the slice range or on the number of processes.

The generator is Philox 4×64 (Salmon et al., SC 2011): counter-based, so that a stream is addressed rather than
advanced. Word 0 of its counter runs inside one draw; words 1 to 3 name draw, slice and sample, and the key holds the
seed and the purpose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import ndtr

SAMPLING, TRAINING = 0, 1
_LIMIT = 2**63
_BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))


def philox(seed: int, purpose: int, draw: int, a: int, b: int) -> np.random.Generator:
    """Generator of the stream named by the five integers, each in [0, 2⁶³)."""
    for name, value in (("seed", seed), ("purpose", purpose), ("draw", draw), ("row", a), ("row", b)):
        if not 0 <= value < _LIMIT:
            raise ValueError(f"Random {name} must lie in [0, 2**63), got {value}.")
    return np.random.Generator(np.random.Philox(key=[seed, purpose], counter=[0, draw, a, b]))


class RowNoise:
    """Random numbers for the rows of one batch.

    Draws are told apart by their number alone: draws of one number share their random bits, whatever is made of them.

    Args:
        seed: in [0, 2⁶³).
        rows: one pair of integers per batch row, (slice, sample) or (position, 0).
        purpose: keeps the streams of sampling and training apart under one seed.
        device, dtype: of the tensors returned. Numbers are always made as float32 on the CPU, so every device sees
            the same bits.
        slice_period: 0 draws each slice independently. Otherwise the noise turns smoothly from one independent field
            to the next every ``slice_period`` slices, so that neighbouring slices make the same choices and a sample
            is one coherent 3-D shape; ``inf`` uses one field for all slices. Each slice's own distribution stays
            exactly standard normal: the two fields are weighted by cos and sin of one angle.
    """

    def __init__(
        self,
        seed: int,
        rows: Sequence[tuple[int, int]],
        purpose: int = SAMPLING,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        slice_period: float = 0.0,
    ) -> None:
        if not slice_period >= 0:
            raise ValueError(f"slice_period must be 0 or more, got {slice_period}.")
        self.seed, self.rows, self.purpose = seed, list(rows), purpose
        self.device, self.dtype, self.slice_period = torch.device(device), dtype, slice_period

    def normal(self, draw: int, shape: Sequence[int]) -> torch.Tensor:
        """Standard normal numbers ``(rows, *shape)`` of the draw with this number."""
        shape = tuple(shape)
        return self._tensor([self._row_normal(draw, a, b, shape) for a, b in self.rows])

    def uniform(self, draw: int, shape: Sequence[int] = ()) -> torch.Tensor:
        """Uniform numbers in [0, 1): ``(rows, *shape)``, one per row if no shape is given.

        Where noise is coherent along the slices they are Φ of ``normal(draw, shape)``: coherent like those, and
        exactly uniform in each slice.
        """
        shape = tuple(shape)
        return self._tensor([self._row_uniform(draw, a, b, shape) for a, b in self.rows])

    def categorical(self, draw: int, probabilities: torch.Tensor) -> torch.Tensor:
        """A class for every pixel, by the inverse distribution function of ``uniform(draw, spatial)``.

        Args:
            probabilities: float ``(rows, K, *spatial)`` on the device of the noise, 0 or more; what the K classes of a
                pixel sum to counts as 1.

        Returns:
            int64 ``(rows, *spatial)``, 0 to K − 1; a class of probability 0 is never drawn.

        Raises:
            ValueError: probabilities of another number of rows.
        """
        if len(probabilities) != len(self.rows):
            raise ValueError(f"Probabilities of {len(probabilities)} rows do not fit noise of {len(self.rows)}.")
        uniform = self.uniform(draw, probabilities.shape[2:])
        cumulative = probabilities.to(uniform.dtype).cumsum(dim=1)
        return (uniform[:, None] >= cumulative[:, :-1] / cumulative[:, -1:]).sum(dim=1)

    def _row_normal(self, draw: int, a: int, b: int, shape: tuple[int, ...]) -> Any:
        if self.slice_period == 0:
            return self._field(draw, a, b, shape)
        if math.isinf(self.slice_period):
            return self._field(draw, 0, b, shape)
        anchor, fraction = divmod(a / self.slice_period, 1.0)
        if fraction == 0.0:
            return self._field(draw, int(anchor), b, shape)
        angle = fraction * math.pi / 2
        one, other = (self._field(draw, int(anchor) + step, b, shape) for step in (0, 1))
        return float(np.float32(math.cos(angle))) * one + float(np.float32(math.sin(angle))) * other

    def _row_uniform(self, draw: int, a: int, b: int, shape: tuple[int, ...]) -> Any:
        if self.slice_period != 0:
            return np.minimum(ndtr(self._row_normal(draw, a, b, shape)), _BELOW_ONE, dtype=np.float32)
        return np.asarray(philox(self.seed, self.purpose, draw, a, b).random(shape, dtype=np.float32))

    def _field(self, draw: int, a: int, b: int, shape: tuple[int, ...]) -> Any:
        return philox(self.seed, self.purpose, draw, a, b).standard_normal(shape, dtype=np.float32)

    def _tensor(self, rows: list[Any]) -> torch.Tensor:
        return torch.from_numpy(np.stack(rows)).to(self.device, self.dtype)


class DeviceNoise(RowNoise):
    """The same by the device's own generator: nothing is made on the CPU and copied, but each kind of device has other
    numbers, and so may each version of torch.

    Also here a number follows from seed, row, draw and pixel alone: each row of a draw has a generator of its own,
    seeded from ``philox``.
    """

    def _row_uniform(self, draw: int, a: int, b: int, shape: tuple[int, ...]) -> torch.Tensor:
        if self.slice_period != 0:
            return torch.special.ndtr(self._row_normal(draw, a, b, shape)).clamp(max=float(_BELOW_ONE))
        return torch.rand(shape, generator=self._generator(draw, a, b), device=self.device)

    def _field(self, draw: int, a: int, b: int, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=self._generator(draw, a, b), device=self.device)

    def _generator(self, draw: int, a: int, b: int) -> torch.Generator:
        seed = int(philox(self.seed, self.purpose, draw, a, b).integers(_LIMIT))
        return torch.Generator(self.device).manual_seed(seed)

    def _tensor(self, rows: list[Any]) -> torch.Tensor:
        return torch.stack(rows).to(self.dtype)
