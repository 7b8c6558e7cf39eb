"""How the threads of a process wait for one another. No torch: a program calls it before it imports anything large."""

import os
import sys

POLICY = "OMP_WAIT_POLICY"  # OpenMP 5.2, section 21.7


def wait_passively() -> bool:
    """Let threads of OpenMP sleep while they wait for one another, and return whether they will.

    Torch shares each operation among threads, which meet at its end. By default (libgomp) a thread that is early spins
    for milliseconds. While another process needs the core, the thread that is late does not get it, and an epoch takes
    two to eight times longer. A thread that sleeps gives the core away, and waking it costs microseconds. Results are
    the same.

    OpenMP reads this once, when torch is imported. It is not changed after that, nor where the user has set it.
    Processes that this one starts inherit it.
    """
    if POLICY not in os.environ and "torch" not in sys.modules:
        os.environ[POLICY] = "PASSIVE"
    return os.environ.get(POLICY, "").upper() == "PASSIVE"
