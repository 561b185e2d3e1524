"""``AmbiguousSeg/Scripts/batch.py`` as a module, which is no part of a package."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from shared_data import REPOSITORY

SCRIPT = REPOSITORY / "AmbiguousSeg" / "Scripts" / "batch.py"


@contextmanager
def batch_script() -> Iterator[ModuleType]:
    """The script, loaded anew; its dataclasses ask for it among the modules as long as it is used."""
    spec = importlib.util.spec_from_file_location("ambiguousseg_batch", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[spec.name]
