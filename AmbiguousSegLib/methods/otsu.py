"""Otsu's threshold (IEEE Transactions on Systems, Man, and Cybernetics 1979) of many images at once."""

from __future__ import annotations

import torch
from torch import Tensor


def otsu_threshold(values: Tensor, bins: int = 256) -> Tensor:
    """The threshold of each row that parts its values into two groups of largest variance between them: ``(B,)``.

    As ``skimage.filters.threshold_otsu`` defines it: a histogram of ``bins`` bins from the least to the greatest value,
    and the middle of the last bin of the lower group; of equal maxima the lowest. Values above it are the upper group.
    A row of one value has that value, so that none lies above it.

    Args:
        values: float ``(B, …)``, finite.
        bins: of the histogram.
    """
    flat = values.flatten(1)
    exact = flat if flat.device.type == "mps" else flat.double()  # MPS has no float64
    low, high = exact.amin(1, keepdim=True), exact.amax(1, keepdim=True)
    step = (high - low) / bins
    place = ((exact - low) / torch.where(step > 0, step, 1)).long().clamp(max=bins - 1)
    counts = torch.zeros(len(flat), bins, dtype=exact.dtype, device=flat.device)
    counts.scatter_add_(1, place, torch.ones_like(exact))
    centres = low + (torch.arange(bins, device=flat.device, dtype=exact.dtype) + 0.5) * step
    below = counts.cumsum(1)
    moments = (counts * (centres - low)).cumsum(1)  # from the least value on, so that small steps are not lost
    above, upper = below[:, -1:] - below, moments[:, -1:] - moments
    # Both groups hold a value in all places but the last: the first bin has the least, the last one the greatest.
    gap = moments[:, :-1] / below[:, :-1] - upper[:, :-1] / above[:, :-1].clamp(min=1)
    best = (below * above)[:, :-1].mul(gap**2).argmax(1, keepdim=True)
    return torch.where(step > 0, centres.gather(1, best), low).squeeze(1).to(values.dtype)
