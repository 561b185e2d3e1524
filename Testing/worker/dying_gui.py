"""A program with a runner that has a job under way; it tells the worker's process id and waits to be killed."""

import sys
import time
from pathlib import Path

from SlicerHost import qt

sys.modules["qt"] = qt
application = qt.QCoreApplication(["GUI"])

from AmbiguousSegBridge.worker.client import WorkerRunner  # noqa: E402
from AmbiguousSegBridge.worker.runner import Job, Listener  # noqa: E402


def tell(_progress) -> None:
    print(runner.about["pid"], flush=True)
    time.sleep(600)


runner = WorkerRunner(script=Path(__file__).with_name("faulty_worker.py"))
runner.start(Job(sys.argv[1], {}), Listener(progress=tell))
application.exec()
