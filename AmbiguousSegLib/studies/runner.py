"""The loop of a study: what is not done is sampled, one volume after another; the report is current after each."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import logging
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from AmbiguousSegLib.ensemble.refinement import DenseCRFConfig
from AmbiguousSegLib.files import said, shown
from AmbiguousSegLib.layouts.study_tree import segmentation_reason
from AmbiguousSegLib.outputs.result_folder import earlier_files
from AmbiguousSegLib.processes import PeerError, Processes
from AmbiguousSegLib.studies.case import CASE
from AmbiguousSegLib.studies.jobs import Job, Row
from AmbiguousSegLib.studies.locks import HeldError, held, lock_of
from AmbiguousSegLib.studies.places import whole_case, write_whole
from AmbiguousSegLib.studies.progress import Progress
from AmbiguousSegLib.studies.requests import REQUEST, RESULT, is_done, read_object, request_of

log = logging.getLogger(__name__)

Sample = Callable[[Job, Path], None]  # writes a job's results into a folder, samples.json among them
_FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}
_WAIT_S = 0.5


class StudyError(RuntimeError):
    """Nothing more can be written: no case of the study can be done."""


class StoppedError(BaseException):
    """SIGTERM: the study is to end now, and whoever catches ``Exception`` is not meant."""


@contextlib.contextmanager
def stopped_by_signal() -> Iterator[None]:
    """SIGTERM raises ``StoppedError`` until the block ends; elsewhere than in the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise StoppedError

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True)
class Study:
    """What a study's cases are done with.

    Attributes:
        options: the settings, as ``request_of`` reads them, with ``out`` and ``overwrite``.
        sample: writes the results of a job.
        tell: takes lines for people.
        report: is given the rows after each case, and whether they are the last, and writes them.
        judge: brings the figures of a case that was done before up to its raters.
        progress: of this process.
        refine: part of the requests.
        extra: files that belong to a complete result, beside request and result.
    """

    options: argparse.Namespace
    sample: Sample
    tell: Callable[[str], None]
    report: Callable[[Sequence[Row], bool], None]
    progress: Progress
    judge: Callable[[Job, Path], None]
    refine: DenseCRFConfig | None = None
    extra: tuple[str, ...] = ()


def run_jobs(
    jobs: Sequence[Job], study: Study, left_out: Sequence[Row] = (), processes: Processes | None = None
) -> list[Row]:
    """Sample each job that is not done; a failure is reported and the next job follows. The report is kept current.

    A case that another study is doing is left for the end; then what that has done is skipped.

    Several processes take a job each whenever they are free. The first one has the rows of all when all are through;
    until then its report is that of what it did itself.

    Raises:
        StudyError: the study's folder has vanished, or there is no space in it. PeerError: another process has ended.
        KeyboardInterrupt, StoppedError: after the report of what is done was written.
    """
    first, done = processes is None or processes.first, dict[int, Row]()
    for row in left_out if first else ():
        study.tell(f"{row.name}: left out, as it is {row.message}")

    def rows() -> list[Row]:
        return [*left_out, *(done[number] for number in sorted(done))]

    def report(last: bool) -> None:
        if first:
            with _stopping(study.options.out):
                study.report(rows(), last)

    numbers = range(len(jobs)) if processes is None else processes.take(len(jobs))
    try:
        for number, row in _rows(numbers, jobs, study):
            done[number] = row
            study.tell(f"[{number + 1}/{len(jobs)}] {row.name}: {row.status} ({row.seconds:.1f} s) {row.message}")
            report(last=False)
    except (KeyboardInterrupt, StoppedError):
        report(last=True)
        raise
    if processes is not None:
        done = dict(pair for part in processes.gathered(list(done.items())) for pair in part)
    report(last=True)
    return rows()


def _rows(numbers: Iterable[int], jobs: Sequence[Job], study: Study) -> Iterator[tuple[int, Row]]:
    """Number and row of each job, those last that other processes hold."""
    waiting: list[int] = []
    for number in numbers:
        row = _row_of(jobs[number], study)
        if row is None:
            waiting.append(number)
        else:
            yield number, row
    told = set[str]()
    while waiting:
        for number in list(waiting):
            row = _row_of(jobs[number], study, told)
            if row is not None:
                waiting.remove(number)
                yield number, row
        if waiting:
            time.sleep(_WAIT_S)


