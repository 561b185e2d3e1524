"""Command line that is signalled in the middle of a step: ``signalled_run.py SIGNAL IMAGES RANK SUBCOMMAND …``.

When ``IMAGES`` have been seen, the process with this rank sends the signal to itself and its workers, as Ctrl-C or a
job manager does.
"""

from __future__ import annotations

import os
import signal
import sys

from AmbiguousSegLib.cli import main
from AmbiguousSegLib.training.trainer import Trainer


def signal_in_step(number: int, images: int, rank: int) -> None:
    step = Trainer._step

    def signalled(self: Trainer, *arguments):
        if self.progress.images == images and self.rank == rank:
            if self.processes == 1:
                os.killpg(os.getpgrp(), number)  # the caller gave this process a group of its own
            else:
                os.kill(os.getpid(), number)
        return step(self, *arguments)

    Trainer._step = signalled


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if the tests run in a shell's background
    signal_in_step(signal.Signals[sys.argv[1]], int(sys.argv[2]), int(sys.argv[3]))
    raise SystemExit(main(sys.argv[4:]))
