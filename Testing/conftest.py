"""One thread for the tests' tiny networks: more only wait for each other, here and in the processes they start.

Unless OMP_NUM_THREADS asks for more: results must hold there, too.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

SLICER = ("bridge", "module", "slicer_host", "worker")  # folders whose tests share Slicer's stand-in
NUMERICAL = ("diffusion", "ensemble", "evaluation", "inference", "methods", "metrics", "networks")


def pytest_collection_modifyitems(items):
    """Marks that follow from where a test lies."""
    for item in items:
        folder = item.path.parent.name
        for mark, folders in (("slicer", SLICER), ("numerical", NUMERICAL)):
            if folder in folders:
                item.add_marker(mark)
