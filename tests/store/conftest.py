"""Another process that holds something."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def holding() -> Iterator[Callable[..., subprocess.Popen]]:
    """`holding(code, *words)`: a process that runs `code`, which prints "held" and waits for its stdin to end."""
    processes = []

    def start(code: str, *words: object) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, words)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        processes.append(process)
        assert process.stdout.readline().strip() == "held"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()
