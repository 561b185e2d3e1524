"""What a study samples: a job for each volume, from files, folders and tables, under a name that a folder can have."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
TABLES = (".csv", ".json")
LEFT_OUT, LONGEST_NAME = "left out", 200  # bytes, of a name of a folder
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Job:
    """One volume to sample: its channels in the model's order, and what its row of a table says about it.

    Attributes:
        name: of the case, and of its folder of results.
        region: lowest and highest corner in LPS mm; None: the whole volume.
        point_mm: in LPS.
        raters: name and file of each rater; of a file without a name, the names that stand in it count.
        model: folder; None: that of the study.
        subject: whom the volume shows; empty: its name.
        problem: why it cannot be read; empty if nothing is known.
        note: doubt that it is a scan.
    """

    name: str
    channels: tuple[Path, ...]
    slices: tuple[int, int] | None = None
    seed: int | None = None
    series: str | None = None
    point_mm: tuple[float, float, float] | None = None
    window_mm: float | None = None
    problem: str = ""
    note: str = ""
    region: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    raters: tuple[tuple[str, Path], ...] = ()
    model: Path | None = None
    subject: str = ""


@dataclass(frozen=True)
class Row:
    """What became of one volume: done, skipped, failed or left out; warnings say how it differs from training."""

    name: str
    status: str
    seconds: float
    message: str = ""
    detail: str = ""
    warnings: str = ""


def name_problem(name: str) -> str:
    """Why a folder of results cannot bear this name on every system, in words; empty if it can."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "is not UTF-8"
    if not name or Path(name).name != name or PureWindowsPath(name).name != name or name == "..":
        return "is empty or a path"
    if any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in name):
        return "holds line breaks or control characters"
    if name.startswith(".") or name[-1] in ". ":
        return "begins with a dot, or ends with one or with a space"
    if _DEVICES.fullmatch(name):
        return "is that of a device on Windows"
    return f"is longer than {LONGEST_NAME} bytes" if length > LONGEST_NAME else ""


def volume_name(path: Path) -> str:
    """File name without its volume suffix; the whole name if it has none."""
    suffix = next((s for s in VOLUME_SUFFIXES if path.name.lower().endswith(s)), "")
    return path.name[: len(path.name) - len(suffix)]


def find_jobs(inputs: Sequence[Path], out: Path, series: str | None = None) -> tuple[list[Job], list[Row]]:
    """Jobs of all inputs, in order, and rows of what is left out.

    Raises:
        FileNotFoundError: if an input does not exist.
        ValueError: if a table cannot be read, two volumes have one name, or there is no volume at all; a series is
            asked for of several inputs.
    """
    from AmbiguousSegLib.studies.job_tables import read_table

    jobs: list[Job] = []
    left_out: list[Row] = []
    for path in inputs:
        try:
            there = path.exists()
        except (OSError, ValueError):  # a name that is too long, or holds a character of number 0
            there = False
        if not there:
            raise FileNotFoundError(f"No such file or folder: {path}. Check the path.")
        table = path.suffix.lower() in TABLES and path.is_file()
        if series is not None:
            if len(inputs) > 1 or table:
                raise ValueError("--series chooses in one folder or file; of a table name it in the column 'series'.")
            jobs.append(Job(volume_name(path.resolve()), (path,), series=series))
        elif table:
            jobs += read_table(path)
        elif path.is_dir():
            found, rows = jobs_in(path, out)
            jobs += found
            left_out += rows
        else:
            jobs.append(Job(volume_name(path.resolve()), (path,)))
    if not jobs:
        told = "; ".join(f"{row.name} is {row.message}" for row in left_out[:3])
        raise ValueError(
            f"No volume found{f' (left out: {told})' if told else ''}. Give volumes, folders of volumes, or a table "
            "(.csv, .json) with rows."
        )
    jobs = [_named(job) for job in jobs]
    check_names(jobs)
    return jobs, left_out


def _named(job: Job) -> Job:
    """The job, or why its name, which a file or folder gave, cannot be that of a folder of results."""
    problem = name_problem(job.name)
    if not problem or job.problem:
        return job
    return replace(job, problem=f"The name {job.name!r} {problem}; rename the file, or name it in a table.")


def check_names(jobs: Sequence[Job]) -> None:
    """ValueError where two jobs have one name, on systems that do not know lower from upper case either."""
    seen: dict[str, Job] = {}
    for job in jobs:
        other = seen.setdefault(job.name.lower(), job)
        if other is not job:
            both = f"{other.channels[0]} and {job.channels[0]}"
            raise ValueError(f"Two volumes are named {job.name!r}: {both}. Name them in the column 'name' of a table.")


def jobs_in(folder: Path, out: Path) -> tuple[list[Job], list[Row]]:
    """Jobs of a folder, and rows of what is left out; a folder without either is a job of its own, which says why."""
    from AmbiguousSegLib.layouts.study_tree import find_volumes

    study = find_volumes(folder, [out])
    jobs = [Job(v.name, (v.path,), series=v.series, problem=v.problem, note=v.note) for v in study.volumes]
    if not jobs and not study.left_out:
        jobs = [Job(volume_name(folder.resolve()), (folder,))]
    return jobs, [Row(name, LEFT_OUT, 0.0, reason) for name, reason in study.left_out]


def with_models(jobs: Sequence[Job], models: Sequence[Path]) -> list[Job]:
    """Jobs with their models: the row's own, or each of those of the study, one model after the other.

    With several a case is named after its model, too: "p1_lung-nodule".

    Raises:
        ValueError: two models, or two cases, have one name.
    """
    if len(models) == 1:
        return [job if job.model is not None else replace(job, model=models[0]) for job in jobs]
    names = [model.resolve().name for model in models]
    if len({name.lower() for name in names}) < len(names):
        raise ValueError(f"Two models are named {max(names, key=names.count)}; rename the folder of one.")
    own = [job for job in jobs if job.model is not None]
    free = [job for job in jobs if job.model is None]
    every = [replace(j, name=f"{j.name}_{n}", subject=j.subject or j.name) for n in names for j in free]
    placed = [replace(job, model=model) for job, model in zip(every, [m for m in models for _ in free])]
    found = [_named(job) for job in (*placed, *own)]
    check_names(found)
    return found


def shard_of(text: str) -> tuple[int, int]:
    """Number and count of a share of a study, "2/8" being the second of eight.

    Raises:
        ValueError: anything else, or a number that is not 1 to the count.
    """
    first, slash, last = text.partition("/")
    if not (slash and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise ValueError(f"--shard takes a number and a count, such as 2/8 for the second of eight, got {text!r}.")
    return int(first), int(last)
