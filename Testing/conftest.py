"""One thread for the tests' tiny networks: more only wait for each other, here and in the processes they start.

Unless OMP_NUM_THREADS asks for more: results must hold there, too.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
