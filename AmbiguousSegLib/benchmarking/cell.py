"""One cell of a benchmark: a system is trained with one seed, draws masks of the test cases, and is judged."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from AmbiguousSegLib import __version__
from AmbiguousSegLib.benchmarking.budget import Allowance, Clock, allowance
from AmbiguousSegLib.benchmarking.file import TRUTH, Budget, TestSet
from AmbiguousSegLib.benchmarking.held_out import HeldOut, held_out
from AmbiguousSegLib.data.evaluation_cases import EvaluationCase
from AmbiguousSegLib.devices import choose_device
from AmbiguousSegLib.evaluation.benchmark_result import CaseFigures, CellResult, Cost
from AmbiguousSegLib.evaluation.comparison import evaluate_case
from AmbiguousSegLib.evaluation.mode_frequencies import mode_frequencies
from AmbiguousSegLib.files import replacing
from AmbiguousSegLib.inference.case_sampling import sample_cases, true_masks
from AmbiguousSegLib.metrics.mask_sets import MaskSets
from AmbiguousSegLib.model import Model, load_model
from AmbiguousSegLib.training.config import TrainingConfig
from AmbiguousSegLib.training.dataset import open_data
from AmbiguousSegLib.training.trainer import Trainer

RESULT_FILE, PICTURES_FILE, RUN_FOLDER = "figures.json", "pictures.npz", "run"
PICTURE_CASES, PICTURE_SAMPLES = 2, 8  # on the sheet of all systems
CPU_ROWS, GPU_ROWS = 64, 256  # masks drawn together


class StoppedError(Exception):
    """A signal ended the training early; its state is saved."""


@dataclass(frozen=True)
class Cell:
    """All that a process needs to know to make a cell.

    Attributes:
        system, config, seed: what is trained; of the true distribution nothing is.
        budget, samples, test: as the benchmark file has them.
        data: folder or list; None for the phantom.
        folder: of this cell.
        device: as ``choose_device`` takes it.
    """

    system: str
    config: TrainingConfig
    seed: int
    budget: Budget
    samples: tuple[int, ...]
    test: TestSet
    data: Path | None
    folder: Path
    device: str

    @property
    def done(self) -> bool:
        """Whether its figures are there."""
        return (self.folder / RESULT_FILE).is_file()

    def result(self) -> CellResult:
        """Its figures. ValueError: a file that is damaged, or of another cell; OSError: none that can be read."""
        path = self.folder / RESULT_FILE
        found = CellResult.read(path)
        samples = {str(count) for count in self.samples}
        complete = bool(found.cases) and all(samples <= set(case.figures) for case in found.cases)
        if (found.system, found.seed) != (self.system, self.seed) or not complete:
            raise ValueError(
                f"{path} holds {found.system} seed {found.seed} and {len(found.cases)} case(s), expected {self} and "
                f"figures of {', '.join(sorted(samples, key=int))} samples; remove it, and it is made again."
            )
        return found

    def __str__(self) -> str:
        return f"{self.system} seed {self.seed}"


def make(cell: Cell, clock: Clock = time.process_time) -> None:
    """Train where it was left off, sample, judge, and write the figures last.

    Args:
        clock: CPU seconds of this process, for a budget in them.

    Raises:
        StoppedError: a signal asked for it.
        ValueError, OSError, RuntimeError, FloatingPointError: as training and sampling do.
    """
    device = choose_device(cell.device)
    cost, model = Cost(), None
    if cell.system != TRUTH:
        cost = _train(cell, device, clock)
        model = load_model(cell.folder / RUN_FOLDER / "model", device)
    test = held_out(cell.config, cell.test, cell.data)
    wall, cpu = time.monotonic(), time.process_time()
    rows = GPU_ROWS if device.type == "cuda" else CPU_ROWS
    drawn = _draw(cell, model, test, rows)
    masks = sum(map(len, drawn))
    cost = replace(
        cost,
        seconds_per_mask=(time.monotonic() - wall) / masks,
        cpu_seconds_per_mask=(time.process_time() - cpu) / masks,
        masks=masks,
        batch_size=rows,
    )
    result = CellResult(
        cell.system,
        cell.seed,
        TRUTH if model is None else cell.config.method,
        _sampler(model),
        cost,
        _judged(cell, test, drawn),
        str(device) if device.type == "cpu" else torch.cuda.get_device_name(device) if device.type == "cuda" else "mps",
        f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        commit(),
        f"AmbiguousSegLib {__version__}",
    )
    _keep_pictures(cell.folder / PICTURES_FILE, test.cases, drawn)
    result.write(cell.folder / RESULT_FILE)


def commit() -> str:
    """The commit of the checkout that this library runs from, "-dirty" where files differ; empty: it is none."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return ""
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def _train(cell: Cell, device: torch.device, clock: Clock) -> Cost:
    config = replace(cell.config, seed=cell.seed)
    data = open_data(config, cell.data)
    allowed = allowance(cell.folder, cell.budget, data, device, clock)
    config = replace(data.config, optimisation=replace(config.optimisation, images=allowed.images))
    trainer = Trainer(replace(data, config=config), cell.folder / RUN_FOLDER, device, resume=True)
    if not trainer.run():
        raise StoppedError(f"{cell}: stopped at {trainer.progress.images} images.")
    return _cost(trainer, allowed, cell.folder / RUN_FOLDER / "log.jsonl")


