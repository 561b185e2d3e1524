"""What a Gaussian diffusion's network is to predict, and the mask that a prediction stands for, written out.

x_t = √ā · x_0 + √(1 − ā) · ε; "v" is √ā · ε − √(1 − ā) · x_0 (Salimans & Ho, ICLR 2022).
"""

from __future__ import annotations

from torch import Tensor


def target(prediction: str, x0: Tensor, noise: Tensor, abar: Tensor) -> Tensor:
    return {"epsilon": noise, "x0": x0, "v": abar.sqrt() * noise - (1 - abar).sqrt() * x0}[prediction]


def estimate(prediction: str, output: Tensor, x_t: Tensor, abar: Tensor) -> Tensor:
    return {
        "epsilon": (x_t - (1 - abar).sqrt() * output) / abar.sqrt(),
        "x0": output,
        "v": abar.sqrt() * x_t - (1 - abar).sqrt() * output,
    }[prediction]
