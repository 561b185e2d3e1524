"""What a benchmark file says: systems, budget, test set, seeds; and whether a folder was begun with the same."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from AmbiguousSegLib.benchmarking.checks import check_same_data, check_sampler
from AmbiguousSegLib.configuration import check_field, from_dict, to_dict
from AmbiguousSegLib.data.config import PHANTOM
from AmbiguousSegLib.files import replacing
from AmbiguousSegLib.resources import find_benchmark
from AmbiguousSegLib.text_files import read_json, read_yaml
from AmbiguousSegLib.training.config import TrainingConfig, completed, of_today
from AmbiguousSegLib.training.config_file import checked, laid_over, read_config

TRUTH = "true-distribution"
BEGUN_FILE = "benchmark.json"
PARTS = ("test", "validation")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._+-]{0,98}[A-Za-z0-9_+-])?")
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # no folder on Windows can be called so

Layer = str | dict[str, Any]
"""A preset or file of a training configuration, or one written out."""


@dataclass(frozen=True)
class Budget:
    """What each training may take, one of the two.

    Attributes:
        images: that it sees.
        cpu_seconds: of the training process, for its updates and the data they need, not for validation.
    """

    images: int | None = None
    cpu_seconds: float | None = None

    def __post_init__(self) -> None:
        if (self.images is None) == (self.cpu_seconds is None):
            raise ValueError(f"budget must have either images or cpu_seconds, got {to_dict(self)}; give one.")
        check_field(self, self.images is None or self.images >= 1, "images", "at least 1")
        finite = self.cpu_seconds is None or 0 < self.cpu_seconds < math.inf
        check_field(self, finite, "cpu_seconds", "positive and finite")

    def in_words(self) -> str:
        """Such as "100000 images"."""
        return f"{self.images} images" if self.cpu_seconds is None else f"{self.cpu_seconds:g} CPU seconds"


@dataclass(frozen=True)
class TestSet:
    """What all are judged on.

    Attributes:
        part: of the split, or of the phantom.
        cases: the first so many; None: all, of the phantom 64.
        raters: of a phantom case.
        mode_samples: masks of a phantom case from which the frequencies of its modes are taken.
    """

    __test__ = False  # nothing for pytest to collect

    part: str = "test"
    cases: int | None = None
    raters: int = 16
    mode_samples: int = 64

    def __post_init__(self) -> None:
        check_field(self, self.part in PARTS, "part", f"one of {', '.join(PARTS)}")
        check_field(self, self.cases is None or self.cases >= 1, "cases", "at least 1, or null")
        check_field(self, self.raters >= 1, "raters", "at least 1")
        check_field(self, self.mode_samples >= 1, "mode_samples", "at least 1")


@dataclass(frozen=True)
class Listed:
    """A system as the file lists it: its layers over the base, its own seeds and sampler where it has such."""

    config: Layer | tuple[Layer, ...]
    seeds: tuple[int, ...] | None = None
    sampling: dict[str, Any] | None = None


@dataclass(frozen=True)
class BenchmarkFile:
    """The keys of a benchmark file; see docs/benchmark.md."""

    title: str
    budget: Budget
    base: Layer | tuple[Layer, ...]
    systems: dict[str, Listed]
    seeds: tuple[int, ...] = (0, 1, 2)
    samples: tuple[int, ...] = (4, 16)
    test: TestSet = field(default_factory=TestSet)
    reference: str | None = None
    true_distribution: bool = False
    marked_by_all: bool = True

    def __post_init__(self) -> None:
        check_field(self, bool(self.seeds) and _differ(self.seeds), "seeds", "different numbers, 0 or more")
        counted = bool(self.samples) and min(self.samples) >= 1 and list(self.samples) == sorted(set(self.samples))
        check_field(self, counted, "samples", "whole numbers from 1 up, each larger than the one before")
        for name, listed in self.systems.items():
            if not _NAME.fullmatch(name) or _DEVICE.fullmatch(name) or name.lower() == TRUTH:
                raise ValueError(
                    f"systems.{name[:100]}: a name is letters, digits, '.', '_', '+' and '-', at most 100 and the last "
                    f"no '.', and neither {TRUTH} nor a device of Windows such as CON; rename it."
                )
            if listed.seeds is not None and not (listed.seeds and _differ(listed.seeds)):
                raise ValueError(f"systems.{name}.seeds must be different numbers, 0 or more, got {listed.seeds}.")
        if not self.systems:
            raise ValueError("systems lists no system; list one or more.")
        alike: dict[str, str] = {}
        for name in self.systems:  # where case does not count, they would share a folder
            if (other := alike.setdefault(name.lower(), name)) != name:
                raise ValueError(f"systems {other} and {name} differ only in upper and lower case; rename one.")
        if self.reference is not None and self.reference not in self.systems:
            raise ValueError(
                f"reference {self.reference!r} is none of the systems {', '.join(self.systems)}; name one."
            )


@dataclass(frozen=True)
class System:
    """A system to train: its configuration without seed and images, which are those of its cells, and its seeds.

    The true distribution has the configuration of the base, of which only the data is used.
    """

    name: str
    config: TrainingConfig
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark file with the systems that were asked for, their configurations complete."""

    file: BenchmarkFile
    systems: tuple[System, ...]

    def as_begun(self) -> dict[str, Any]:
        """What a folder's cells follow from, as plain JSON types."""
        shared = {"budget": to_dict(self.file.budget), "samples": list(self.file.samples)}
        systems = {system.name: to_dict(system.config) for system in self.systems}
        return {**shared, "test": to_dict(self.file.test), "systems": systems}


