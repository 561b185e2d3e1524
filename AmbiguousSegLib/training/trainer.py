"""The training loop."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from AmbiguousSegLib.configuration import to_dict
from AmbiguousSegLib.data.evaluation_cases import EvaluationCase
from AmbiguousSegLib.diffusion.noise import TRAINING, RowNoise
from AmbiguousSegLib.files import replacing, size_text
from AmbiguousSegLib.methods import Batch, Method, build_method, count_weights
from AmbiguousSegLib.metrics.figures import average
from AmbiguousSegLib.model import Model, load_state, save_model
from AmbiguousSegLib.plotting.pictures import write_png
from AmbiguousSegLib.training.checkpoint import FILE, Progress, load_checkpoint, save_checkpoint
from AmbiguousSegLib.training.config import TrainingConfig, completed
from AmbiguousSegLib.training.dataset import TrainingData, batches
from AmbiguousSegLib.training.ema import averaged_model
from AmbiguousSegLib.training.learning_rate import learning_rate
from AmbiguousSegLib.training.signals import stop_signals
from AmbiguousSegLib.training.trained_model import plain, trained_model
from AmbiguousSegLib.training.validation import contact_sheet, score, try_out
from AmbiguousSegLib.volume.file_checks import memory_bytes

log = logging.getLogger(__name__)

OnProgress = Callable[[int, int, dict[str, float]], None]


class Trainer:
    """Trains a method and keeps, in ``folder``:

    ``model/`` (averaged weights at the best validation), ``checkpoint.safetensors`` (to go on from), ``log.jsonl``,
    ``config.json``, ``split.json`` and ``samples/<images>.png``.

    Without cases to validate on, the averaged weights of the end are kept.

    Args:
        data: of ``dataset.open_data``, with the configuration of the run.
        device: of this process.
        resume: go on from the checkpoint in ``folder``, if there is one.
        start: weights to begin with, of a model with the layers of the configuration; None: fresh ones.
        rank, processes: of this process among those that train together; the process group is up already.

    Raises:
        ValueError: a batch that the processes cannot share evenly, nothing left to train, settings of data and sampler
            that do not fit the method, or weights of other layers.
        FileExistsError: a run in ``folder`` that is not to be resumed.
    """

    def __init__(
        self,
        data: TrainingData,
        folder: Path,
        device: torch.device,
        resume: bool = False,
        start: Method | None = None,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        config = data.config
        size = config.optimisation.batch_size
        if size % processes:
            raise ValueError(f"optimisation.batch_size {size} cannot be shared by {processes} processes evenly.")
        if (folder / FILE).exists() and not resume:
            raise FileExistsError(f"{folder} holds a training run; resume it, or train into another folder.")
        self.config = config = completed(config)
        self.source, self.held_out, self.folder = data.source, data.held_out, folder
        self.device, self.rank, self.processes = device, rank, processes
        self.inputs, self.stopping = data.inputs, False
        self._began = (time.monotonic(), time.process_time())
        _check_memory(config, device)
        # Initial weights from the seed, whatever the state of the global generators.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.method = build_method(config.method, config.method_config)
        if start is not None:
            load_state(self.method, start.state_dict(), "the weights to start from")
        self.method.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = averaged_model(self.method, config.optimisation.ema_decay)
        self.optimizer = torch.optim.AdamW(
            [p for p in self.method.parameters() if p.requires_grad],
            lr=config.optimisation.learning_rate,
            weight_decay=config.optimisation.weight_decay,
            fused=True if device.type == "cuda" else None,  # on a CPU it is 0.2 % of a step, and rounds otherwise
        )
        self.progress = Progress()
        if (folder / FILE).exists():
            self.progress = load_checkpoint(folder / FILE, self.method, self.ema, self.optimizer, to_dict(config))
            log.info("Going on from %d images.", self.progress.images)
        if self.progress.images + size > config.optimisation.images and self.progress.best_images is None:
            raise ValueError(
                f"optimisation.images {config.optimisation.images} leaves no batch of {size} to train on after the "
                f"{self.progress.images} seen so far."
            )
        self._try_out()
        self.parallel = DistributedDataParallel(self.method) if processes > 1 else self.method
        self.autocast = _uses_bfloat16(config.optimisation.precision, device)
        if rank == 0:
            if not self.held_out:
                log.warning(
                    "No case is left to validate on: the averaged weights of the end are kept, not the best ones."
                )
            folder.mkdir(parents=True, exist_ok=True)
            _write_json(folder / "config.json", to_dict(config))
            if data.split is not None:
                _write_json(folder / "split.json", data.split.subjects())

    @property
    def averaged(self) -> Method:
        """The method with averaged weights, the ones that are kept."""
        return cast(Method, self.ema.module)

    def run(self, on_progress: OnProgress | None = None) -> bool:
        """Train to the end; True, or False if a signal (SIGTERM, Ctrl-C) ended it early, with its state saved."""
        settings = self.config.optimisation
        self._began, first = (time.monotonic(), time.process_time()), self.progress.images
        with stop_signals(self):
            for batch, positions in batches(self.source, self.config, first, self.rank, self.processes):
                seen = self.progress.images
                losses = self._step(batch, positions)
                self.progress = replace(self.progress, images=seen + settings.batch_size)
                if on_progress is not None:
                    on_progress(self.progress.images, settings.images, losses)
                self._log({"images": self.progress.images, **self._spent(), **losses})
                stop = self._anyone_stopping()
                last = self.progress.images + settings.batch_size > settings.images
                if self._crossed(seen, self.config.validation.every_images) or last:
                    self._validate()
                    self._log({"images": self.progress.images, **self._spent()})
                if self._crossed(seen, self.config.checkpoint_every_images) or last or stop:
                    self._save()
                if stop and not last:
                    return False
        return True

    def _step(self, batch: Batch, positions: list[int]) -> dict[str, float]:
        """One update; the mean of each part of the loss over this process' rows."""
        settings = self.config.optimisation
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self.progress.images)
        self.method.train()
        self.optimizer.zero_grad(set_to_none=True)
        rows, micro = len(positions), settings.microbatch or len(positions)
        totals: dict[str, Tensor] = {}
        for begin in range(0, rows, micro):
            part = slice(begin, begin + micro)
            share = len(positions[part]) / rows
            noise = RowNoise(self.config.seed, [(p, 0) for p in positions[part]], TRAINING, self.device)
            exchange: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
            if isinstance(self.parallel, DistributedDataParallel) and begin + micro < rows:
                exchange = self.parallel.no_sync()  # of gradients: once, after the last
            with exchange, self._dropout_seed(positions[begin]):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                    losses = self.parallel(batch.part(part, self.device), noise)
                (share * losses["loss"]).backward()
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + share * value.detach()
        norm = float(torch.nn.utils.clip_grad_norm_(self.method.parameters(), settings.gradient_clip or math.inf))
        values = {name: float(value) for name, value in totals.items()}
        # Before the update: a loss may be finite where its gradient is not, and such weights must not be saved.
        if not (math.isfinite(values["loss"]) and math.isfinite(norm)):
            raise FloatingPointError(
                f"At {self.progress.images} images the loss became {values['loss']} and the norm of its gradient "
                f"{norm}; lower the learning rate, or train in float32. The last checkpoint is intact."
            )
        self.optimizer.step()
        self.ema.update_parameters(self.method)
        return values

    @contextlib.contextmanager
    def _dropout_seed(self, position: int) -> Iterator[None]:
        """Dropout alone draws from the global generators: seeded by position, and put back afterwards."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed((self.config.seed * 1_000_003 + position) % 2**63)
            yield

    def _try_out(self) -> None:
        """One sampling step and the model's description, now: what does not fit is to fail before hours of training."""
        try:
            self._model({}, 0)
        except ValueError as error:
            raise ValueError(f"dataset does not fit the method: {error}") from error
        size = self.config.dataset.size
        zeros = EvaluationCase(
            "zeros", np.zeros((self.method.image_channels, *size), np.float32), np.zeros((1, *size), np.uint8)
        )
        try_out(self.averaged, self.held_out[0] if self.held_out else zeros, self.config.sampling)

    def _validate(self) -> None:
        settings = self.config.validation
        if not self.held_out:
            self.progress = replace(self.progress, best_images=self.progress.images)
            if self.rank == 0:
                save_model(self._model({}, 0), self.folder / "model", self.config.card.half_weights)
            return
        mine = self.held_out[self.rank :: self.processes]
        scored = score(
            self.averaged,
            mine,
            settings.samples,
            self.config.seed,
            self.config.sampling,
            batch_size=max(settings.samples, self.config.optimisation.microbatch or settings.samples),
        )
        everyone = self._gathered([case.figures for case in scored])
        figures = average(everyone).mean
        ged = figures[f"ged_{settings.estimator}"]
        if self.rank == 0:
            self._log({"images": self.progress.images, "validation": plain(figures), "cases": len(everyone)})
            log.info(
                "%d images: GED %.3f, E d(S,S') %.3f, CI %.3f",
                self.progress.images,
                ged,
                figures[f"distance_samples_{settings.estimator}"],
                figures["ci_harmonic"],
            )
            picture = contact_sheet(scored, self.config.labels)
            write_png(self.folder / "samples" / f"{self.progress.images:09d}.png", picture)
        if self.progress.best_ged is None or ged < self.progress.best_ged:
            self.progress = replace(self.progress, best_images=self.progress.images, best_ged=ged)
            if self.rank == 0:
                save_model(self._model(figures, len(everyone)), self.folder / "model", self.config.card.half_weights)

    def _model(self, figures: dict[str, float], cases: int) -> Model:
        return trained_model(self.averaged, self.config, self.progress.images, figures, cases, self.inputs)

    def _save(self) -> None:
        if self.rank == 0:
            path = self.folder / FILE
            save_checkpoint(path, self.method, self.ema, self.optimizer, self.progress, to_dict(self.config))

    def _crossed(self, before: int, every: int) -> bool:
        return self.progress.images // every > before // every

    def _anyone_stopping(self) -> bool:
        if self.processes == 1:
            return self.stopping
        flag = torch.tensor(float(self.stopping), device=self.device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag)

    def _gathered(self, values: list) -> list:
        if self.processes == 1:
            return values
        parts: list[Any] = [None] * self.processes
        dist.all_gather_object(parts, values)
        return [value for part in parts for value in part]

    def _spent(self) -> dict[str, float]:
        """Seconds, and CPU seconds of this process, since it began to train."""
        return {"seconds": time.monotonic() - self._began[0], "cpu_seconds": time.process_time() - self._began[1]}

    def _log(self, entry: dict[str, Any]) -> None:
        if self.rank == 0:
            with open(self.folder / "log.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")


def _check_memory(config: TrainingConfig, device: torch.device) -> None:
    """ValueError for a network that this process cannot hold: with average, gradients and Adam's two, on a CPU."""
    weights = count_weights(config.method, config.method_config)
    needed = weights * 4 * (5 if device.type == "cpu" else 1)
    if needed > memory_bytes():
        raise ValueError(
            f"method_config describes a network of {weights:,} weights, to train which takes {size_text(needed)}; this "
            f"process has {size_text(memory_bytes())}. Make it smaller."
        )


def _uses_bfloat16(precision: str, device: torch.device) -> bool:
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bfloat16"


def _write_json(path: Path, content: Any) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
