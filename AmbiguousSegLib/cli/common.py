"""What the subcommands share."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from AmbiguousSegLib.files import check_name

if TYPE_CHECKING:
    from AmbiguousSegLib.evaluation.comparison import Result


def program(subcommand: str) -> str:
    """How this command line is called, for usage texts: "ambiguousseg train", or "python -m AmbiguousSegLib train"."""
    installed = Path(sys.argv[0]).stem == "ambiguousseg"
    return f"{'ambiguousseg' if installed else 'python -m AmbiguousSegLib'} {subcommand}"


def said_of_arguments(error: Exception) -> str:
    """What jsonargparse says of a command line, in one line, in words and with options as they are typed."""
    text = " ".join(str(error).split())
    value = text.rpartition(" value: ")[2][:60] if " value: " in text else ""
    got = f", got {value}" if value else ""
    if wrong := re.match(r'Parser key "([\w.]+)": (?:Does not validate against any|Expected an? <)', text):
        kinds = re.findall(r"<class '([\w.]+)'>", text.partition("Errors:")[0])
        words = dict.fromkeys(_TYPES.get(kind, "a mapping" if "." in kind else kind) for kind in kinds[:2])
        return f"{wrong[1]} must be {' or '.join(words) or 'of another type'}{got}."
    if length := re.match(r'Parser key "([\w.]+)": Expected a tuple with (\d+) elements', text):
        return f"{length[1]} must be a list of {length[2]} values{got}."
    if unknown := re.fullmatch(
        r"(?:Group '([\w.]+)' does not accept option|Option) '([^']*)'( is not accepted)?", text
    ):
        return f"Unknown key {unknown[1] + '.' if unknown[1] else ''}{unknown[2]}; correct it, or leave it out."
    if more := re.match(r"unrecognized arguments: (.*)", text, re.IGNORECASE):
        return f"Unknown argument {more[1]}; correct it, or see --help."
    if flag := re.fullmatch(r"argument (\S+): ignored explicit argument (.*)", text):
        return f"{flag[1]} takes no value, got {flag[2]}; leave the value out."
    start, required, names = text.partition("are required: ")
    return start + required + ", ".join(f"--{name.strip()}" for name in names.split(",") if name.strip())


_TYPES = {
    **{"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "NoneType": "null"},
    **{"list": "a list", "tuple": "a list", "dict": "a mapping"},
}


class CommandError(Exception):
    """Bad input, said in one line; ends a command with exit code 2."""


def check_out(folder: Path, files: Sequence[str], overwrite: bool) -> None:
    """One line for an output folder that is a file, cannot be made or written to, or holds one of the files.

    Raises:
        CommandError: such a folder. ValueError: a name that is not UTF-8, which the writers of volumes cannot take.
    """
    check_name(folder)
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


def name_and_value(text: str) -> tuple[str, float | str]:
    """An option of the form NAME=VALUE, whose value is a number where it can be one.

    Raises:
        argparse.ArgumentTypeError: another form.
    """
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    try:
        return name, float(value)
    except ValueError:
        return name, value


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
