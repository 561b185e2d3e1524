"""The numerical tests under other vector units and numbers of threads.

    python Testing/Benchmarks/processors.py [OUT.md]

An x86-64 processor computes as a lesser one would when the libraries are told to leave its vector units alone: ATen
(torch's own loops), oneDNN (convolutions), MKL (matrix products) and numpy each have a variable for it. Tests that fail
are named on stderr. The tests are those marked ``numerical``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

import torch
from numpy._core import _multiarray_umath as numpy_core

REPOSITORY = Path(__file__).resolve().parents[2]
NUMPY = " ".join(name for name in numpy_core.__cpu_dispatch__ if numpy_core.__cpu_features__[name])
LEAST = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    "NPY_DISABLE_CPU_FEATURES": NUMPY,
}
SETTINGS: list[dict[str, str]] = [
    {},
    {"ATEN_CPU_CAPABILITY": "default"},
    {"ATEN_CPU_CAPABILITY": "avx2"},
    {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    LEAST,
]
THREADS = (1, 2)


def outcome(setting: dict[str, str], threads: int) -> tuple[int, int, int]:
    """Numbers of tests that passed, failed and were skipped."""
    environment = {name: value for name, value in os.environ.items() if name not in LEAST}
    environment |= setting | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(REPOSITORY)}
    environment["OMP_WAIT_POLICY"] = "PASSIVE"  # on a busy machine threads that spin while they wait take minutes
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        run = [sys.executable, "-m", "pytest", "-q", "-m", "numerical", f"--junitxml={report}", "Testing"]
        ended = subprocess.run(run, cwd=REPOSITORY, env=environment, capture_output=True, text=True, encoding="utf-8")
        if not report.exists():
            raise SystemExit(f"The tests did not run: {ended.stdout[-2000:]}{ended.stderr[-2000:]}")
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    bad = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    for case in bad:
        print(f"failed under {setting}, {threads} threads: {case.get('classname')} {case.get('name')}", file=sys.stderr)
    skipped = sum(case.find("skipped") is not None for case in cases)
    return len(cases) - len(bad) - skipped, len(bad), skipped


def named(setting: dict[str, str]) -> str:
    if not setting:
        return "the processor's own"
    shown = (f"`{name}={value}`" for name, value in setting.items() if name != "NPY_DISABLE_CPU_FEATURES")
    return ", ".join(shown) + (", numpy's baseline" if "NPY_DISABLE_CPU_FEATURES" in setting else "")


def main() -> None:
    lines = [
        "# Numerical tests under other vector units",
        "",
        f"Made by `python Testing/Benchmarks/processors.py`, {date.today()}; x86-64 with "
        f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}.",
        "",
        "| vector units | threads | passed | failed | skipped |",
        "|---|---:|---:|---:|---:|",
    ]
    print("\n".join(lines), flush=True)
    for threads in THREADS:
        for setting in SETTINGS:
            passed, failed, skipped = outcome(setting, threads)
            lines.append(f"| {named(setting)} | {threads} | {passed} | {failed} | {skipped} |")
            print(lines[-1], flush=True)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
