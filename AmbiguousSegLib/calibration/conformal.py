"""The score that readers of new patients stay below in a stated share: conformal prediction with patients as clusters.

Split conformal prediction takes a score of n exchangeable cases and one more: the ⌈(n + 1)·level⌉-th smallest of the n
covers the one more with a chance of at least ``level``, whatever the distribution and the model (Vovk, Gammerman &
Shafer 2005; Romano, Patterson & Candès 2019, Theorem 1; Angelopoulos & Bates 2021, Appendix D). Outlines of one patient
are not exchangeable with those of another: his nodules resemble each other, and one nodule's readers looked at the same
picture. Patients are. What is wanted is a share of outlines, so that a patient counts by how many he has:

Let patients 1 … K + 1 be exchangeable, patient k with n_k scores, and Q_k the least q such that at least
``level``·(Σ_l n_l) of the scores of all *others* are at most q, where the sum is over all K + 1: all of patient k's own
are counted as if they were beyond q. Let Q be the same with his own counted as they are; then Q ≤ Q_k, and of all
Σ n_l scores at least ``level``·Σ n_l are at most Q, by what Q is. Summed over k, and because patients are exchangeable,

    E[number of scores of patient K + 1 that are at most Q_{K+1}]  ≥  level · E[n_{K+1}].

So over many new patients, each with a calibration set of its own, at least the share ``level`` of outlines is covered;
with the one set that there is it is more or less, by about ± .04 with 862 outlines. And patients must be exchangeable:
where the model's weights or a temperature were chosen on the same cases, they fit these better than new ones, and the
share may be lower. The rule is the pooled counterpart of the interval for hierarchical data of Lee, Barber & Willett
(2023, HCP), which gives each patient the same weight, and of Dunn, Wasserman & Ramdas (2022). How many outlines the new
patient has is not known when the quantile is taken; what stands for it is the mean that an outline sees, n̄ = Σ n²/Σ n.

So ``level``·(Σ n + c) scores must lie below. Whatever the dependence, it is sure with c = n_{K+1}, the new patient's
own number; n̄ is that number where all patients have equally many, and stands for it elsewhere without a guarantee.
With c = 1 it is sure where outlines are independent, which is the rule of Romano et al. Here c is in between by how
dependent the misses of a patient are: the variance of their number, patient by patient, over what it would be were they
independent (the design effect; Kish 1965, section 5.4). That is 1 for one outline a patient, about 1 for independent
ones and n̄ for equal ones. So where all n_k are equal the rule is exact at both ends, of independent and of equal
scores, and estimated between them; where they differ it is an estimate throughout. The whole of it is small, c/Σ n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_ROUNDED = 9  # decimals of a count, so that 0.8 · 5 is 4


def conformal_quantile(scores: Sequence[np.ndarray], level: float) -> float:
    """The least q that covers outlines of new patients in the share ``level``; inf: there are too few for that.

    Args:
        scores: of each patient, float ``(n_k,)``; a patient without any may be among them.
        level: in (0, 1).

    Returns:
        The r-th smallest of all scores, r = ⌈level · (Σ n + c)⌉, c of ``design_effect``; inf where r is beyond them.

    Raises:
        ValueError: a level that does not lie in (0, 1), or scores that are nan.
    """
    if not 0 < level < 1:
        raise ValueError(f"A level lies between 0 and 1, got {level}; give .95 for 95 %.")
    pooled = np.sort(np.concatenate([*(np.asarray(own, float) for own in scores), np.zeros(0)]))
    if np.isnan(pooled).any():
        raise ValueError("Scores must be numbers, got nan; leave out outlines that have no score.")
    if not len(pooled):
        return math.inf
    above = pooled[math.ceil(round(level * len(pooled), _ROUNDED)) - 1]
    rank = math.ceil(round(level * (len(pooled) + design_effect([own > above for own in scores])), _ROUNDED))
    return float(pooled[rank - 1]) if rank <= len(pooled) else math.inf


def design_effect(misses: Sequence[np.ndarray]) -> float:
    """Variance of a share over clusters, over that of as many independent draws; in [1, Σ n²/Σ n].

    Σ_k (Σ_j (z_kj − z̄))² / Σ_kj (z_kj − z̄)², z̄ the mean of all. Nothing varies: Σ n²/Σ n, the most there can be.

    Args:
        misses: z of each cluster, bool ``(n_k,)``; one or more in all.
    """
    sizes = np.array([len(own) for own in misses], float)
    most = float(np.square(sizes).sum() / sizes.sum())
    mean = sum(np.count_nonzero(own) for own in misses) / sizes.sum()
    independent = sizes.sum() * mean * (1 - mean)
    if independent == 0:
        return most
    clustered = sum((np.count_nonzero(own) - mean * len(own)) ** 2 for own in misses)
    return float(np.clip(clustered / independent, 1.0, most))
