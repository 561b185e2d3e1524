"""``benchmark``: train, sample and judge a list of systems alike, and print one table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from AmbiguousSegLib.benchmarking.cell import Cell
from AmbiguousSegLib.benchmarking.file import BEGUN_FILE, Benchmark, Budget, begin, read_benchmark
from AmbiguousSegLib.benchmarking.held_out import check_data
from AmbiguousSegLib.benchmarking.report import TABLE_FILE, write_report
from AmbiguousSegLib.benchmarking.runner import failure, run_cells
from AmbiguousSegLib.cli.common import CommandError, check_out, program
from AmbiguousSegLib.data.config import MOST_WORKERS
from AmbiguousSegLib.devices import choose_device
from AmbiguousSegLib.evaluation.benchmark_result import same_cases
from AmbiguousSegLib.files import said
from AmbiguousSegLib.locks import only_one

HELP = "train, sample and judge a list of systems alike, and print one table"
LOCK_FILE = "benchmark.lock"


def parser() -> argparse.ArgumentParser:
    """Arguments of the subcommand."""
    p = argparse.ArgumentParser(prog=program("benchmark"), description=HELP, allow_abbrev=False)
    p.add_argument("file", metavar="FILE", help="benchmark file, or the name of a bundled one")
    p.add_argument("--data", type=Path, help="folder of cases, or file that lists them; the phantom needs none")
    p.add_argument("--out", type=Path, required=True, help="folder for cells, tables and pictures; goes on where it is")
    p.add_argument("--systems", nargs="+", metavar="SYSTEM", help="only these (default: all of the file)")
    p.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="only these (default: each system's)")
    p.add_argument("--jobs", type=int, default=1, metavar="J", help="trainings at a time (default: 1)")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    budget = p.add_mutually_exclusive_group()
    budget.add_argument("--budget-images", type=int, metavar="N", help="images of each training, not the file's budget")
    seconds_help = "CPU seconds of each training's process, not the file's budget"
    budget.add_argument("--budget-cpu-seconds", type=float, metavar="S", help=seconds_help)
    p.add_argument("--table-only", action="store_true", help="train nothing: tables of the cells that are done")
    return p


def main(arguments: list[str]) -> int:
    """Run the subcommand; its exit code: 1 where a cell failed."""
    options = parser().parse_args(arguments)
    if not 1 <= options.jobs <= MOST_WORKERS:
        raise CommandError(f"--jobs must be 1 to {MOST_WORKERS}, got {options.jobs}.")
    check_out(options.out, (), overwrite=True)
    given = options.budget_images, options.budget_cpu_seconds
    budget = None if given == (None, None) else Budget(*given)
    try:
        benchmark = read_benchmark(options.file, options.systems, options.seeds, budget)
    except FileNotFoundError as error:
        raise CommandError(said(error)) from error
    cells = _cells(benchmark, options)
    if not options.table_only:
        check_data(benchmark.systems[0].config, benchmark.file.test, options.data)
    elif not (options.out / BEGUN_FILE).exists():
        raise CommandError(f"{options.out} holds no benchmark; check --out, or leave out --table-only.")
    try:
        with only_one(options.out, LOCK_FILE):
            begin(options.out, benchmark)
            same_cases([cell.result() for cell in cells if cell.done])  # refused now, not after hours of training
            if not options.table_only and not run_cells(cells, options.jobs):
                print("Stopped; the same command goes on.", file=sys.stderr)
                return 1
            failed = [f"{cell} failed: {reason}" for cell in cells if (reason := failure(cell))]
            if not any(cell.done for cell in cells):
                raise CommandError(failed[0] if failed else f"{options.out} holds no cell that is done yet.")
            tables = write_report(options.out, benchmark, cells)
    except BlockingIOError as error:
        raise CommandError(said(error)) from error
    print("\n".join(table.text() for table in tables), end="")
    print(f"\n{options.out / TABLE_FILE}")
    for line in failed:
        print(f"error: {line}", file=sys.stderr)
    return 1 if failed else 0


def _cells(benchmark: Benchmark, options: argparse.Namespace) -> list[Cell]:
    """All cells that were asked for, the first seed of every system first, so that an early end leaves all with one."""
    choose_device(options.device)  # refused now, not in every cell
    file = benchmark.file
    ordered = sorted(
        ((place, system, seed) for system in benchmark.systems for place, seed in enumerate(system.seeds)),
        key=lambda entry: entry[0],
    )
    return [
        Cell(
            system.name,
            system.config,
            seed,
            file.budget,
            file.samples,
            file.test,
            options.data,
            options.out / "cells" / system.name / f"seed-{seed}",
            options.device,
        )
        for _, system, seed in ordered
    ]