def read_benchmark(
    name: str | Path,
    systems: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    budget: Budget | None = None,
) -> Benchmark:
    """A benchmark file, or a bundled one by its name.

    Args:
        systems: only these; None: all.
        seeds: only these of each system's; None: all.
        budget: in place of the file's.

    Raises:
        OSError: no such file, or a preset that it names is not there.
        ValueError: unknown key, value of the wrong type, systems or seeds that it does not list, or a system that
            cannot be what its layers say; one line that names it.
    """
    content = read_yaml(find_benchmark(name))
    if not isinstance(content, dict):
        raise ValueError(f"{name}: a benchmark is a mapping of settings; see docs/benchmark.md.")
    try:
        file = from_dict(BenchmarkFile, content, "")
        if budget is not None:
            file = replace(file, budget=budget)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    known = [*file.systems, *([TRUTH] if file.true_distribution else [])]
    if unknown := [system for system in systems or () if system not in known]:
        raise ValueError(f"{name} lists no system {unknown[0]}; it has {', '.join(known)}.")
    listed_seeds = {*file.seeds, *(seed for listed in file.systems.values() for seed in listed.seeds or ())}
    if strange := [seed for seed in seeds or () if seed not in listed_seeds]:
        raise ValueError(f"{name} lists no seed {strange[0]}; it has {', '.join(map(str, sorted(listed_seeds)))}.")
    base = _layers(name, "base", file.base)
    found = []
    for system in known if systems is None else [one for one in known if one in systems]:
        listed = file.systems.get(system, Listed(config={}))
        own = file.seeds if listed.seeds is None else listed.seeds
        kept = tuple(seed for seed in own if seeds is None or seed in seeds)
        if kept:
            found.append(System(system, _config(name, system, base, listed), kept))
    if not found:
        raise ValueError(f"{name}: no system has one of the seeds {', '.join(map(str, seeds or ()))}; give others.")
    check_same_data(name, {system.name: system.config for system in found})
    if file.true_distribution and any(system.config.dataset.kind != PHANTOM for system in found):
        raise ValueError(f"{name}: the true distribution is known of the phantom alone; leave true_distribution out.")
    return Benchmark(file, tuple(found))


def begin(folder: Path, benchmark: Benchmark) -> None:
    """Note in ``folder`` what its cells follow from; systems may be added to those of an earlier time.

    Raises:
        ValueError: it was begun with something else; the first key that differs is named.
    """
    path, now = folder / BEGUN_FILE, benchmark.as_begun()
    if path.exists():
        before = read_json(path)
        if not isinstance(before, dict) or not isinstance(before.get("systems"), dict):
            raise ValueError(f"{path} is damaged; put it back, or take another --out.")
        try:
            shared = {name: of_today(before["systems"][name]) for name in now["systems"] if name in before["systems"]}
        except (ValueError, TypeError, AttributeError) as error:
            told = str(error).rstrip(".")
            raise ValueError(f"{path} holds settings that are unknown here: {told}; take another --out.") from error
        old = {**before, "systems": shared}
        new = {**now, "systems": {name: now["systems"][name] for name in shared}}
        if difference := _first_difference(json.loads(json.dumps(old)), json.loads(json.dumps(new))):
            key, was, is_now = difference
            raise ValueError(
                f"{folder} was begun with {key} = {was!r}, now it is {is_now!r}; keep it, or take another --out."
            )
        now["systems"] = {**before["systems"], **now["systems"]}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(now, indent=2) + "\n", encoding="utf-8")


def _layers(file: str | Path, place: str, given: Layer | Sequence[Layer]) -> list[dict[str, Any]]:
    layers = [given] if isinstance(given, (str, Mapping)) else list(given)
    try:
        return [read_config(layer) if isinstance(layer, str) else checked(layer, "its settings") for layer in layers]
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{file}, {place}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{file}, {place}: {error}") from error


def _config(file: str | Path, name: str, base: list[dict[str, Any]], listed: Listed) -> TrainingConfig:
    layers = [*base, *_layers(file, name, listed.config)]
    if listed.sampling is not None:
        layers += _layers(file, name, {"sampling": listed.sampling})
    try:
        config = completed(from_dict(TrainingConfig, laid_over(layers), ""))
        check_sampler(config, listed.sampling or {})
    except ValueError as error:
        raise ValueError(f"{file}, {name}: {error}") from error
    return replace(config, seed=0, card=replace(config.card, name=name))


def _first_difference(old: Any, new: Any, key: str = "") -> tuple[str, Any, Any] | None:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            found = _first_difference(old.get(name), new.get(name), f"{key}.{name}" if key else name)
            if found:
                return found
        return None
    return None if old == new else (key, old, new)


def _differ(seeds: Sequence[int]) -> bool:
    return len(set(seeds)) == len(seeds) and min(seeds) >= 0
