"""The masks of one volume drawn by several processes, each some of its slices.

What a process has finished lies on disk, a file for each slice, until the whole result is written: so the others get
it, and so a run that was cut off goes on. A mask follows from its slice, its sample and the seed alone, whoever draws
it.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from AmbiguousSegLib.files import replacing, shown
from AmbiguousSegLib.inference.batches import Row
from AmbiguousSegLib.inference.point_sampling import Drawing, Tell
from AmbiguousSegLib.processes import Processes

WORK_FOLDER = ".unfinished"
"""Name of the folder, in that of the result, in which the parts lie until the whole is written."""


class Shareable(Drawing, Protocol):
    """A drawing whose slices can be shared out.

    Attributes:
        batch_size: masks that are computed together.
    """

    batch_size: int

    def masks_of(self, slice_index: int) -> np.ndarray:
        """All samples of a slice, uint8 ``(N, rows, columns)``: a view to read and to write to."""


@dataclass(frozen=True)
class Sharing:
    """How a volume is shared out.

    Attributes:
        processes: among whom; all of them sample the same volume with the same request.
        folder: of the result, on a disk that all of them see.
    """

    processes: Processes
    folder: Path


class SharedDrawing:
    """A ``Drawing`` in every process: each draws some of the slices, and takes the others' from disk.

    Args:
        drawing: of this process.
        identity: text that names all that the masks depend on, but for slice and sample; the first process' counts.
        first_sample: number of the first of the samples.
    """

    def __init__(self, sharing: Sharing, drawing: Shareable, identity: str, first_sample: int) -> None:
        self._processes, self._work = sharing.processes, sharing.folder / WORK_FOLDER
        self._drawing, self._first_sample = drawing, first_sample
        self._identity = sharing.processes.agreed(identity)
        self.at_once = sharing.processes.agreed(max(drawing.at_once, math.ceil(sharing.processes.count / 2)))

    def draw(self, slices: Sequence[int], tell: Tell) -> Iterator[Row]:
        """As ``Drawing.draw``.

        Raises:
            PeerError: another process has ended.
            ValueError: a part that cannot be read.
        """
        if not slices:
            return
        drawing, processes = self._drawing, self._processes
        paths = {z: self._work / f"{_digest(f'{self._identity} {z}')}.npz" for z in slices}
        missing = processes.agreed([z for z in slices if not paths[z].is_file()])
        # At once as many slices as fill a batch, but no process is to wait long for another's last ones.
        together = math.ceil(drawing.batch_size / max(1, len(drawing.masks_of(slices[0]))))
        together = processes.agreed(max(1, min(together, math.ceil(len(missing) / (2 * processes.count)))))
        runs, own = [missing[i : i + together] for i in range(0, len(missing), together)], set[int]()
        for number in processes.take(len(runs)):
            run = runs[number]
            for _ in drawing.draw(run, _part_of(tell, processes.count, len(own), len(run), len(missing))):
                pass
            for z in run:
                with replacing(paths[z]) as temporary, open(temporary, "wb") as file:
                    np.savez_compressed(file, masks=drawing.masks_of(z))
            own.update(run)
        processes.gathered(None)
        for z in slices:
            if z not in own:
                drawing.masks_of(z)[...] = _read(paths[z], drawing.masks_of(z).shape)
            for k in range(len(drawing.masks_of(z))):
                yield z, self._first_sample + k


def forget_parts(folder: Path) -> None:
    """Remove the parts in the folder of a result that is written."""
    shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _part_of(tell: Tell, processes: int, done: int, now: int, of: int) -> Tell:
    """Tells how far all are, as if the others were as fast as this process."""
    return lambda share: tell(min(1.0, processes * (done + share * now) / of))


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as file:
            masks = file["masks"]
    except FileNotFoundError as error:
        raise ValueError(
            f"{shown(path)} is not there, though a process has written it; give a folder on a disk that all see."
        ) from error
    except Exception as error:  # zipfile and numpy raise whatever a damaged file makes them
        raise ValueError(f"{shown(path)} cannot be read ({error}); remove {shown(path.parent)}.") from error
    if masks.dtype != np.uint8 or masks.shape != shape:
        raise ValueError(
            f"{shown(path)} holds {masks.dtype} {masks.shape}, expected uint8 {shape}; remove {shown(path.parent)}."
        )
    return masks
