"""``python Testing/repository_address.py``: the repository's address in the files that cannot read it from the library.

It stands in ``AmbiguousSegLib/__init__.py``, from where Python code has it. CMake's variables are read as text by
Slicer's tools, and so are the others: they hold a copy, which this writes and Testing/test_address.py compares.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# By file: what stands before the address, and what may end it.
COPIES = {
    "CMakeLists.txt": r'(?P<before>set\(EXTENSION_HOMEPAGE ")[^"]*',
    "AmbiguousSeg.json": r'(?P<before>"scm_url": ")[^"]*(?=\.git")',
    "CITATION.cff": r"(?P<before>repository-code: )\S+",
    "pyproject.toml": r'(?P<before>(?:Homepage|Changelog|Issues) = ")https://[^/"]+/[^/"]+/[^/"]+',
}


def address(root: Path = ROOT) -> str:
    """The address, as the library has it."""
    text = (root / "AmbiguousSegLib" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^REPOSITORY = "(https://[^"]+)"$', text, re.MULTILINE)[1]


def brought_up_to_date(root: Path = ROOT) -> dict[Path, str]:
    """What the files should hold, by path."""
    known = address(root)
    return {
        root / name: re.sub(pattern, lambda m: m["before"] + known, (root / name).read_text(encoding="utf-8"))
        for name, pattern in COPIES.items()
    }


def main() -> int:
    """Write the files that hold another address."""
    for path, text in brought_up_to_date().items():
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8", newline="\n")
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
