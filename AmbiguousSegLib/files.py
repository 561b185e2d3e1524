"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Temporary name beside ``path``, renamed to it when the block ends well and removed when it does not.

    The temporary name keeps the suffixes of ``path`` (``.seg.nrrd``), by which writers choose their format. The parent
    folder is made if needed.

    Raises:
        OSError: from writing or renaming (no space, no permission); ``path`` is then as it was before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(6)}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
