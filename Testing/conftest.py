"""One thread for the tests' tiny networks: more only wait for each other, here and in the processes they start.

Unless OMP_NUM_THREADS asks for more: results must hold there, too.
"""

import os
from collections import Counter

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYTHONIOENCODING", "utf-8")  # what children write is decoded as this, whatever the locale

import pytest
import torch

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

SLICER = ("bridge", "module", "slicer_host", "worker")  # folders whose tests need Slicer's stand-in
NUMERICAL = ("diffusion", "ensemble", "evaluation", "inference", "methods", "metrics", "networks")


def pytest_collection_modifyitems(items):
    """Marks that follow from where a test lies; files with most slow tests first, then those with Slicer's stand-in, so
    that no process ends long after the others (with ``--no-loadscope-reorder``)."""
    for item in items:
        folder = item.path.parent.name
        for mark, folders in (("slicer", SLICER), ("numerical", NUMERICAL)):
            if folder in folders:
                item.add_marker(mark)
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (-slow[item.path], item.path.parent.name not in SLICER))


@pytest.fixture(autouse=True)
def models_of_nobody(tmp_path_factory, monkeypatch):
    """No test sees, or changes, the models that whoever runs it has installed."""
    monkeypatch.setenv("AMBIGUOUSSEG_MODELS", str(tmp_path_factory.getbasetemp() / "no models here"))
