"""The program, killed, starved and lied to: `python -m torture`, or `make torture`. Not installed with the package.

A *trial* does one bad thing to one subject (a command, a writer, a reader), drawn by a seed, and says what became of
it. Kinds of trials are modules: `kill`, `power`, `starve`, `lie`, `together`, `answers`, `soak`. Each has `subjects`
and `attempt`; `runner` gives them their time and prints one table.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before anything is imported: the trials are forks, and a fork keeps one thread alone
