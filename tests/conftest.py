"""Shared by all tests: real data where it is, a synthetic cohort everywhere."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Before torch is imported, and for the processes that tests start: their networks are so small that threads would
# only wait for one another, and sums are repeatable bit for bit only with the same number of them.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest

DEFAULT_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real images (`D2L_DATA`). Tests that need it are skipped, saying so, where it is missing."""
    folder = Path(os.environ.get("D2L_DATA", DEFAULT_DATA))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set D2L_DATA to the folder that holds colon/, breast/ and slides/")
    return folder


@pytest.fixture(scope="session")
def synthetic_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cohort.csv of a small synthetic cohort (with truth.csv and centres.csv beside it); do not write to its folder."""
    from napari_distill2label.slides.synthetic import write_cohort

    return write_cohort(tmp_path_factory.mktemp("cohort"), n_slides=12, seed=3, shape=(192, 192))


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Path]]:
    """Make a folder on a disk with so many bytes left, in whole pages. It is a tmpfs, which root alone may mount."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("full disks were NOT tested: only root mounts a small one, on Linux")
    mounted = []

    def make(room: int) -> Path:
        folder = tmp_path_factory.mktemp("disk")
        size = (room // 4096 + 2) * 4096
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
        if done.returncode:
            pytest.skip(f"full disks were NOT tested: no tmpfs can be mounted ({done.stderr.decode().strip()})")
        mounted.append(folder)
        (folder / "filling").write_bytes(bytes(size - room // 4096 * 4096))
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)
