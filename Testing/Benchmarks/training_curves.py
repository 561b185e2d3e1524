"""Validation GED and sample spread of training runs over the share of their training.

    python Testing/Benchmarks/training_curves.py RUN [RUN …] --out curves.png

RUN is the ``--out`` folder of a training. Its name becomes the label.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def validations(run: Path) -> tuple[list[float], list[float], list[float]]:
    """Share of the training done, GED (u) and E d(S,S') (u) at each validation of a run."""
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    last = max(entry["images"] for entry in entries)
    found = [entry for entry in entries if "validation" in entry]
    return (
        [entry["images"] / last for entry in found],
        [entry["validation"]["ged_u"] for entry in found],
        [entry["validation"]["distance_samples_u"] for entry in found],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for run in options.runs:
        share, ged, spread = validations(run)
        left.plot(share, ged, "o-", label=run.name)
        right.plot(share, spread, "o-", label=run.name)
    left.set(xlabel="share of training", ylabel="validation GED (u)", xlim=(0, 1.05))
    right.set(xlabel="share of training", ylabel="E d(S,S') of samples", xlim=(0, 1.05))
    left.legend(frameon=False)
    figure.savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
