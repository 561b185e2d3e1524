"""The files that tell how a study stands: what became of each volume, and the tables of all."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict

from AmbiguousSegLib.evaluation.table import Column, Table
from AmbiguousSegLib.studies.jobs import Job, Row
from AmbiguousSegLib.studies.places import write_whole
from AmbiguousSegLib.studies.settings import settings_of
from AmbiguousSegLib.studies.tables import neutral, write_tables

_COLUMNS = ("name", "status", "seconds", "message", "warnings")
_SHARE = 0.05  # of a study's time may go into reports of what is not yet the end


class ReportFiles:
    """``batch.json`` (with tracebacks), ``batch.csv``, and the tables ``study.*``, kept current.

    A share of a study has files of its own: ``batch.2-of-8.csv``.
    """

    def __init__(self, jobs: Sequence[Job], options: argparse.Namespace) -> None:
        self._jobs, self._options = jobs, options
        share = "" if options.shard is None else ".{}-of-{}".format(*options.shard)
        self._batch, self._study = f"batch{share}", f"study{share}"
        self._next = 0.0

    def write(self, rows: Sequence[Row], last: bool) -> None:
        """Write all files, unless it is not the last time and the last one is not long ago.

        Raises:
            OSError: they cannot be written.
        """
        start = time.monotonic()
        if not last and start < self._next:
            return
        out = self._options.out
        settings = {key: str(value) for key, value in settings_of(self._options).items()}
        report = {"settings": settings, "volumes": [asdict(row) for row in rows]}
        write_whole(out / f"{self._batch}.json", json.dumps(report, indent=2).encode(errors="backslashreplace"))
        told = [{column: getattr(row, column) for column in _COLUMNS} for row in rows]
        table = Table(tuple(Column(key, key) for key in _COLUMNS), tuple(told))
        write_whole(out / f"{self._batch}.csv", neutral(table).csv().encode(errors="backslashreplace"))
        write_tables(self._jobs, rows, out, self._study, write_whole)
        end = time.monotonic()
        self._next = end + (end - start) / _SHARE
