"""Trainings that are killed between two steps on the disk; `python -m benchmarks.kills` does so at every step."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(os.name == "nt", reason="forks, and kills as POSIX does")
@pytest.mark.parametrize("how", [["--sample", "3"], ["--signals", "2"]], ids=["killed", "told to stop"])
def test_a_training_that_is_ended_at_any_moment_resumes_to_the_same_bits(how):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kills", *how],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{how[1]} of {how[1]} " in done.stdout
