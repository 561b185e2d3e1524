"""The bridge between the library and Slicer.

Importing it makes ``AmbiguousSegLib`` importable too: installed, the library lies beside the bridge in Slicer's folder
of scripted modules; in a checkout it lies in the repository root, two levels up.
"""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("AmbiguousSegLib") is None:
    sys.path.append(str(Path(__file__).resolve().parents[2]))