def _row_of(job: Job, study: Study, told: set[str] | None = None) -> Row | None:
    """What became of a job; None if another process is doing it, which is told once if ``told`` is given."""
    start = time.perf_counter()
    study.progress.begin(job.name)

    def row(status: str, *texts: str) -> Row:
        study.progress.end(sampled=status == "done")
        return Row(job.name, status, round(time.perf_counter() - start, 2), *texts)

    out = study.options.out
    try:
        status = _run_job(job, study)
        if status == "skipped":
            study.judge(job, out)
        warnings = " ".join(filter(None, [job.note, _warnings_in(out / job.name)]))
        return replace(row(status), warnings=warnings)
    except HeldError as error:
        if told is not None and job.name not in told:
            told.add(job.name)
            study.tell(f"{job.name}: waiting, as it {error}")
        return None
    except Exception as error:  # whatever is wrong with one volume must not stop the study
        if isinstance(error, PeerError):
            raise
        if not out.is_dir():
            raise StudyError(f"{shown(out)} has vanished; bring it back, and run the same command again.") from error
        if is_full(error, out):
            raise StudyError(f"{said(error)} Make space; the same command goes on from there.") from error
        return row("failed", said_of(error), traceback.format_exc())


def _run_job(job: Job, study: Study) -> str:
    if job.problem:
        raise ValueError(job.problem)
    for path in job.channels:
        if reason := segmentation_reason(path):
            raise ValueError(f"{path} is a segmentation ({reason}), expected an image; leave it out.")
    options = study.options
    folder, request = options.out / job.name, request_of(job, options, study.refine)
    if not options.overwrite and is_done(folder, request, study.extra):
        return "skipped"
    for name, file in job.raters:
        if not file.exists():
            raise FileNotFoundError(f"{shown(file)} of the rater {name or file.name} does not exist; check the path.")
    with held(lock_of(options.out, job.name)):
        if not options.overwrite and is_done(folder, request, study.extra):
            return "skipped"  # another study did it meanwhile
        clear(folder, study.extra)
        with whole_case(options.out, job.name) as place:
            (place / REQUEST).write_text(json.dumps(request, indent=2), encoding="utf-8")
            study.sample(job, place)
            if not is_done(place, request, study.extra):
                raise RuntimeError(f"The sampler returned, but {folder} is not complete. Please report this.")
    return "done"


def clear(folder: Path, extra: Sequence[str] = ()) -> None:
    """Remove an earlier result, which must not pass for that of another request; other files stay.

    The request goes first, so that the rest counts as not done wherever this ends, and what names the other files last.
    """
    if not folder.is_dir():
        return
    names = [*earlier_files(folder), *extra, CASE, *_OWN]
    for name in dict.fromkeys([REQUEST, *(name for name in names if name != RESULT), RESULT]):
        if (folder / name).is_file():
            (folder / name).unlink()
    with contextlib.suppress(OSError):  # it holds files of others
        folder.rmdir()


_OWN = ("segmentations.dcm", "scene.mrb")


def is_full(error: BaseException, out: Path) -> bool:
    """Whether an error comes of a disk that is full."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        cause = cause.__cause__ or cause.__context__
    with contextlib.suppress(OSError):
        return isinstance(error, OSError) and shutil.disk_usage(out).free == 0
    return False


def said_of(error: Exception) -> str:
    """What a failure says in one line, with its kind where it is none that is foreseen."""
    expected = isinstance(error, (ImportError, OSError, ValueError, MemoryError))
    return said(error) if expected else f"{type(error).__name__}: {' '.join(str(error).split())}"


@contextlib.contextmanager
def _stopping(out: Path) -> Iterator[None]:
    """What cannot be written ends the study, in one line."""
    try:
        yield
    except OSError as error:
        told = said(error) if out.is_dir() else f"{shown(out)} has vanished."
        raise StudyError(f"The report cannot be written: {told} Then run the same command again.") from error


def _warnings_in(folder: Path) -> str:
    """In what a sampled volume differs from what the model was trained on, and what else to know of its samples."""
    told, case = read_object(folder / RESULT) or {}, read_object(folder / CASE) or {}
    window, raters = told.get("window", {}).get("warnings", []), case.get("raters", {}).get("problem", "")
    texts = [*told.get("input_warnings", []), *told.get("notes", []), *window, *case.get("notes", []), raters]
    return " ".join(filter(None, texts))


def write_text(path: Path, text: str) -> None:
    """Write a file of the report, whole or not at all; names of files need not be Unicode."""
    write_whole(path, text.encode(errors="backslashreplace"))
