"""Command lines. Run them from the repository's root: ``python -m scripts.train_cartpole --help``."""

import os

# One thread: on networks this small a second one costs more than it brings. It must be set before NumPy loads.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
