"""The process that computes for the module AmbiguousSeg, which starts it: ``PythonSlicer worker.py FOLDER``.

What it does is in ``AmbiguousSegBridge/worker/server.py``; FOLDER is where the jobs' folders are.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where AmbiguousSegBridge is

from AmbiguousSegBridge.worker.server import main

if __name__ == "__main__":
    os._exit(main())  # without the destructors of libraries that are broken or still at work