def _cost(trainer: Trainer, allowed: Allowance, log: Path) -> Cost:
    wall, cpu = spent(log)
    return Cost(
        parameters=sum(parameter.numel() for parameter in trainer.method.parameters()),
        images=trainer.progress.images,
        best_images=trainer.progress.best_images,
        images_per_cpu_second=allowed.images_per_cpu_second,
        training_seconds=wall,
        training_cpu_seconds=cpu,
    )


def spent(log: Path) -> tuple[float, float]:
    """Seconds and CPU seconds of all attempts at a training together, by its log: each attempt counts from 0."""
    before, total = (0.0, 0.0), (0.0, 0.0)
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # half a line, of an attempt that was killed
            continue
        if not isinstance(entry, dict) or "cpu_seconds" not in entry:
            continue
        now = entry["seconds"], entry["cpu_seconds"]
        start = before if now[0] >= before[0] else (0.0, 0.0)
        total, before = (total[0] + now[0] - start[0], total[1] + now[1] - start[1]), now
    return total


def _draw(cell: Cell, model: Model | None, test: HeldOut, rows: int) -> list[np.ndarray]:
    """Label maps ``(N, H, W)`` of each case: the most that are judged, and more where modes are counted."""
    counts = [max(cell.samples)] * len(test.cases)
    for place, phantom in enumerate(test.phantoms):
        if len(phantom.distinct_modes()[1]) >= 2:
            counts[place] = max(counts[place], cell.test.mode_samples)
    if model is None:
        drawn = zip(test.phantoms, test.cases, counts)
        return [true_masks(phantom, case.identity, count, cell.seed) for phantom, case, count in drawn]
    masks: list[np.ndarray] = [np.empty(0)] * len(counts)
    for count in sorted(set(counts)):
        places = [place for place, wanted in enumerate(counts) if wanted == count]
        cases = [(test.cases[place].identity, test.cases[place].image) for place in places]
        found = sample_cases(model.method, cases, count, cell.seed, model.sampling, rows)
        for place, own in zip(places, found, strict=True):
            masks[place] = own
    return masks


def _judged(cell: Cell, test: HeldOut, drawn: Sequence[np.ndarray]) -> tuple[CaseFigures, ...]:
    spacing, classes = None if test.spacing_mm is None else (test.spacing_mm,) * 2, len(cell.config.labels)
    judged = []
    for place, (case, masks) in enumerate(zip(test.cases, drawn, strict=True)):
        figures: dict[str, dict[str, float | None]] = {}
        for count in cell.samples:
            sets = MaskSets(masks[:count], case.masks, classes, spacing_mm=spacing)
            figures[str(count)] = dict(evaluate_case(case.identity, sets).figures)
        frequencies = probabilities = None
        if test.phantoms:
            modes, known = test.phantoms[place].distinct_modes()
            if len(known) >= 2:
                found = mode_frequencies(masks[: cell.test.mode_samples], modes, classes)
                frequencies, probabilities = tuple(found.tolist()), tuple(known.tolist())
        all_marked = bool(case.masks.reshape(len(case.masks), -1).any(axis=1).all())
        subject = case.subject or case.identity
        judged.append(
            CaseFigures(case.identity, subject, len(case.masks), all_marked, figures, frequencies, probabilities)
        )
    return tuple(judged)


def _sampler(model: Model | None) -> str:
    if model is None:
        return "independent draws"
    method = model.method
    return model.sampling.in_words(method.sampler_family) if method.samples_by_steps else "one pass"


def _keep_pictures(path: Path, cases: Sequence[EvaluationCase], drawn: Sequence[np.ndarray]) -> None:
    """Image, raters and samples of the first cases."""
    arrays: dict[str, np.ndarray] = {}
    for place, (case, masks) in enumerate(zip(cases[:PICTURE_CASES], drawn)):
        arrays |= {
            f"image{place}": case.image,
            f"raters{place}": case.masks,
            f"samples{place}": masks[:PICTURE_SAMPLES],
        }
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
