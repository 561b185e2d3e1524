"""Writing prepared data: every case read once by its reader, checked, and kept in two files; or skipped, with why."""

from __future__ import annotations

import multiprocessing
import signal
import zlib
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.inspection import Inspection, inspect
from AmbiguousSegLib.data.prepared_cases import Block, PreparedCase, case_line, packed
from AmbiguousSegLib.data.prepared_index import INDEX, index_text
from AmbiguousSegLib.data.readers import Case
from AmbiguousSegLib.files import said, write_together
from AmbiguousSegLib.volume.geometry import Geometry

_ALIGNED = 64  # bytes: where blocks start, so that numbers of every type lie as processors want them
_SMALLER = ("i1", "<i2", "<f4", "<u4", "<i4", "<f8")
_FULL_SCALES = ("u1", "<u2")  # types that tell what is white, and so are neither given nor taken
_FILES = ("values", "marks")
_NO_CHANNELS = ("\x00",)  # nobody calls one so
_PROBE_MM, _PROBE_SIZE = 0.7310585786300049, (3, 5)  # so odd that a grid that shows them was told them


class Packed(NamedTuple):
    """A case as it is kept: what was seen, its values in the smallest type, and its masks as ``packed`` makes them."""

    seen: Inspection
    values: np.ndarray
    marks: np.ndarray
    pictured: bool
    channel_names: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Skipped:
    """A case that cannot be read, and why, in one line."""

    identity: str
    reason: str


Outcome = PreparedCase | Skipped


def smallest_type(values: np.ndarray) -> np.dtype:
    """The smallest signed type that holds each of these real numbers exactly, −0 included; else their own.

    Unsigned integers of 8 or 16 bits stay such, as their type tells the full scale (``Intensity.check_stored``), and
    nothing else becomes one. All are little-endian.
    """
    own = values.dtype.newbyteorder("<")
    if own in _FULL_SCALES:
        return own
    low, high = float(values.min()), float(values.max())
    for name in _SMALLER:
        smaller = np.dtype(name)
        if smaller.itemsize >= own.itemsize:
            break
        if smaller.kind == "f":
            fits = own.kind == "f" and _survive(values, smaller)
        else:
            fits = bool(np.iinfo(smaller).min <= low and high <= np.iinfo(smaller).max)
            fits = fits and (own.kind in "iu" or _survive(values, smaller))
        if fits:
            return smaller
    return own


def probing(config: DataConfig, channels: Sequence[str] = ()) -> DataConfig:
    """Settings to read cases with that are to be prepared: they show which pictures take the size of pixels from them.

    Prepared data are for every size of pixels, so pictures are kept without one, and the reader of prepared data tells
    them what the settings say. So it is with channels: all are kept, in the order of the data.

    Args:
        channels: names of those that are to be kept instead.
    """
    chosen = tuple(channels) or _NO_CHANNELS
    return replace(config, spacing_mm=_PROBE_MM, size=_PROBE_SIZE, channels=chosen)


def pack(case: Case, classes: int) -> Packed:
    """Read a case, once, and check it. It was read with the settings that ``probing`` gives.

    Raises:
        ValueError, OSError: as ``inspect``.
    """
    loaded = _Loaded(case)
    seen = inspect(loaded, classes)
    values, masks = loaded.values, loaded.masks
    names = tuple(getattr(case, "channel_names", ()))
    values = np.ascontiguousarray(values, smallest_type(values))
    return Packed(seen, values, packed(masks), loaded.pictured, names)


