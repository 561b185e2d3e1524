"""Masks refined where they are drawn: on the model's pixels, before they go back onto a volume's grid.

Each sample is refined by itself, in its slice: it depends on no other sample, slice or batch. The point at which values
become label maps is the same for all ways of sampling (whole volumes, around a point, shared among processes, held-out
cases), and so is this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from AmbiguousSegLib.ensemble.dense_crf import DenseCRF
from AmbiguousSegLib.ensemble.refinement import DenseCRFConfig
from AmbiguousSegLib.inference.batches import KEPT_BYTES, Row
from AmbiguousSegLib.label_maps import label_map_of


def refined(
    drawn: Iterable[tuple[Sequence[Row], Tensor]],
    image: Callable[[int], Tensor],
    channels: int,
    inner: tuple[slice, slice],
    config: DenseCRFConfig | None,
) -> Iterator[tuple[Sequence[Row], Tensor]]:
    """What ``draw_masks`` gives, with the probabilities of the refined masks in place of the values.

    Of each sample its label map counts, whatever its values were; what comes instead is continuous, so that borders
    stay smooth on another grid, and ``label_map_of`` is its class of largest probability.

    Args:
        drawn: batches as ``draw_masks`` yields them.
        image: of a slice, float32 ``(C, H, W)`` in [0, 1].
        channels: how many of C are a picture, the first: what comes after them is where somebody pointed.
        inner: rows and columns that show something: what was padded around them speaks for no class.
        config: None: the batches as they are.
    """
    if config is None:
        yield from drawn
        return
    fields = _Fields(lambda number: DenseCRF(image(number)[(slice(channels), *inner)], config))
    for batch, values in drawn:
        values, classes = values.clone(), values.shape[1]
        seen = values[(..., *inner)]  # a view
        for number in dict.fromkeys(number for number, _ in batch):
            rows = [row for row, (own, _) in enumerate(batch) if own == number]
            masks = np.stack([label_map_of(seen[row].numpy()) for row in rows])
            seen[rows] = fields.of(number).probabilities(masks, classes)[:, 1:].float()
        yield batch, values


class _Fields:
    """Those of the slices used last, as many as ``KEPT_BYTES`` hold: samples may come slice by slice, or one by one."""

    def __init__(self, make: Callable[[int], DenseCRF]) -> None:
        self._make, self._kept = make, dict[int, DenseCRF]()

    def of(self, number: int) -> DenseCRF:
        with torch.inference_mode():
            field = self._kept.pop(number, None) or self._make(number)
        self._kept[number] = field  # the last of them
        while len(self._kept) > 1 and sum(field.memory_bytes for field in self._kept.values()) > KEPT_BYTES:
            del self._kept[next(iter(self._kept))]
        return field
