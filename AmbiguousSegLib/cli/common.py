"""What the subcommands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from AmbiguousSegLib.evaluation.comparison import Result


def program(subcommand: str) -> str:
    """How this command line is called, for usage texts: "ambiguousseg train", or "python -m AmbiguousSegLib train"."""
    installed = Path(sys.argv[0]).stem == "ambiguousseg"
    return f"{'ambiguousseg' if installed else 'python -m AmbiguousSegLib'} {subcommand}"


def said_of_arguments(error: Exception) -> str:
    """What jsonargparse says of a command line, in one line, with options as they are typed: "required: --out"."""
    start, required, names = " ".join(str(error).split()).partition("are required: ")
    return start + required + ", ".join(f"--{name.strip()}" for name in names.split(",") if name.strip())


class CommandError(Exception):
    """Bad input, said in one line; ends a command with exit code 2."""


def check_out(folder: Path, files: Sequence[str], overwrite: bool) -> None:
    """CommandError for an output folder that is a file, cannot be made or written to, or holds one of the files."""
    nearest = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), None)
    if nearest is None:
        raise CommandError(f"{folder} cannot be created: there is no {folder.anchor}; choose another --out.")
    if not nearest.is_dir():
        wrong = "is a file" if nearest == folder else f"cannot be created: {nearest} is a file"
        raise CommandError(f"{folder} {wrong}; --out takes a folder.")
    if not os.access(nearest, os.W_OK):
        raise CommandError(f"{nearest} cannot be written to (no permission); choose another --out.")
    present = [name for name in files if (folder / name).exists()]
    if present and not overwrite:
        raise CommandError(f"{folder} holds {present[0]} already; choose another --out, or add --overwrite.")


def figure_writer(file: str) -> Callable[[Path, Sequence[Result]], None]:
    """What draws the figure ``file``; CommandError without matplotlib."""
    try:
        from AmbiguousSegLib.plotting.charts import write_figure
    except ImportError as error:
        raise CommandError(
            f"{file} needs {error.name}; install AmbiguousSegLib[figures], or give --no-figure."
        ) from error
    return write_figure


@contextmanager
def progress_bar(text: str) -> Iterator[Callable[[float], None]]:
    """Progress bar on standard error; call what it gives with the share done, in [0, 1].

    Without tqdm (extra ``train``) it is a line for every tenth that is done.
    """
    try:
        from tqdm import tqdm
    except ImportError:
        shown = 0

        def line(share: float) -> None:
            nonlocal shown
            if int(10 * share) > shown:
                shown = int(10 * share)
                print(f"{text}: {10 * shown} %", file=sys.stderr)

        yield line
        return
    form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} elapsed, {remaining} left"
    with tqdm(total=1.0, desc=text, bar_format=form, leave=False) as bar:
        yield lambda share: bar.update(share - bar.n)
