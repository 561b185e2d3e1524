"""One thread for the tests' tiny networks: more only wait for each other, here and in the processes they start."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402

torch.set_num_threads(1)
