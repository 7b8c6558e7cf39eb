"""A program of ours keeps the memory that it frees; a library leaves its host's alone."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

import napari_distill2label
from napari_distill2label.mil.memory import retain_freed_memory

# In a process of its own: what is set holds until it ends.
COUNT_FAULTS = """
import resource, threading
import numpy as np
from napari_distill2label.mil.memory import retain_freed_memory

assert retain_freed_memory()

def work():
    faults = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        pieces = [np.ones(16 * 2**20 // 4, np.float32) for _ in range(2)]  # 2 x 16 MB, 8192 pages
        faults.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)
        del pieces
    print(min(faults[1:]))

work()
other = threading.Thread(target=work)
other.start()
other.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator: NOT tested on this system")
def test_memory_freed_is_used_again_without_asking_the_system():
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("the C library here is not glibc: that freed memory is kept was NOT tested")
    done = subprocess.run([sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(int(faults) < 1000 for faults in done.stdout.split())
    assert len(done.stdout.split()) == 2


def test_keeping_memory_is_declined_elsewhere(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not retain_freed_memory()


def test_only_programs_of_our_own_ask_for_it():
    """The command line, and the window if its user wants it: nothing that another program imports."""
    package = Path(napari_distill2label.__file__).parent
    calling = [path for path in package.rglob("*.py") if "retain_freed_memory" in path.read_text("utf-8")]
    rooms = {path.relative_to(package).with_suffix("").parts[0] for path in calling if path.name != "memory.py"}
    assert rooms == {"cli", "gui"}
