"""Arguments of how sampling is computed, of ``sample`` and ``batch.py``; they are read without torch."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from AmbiguousSegLib.inference.choices import PRECISIONS, RANDOM_SOURCES

if TYPE_CHECKING:
    import torch

    from AmbiguousSegLib.inference.computation import Computation
    from AmbiguousSegLib.methods import Method


def add_computation_arguments(p: argparse.ArgumentParser) -> None:
    """``--precision``, ``--cuda-graph`` and ``--random-source``, which ``computation_of`` reads."""
    precision_help = "of the network; bfloat16 is for CUDA GPUs (default: float32)"
    p.add_argument("--precision", choices=PRECISIONS, help=precision_help)
    p.add_argument("--cuda-graph", action="store_true", help="record the network once and replay it, on CUDA GPUs")
    p.add_argument(
        "--random-source",
        choices=RANDOM_SOURCES,
        help="addressed: the same masks on every device; device: by the generator of the device, which gives other "
        "masks for the same seed (default: addressed)",
    )


def computation_of(options: argparse.Namespace, method: Method, device: torch.device) -> Computation:
    """What the arguments ask for; ValueError for what there is not, or this method or device cannot do."""
    from AmbiguousSegLib.inference.computation import Computation

    given = {"precision": options.precision, "random_source": options.random_source}
    computation = Computation(cuda_graph=options.cuda_graph, **{k: v for k, v in given.items() if v is not None})
    computation.check(method, device)
    return computation
