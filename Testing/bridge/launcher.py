"""What PythonSlicer is: a program that starts the worker as its child, and dies without it."""

import subprocess
import sys
from pathlib import Path

sys.exit(subprocess.call([sys.executable, str(Path(__file__).with_name("faulty_worker.py"))]))