def bytes_needed(cases: Sequence[Case], classes: int) -> int:
    """How much ``write_prepared`` will write, about: by the first, the middle and the last case, which are read.

    0 if none of them can be read.
    """
    found = []
    for i in sorted({0, len(cases) // 2, len(cases) - 1}):
        one = _attempt(cases[i], classes)
        found += [one.values.nbytes + one.marks.nbytes] if isinstance(one, Packed) else []
    return sum(found) * len(cases) // max(1, len(found))


def write_prepared(
    folder: Path,
    cases: Sequence[Case],
    classes: int,
    head: Mapping[str, Any],
    reports: Callable[[Sequence[Outcome]], Mapping[str, str]],
    jobs: int = 1,
    on_case: Callable[[int], None] = lambda done: None,
) -> list[Outcome]:
    """Prepare cases into ``folder``: all files are complete before the first takes its place, or nothing is changed.

    What was prepared there before is replaced.

    Args:
        cases: read with the settings that ``probing`` gives.
        classes: number of labels.
        head: what ``prepared.json`` says of all cases: ``words``, ``labels``, ``channels`` that were chosen, ….
        reports: gives the texts of further files, by name.
        jobs: processes that read cases at once.
        on_case: called with the number of cases done.

    Returns:
        For each case what was kept of it, or why it was skipped.

    Raises:
        ValueError: not one case can be read. OSError: no space, no permission.
    """
    outcomes: list[Outcome] = []

    def write(new: Path) -> list[str]:
        places = [new / name for name in _FILES]
        with ExitStack() as stack:
            files = [stack.enter_context(open(place, "wb")) for place in places]
            found = stack.enter_context(closing(_each(cases, classes, jobs)))
            for case, one in zip(cases, found):
                outcomes.append(Skipped(case.identity, one) if isinstance(one, str) else _kept(one, *files))
                on_case(len(outcomes))
        skipped = [one for one in outcomes if isinstance(one, Skipped)]
        if len(skipped) == len(outcomes):
            raise ValueError(f"None of {len(skipped)} case(s) can be read; the first: {skipped[0].reason}")
        lines = [case_line(one) for one in outcomes if isinstance(one, PreparedCase)]
        names = [f"{name}-{zlib.crc32(''.join(lines).encode()):08x}.bin" for name in _FILES]  # of no other contents
        sizes = [place.rename(new / name).stat().st_size for place, name in zip(places, names)]
        held = {key: {"file": name, "bytes": size} for key, name, size in zip(_FILES, names, sizes)}
        told = {**head, **_names(cases), "files": held, "skipped": [[one.identity, one.reason] for one in skipped]}
        texts = {**reports(outcomes), INDEX: index_text(told, lines)}
        for name, text in texts.items():
            (new / name).write_text(text, encoding="utf-8", newline="\n")
        return [*names, *texts]

    earlier = [path.name for name in _FILES for path in folder.glob(f"{name}-*.bin")]
    write_together(folder, write, earlier)
    return outcomes


def _names(cases: Sequence[Case]) -> dict[str, Any]:
    """What the names of labels and channels mean for the data: whether masks were renumbered by the labels' names; what
    the channels of all cases are called."""
    raters = (rater for case in cases for rater in getattr(case, "raters", ()))
    channels = {tuple(own[0] for own in getattr(case, "channel_names", ())) for case in cases}
    return {
        "labels_by_name": any(len(getattr(rater, "labels", ())) > 1 for rater in raters),
        "channel_names": [name for own in channels for name in own] if len(channels) == 1 else [],
    }


class _Loaded:
    """A case that is loaded once; pictures without what ``probing`` tells of their pixels, which is noted."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self.values, self._geometry = case.load_image()
        height, width = self._geometry.shape[1:]
        told = (_PROBE_MM * _PROBE_SIZE[1] / width, _PROBE_MM * _PROBE_SIZE[0] / height)
        self.pictured = bool(np.allclose(self._geometry.spacing_mm[:2], told, rtol=1e-9, atol=0))
        if self.pictured:
            self._geometry = replace(self._geometry, spacing_mm=(1.0, 1.0, 1.0))
        self.masks = case.load_masks()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._case, name)

    def load_image(self) -> tuple[np.ndarray, Geometry]:
        return self.values, self._geometry

    def load_masks(self) -> np.ndarray:
        return self.masks


def _survive(values: np.ndarray, smaller: np.dtype) -> bool:
    """Whether values are the same, bit by bit, after they were of another type; plane by plane, as memory is dear."""
    with np.errstate(over="ignore", invalid="ignore"):
        planes = values.reshape(-1, *values.shape[-2:])
        return all(plane.astype(smaller).astype(plane.dtype).tobytes() == plane.tobytes() for plane in planes)


def _attempt(case: Case, classes: int) -> Packed | str:
    """The case as it is kept, or why it cannot be read."""
    try:
        return pack(case, classes)
    except (ValueError, OSError, RuntimeError) as error:
        return said(error)
    except MemoryError:
        return f"{case.identity}: there is not enough memory to read it."


def _each(cases: Sequence[Case], classes: int, jobs: int) -> Generator[Packed | str, None, None]:
    """``_attempt`` of each in its turn; with several processes, a few are read ahead."""
    if jobs == 1:
        yield from (_attempt(case, classes) for case in cases)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, initializer=_leave_interrupts)
    try:
        rest = iter(cases)
        waiting = deque(pool.submit(_attempt, case, classes) for case in islice(rest, jobs + 1))
        while waiting:
            try:
                yield waiting.popleft().result()
            except BrokenProcessPool as error:
                told = "A process that read cases was ended, as by a lack of memory; take fewer --jobs."
                raise RuntimeError(told) from error
            waiting.extend(pool.submit(_attempt, case, classes) for case in islice(rest, 1))
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts() -> None:
    """Ctrl-C goes to all processes; the one that started the others ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _kept(case: Packed, values: BinaryIO, marks: BinaryIO) -> PreparedCase:
    """A case whose bytes are written to these files."""
    places = _append(values, case.values), _append(marks, case.marks)
    return PreparedCase(*places, case.values.dtype.str, case.seen, case.pictured, case.channel_names)


def _append(file: BinaryIO, array: np.ndarray) -> Block:
    """Write an array behind what is in the file."""
    file.write(bytes(-file.tell() % _ALIGNED))
    content = array.reshape(-1).view(np.uint8).data
    block = Block(Path(file.name), file.tell(), array.nbytes, zlib.crc32(content))
    file.write(content)
    return block
