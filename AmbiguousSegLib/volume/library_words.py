"""What C libraries write to standard error by themselves: kept off the terminal, and heeded."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_LIBTIFF = re.compile(rb"^(?:tempfile\.tif|[A-Z]\w*(?:Decode\w*|State)|TIFF\w+): .*\n?", re.MULTILINE)


@contextmanager
def libtiff_words() -> Iterator[list[str]]:
    """Collects, by the end of the block, what libtiff says in it: of damaged data it says so, and may go on.

    What others write to standard error meanwhile is written when the block ends.
    """
    words: list[str] = []
    with _lock, tempfile.TemporaryFile() as heard:
        try:
            terminal = os.dup(2)
        except OSError:  # there is none, as in a program with windows only
            yield words
            return
        os.dup2(heard.fileno(), 2)
        try:
            yield words
        finally:
            os.dup2(terminal, 2)
            heard.seek(0)
            text = heard.read()
            words += [line.decode("utf-8", "replace").strip() for line in _LIBTIFF.findall(text)]
            rest = _LIBTIFF.sub(b"", text)
            if rest:
                os.write(terminal, rest)
            os.close(terminal)
