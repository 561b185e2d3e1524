"""What PythonSlicer is: a program that starts the worker as its child, and dies without it."""

import subprocess
import sys
from pathlib import Path

code = subprocess.call([sys.executable, str(Path(__file__).with_name("faulty_worker.py")), *sys.argv[1:]])
if code < 0:  # of the signal nothing is left but this line
    print("error: [python] exit abnormally - Report the problem.", file=sys.stderr, flush=True)
sys.exit(code if code >= 0 else 1)
