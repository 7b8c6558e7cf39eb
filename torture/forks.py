"""Work in forks of one process that has imported everything and started no thread: a trial costs no start of Python.

What a child says on stderr, what it returns and how it ended are given back. POSIX alone.
"""

import contextlib
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .verdict import Verdict, lost

PATIENCE = 180.0  # s: a child that takes longer hangs, on however busy a machine


@dataclass(frozen=True)
class Ended:
    """How a child ended: `status` is its exit status (−n: killed by signal n), `told` what its work returned."""

    status: int
    told: Any
    said: str
    hung: bool = False
    seconds: float = 0.0

    @property
    def has_traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.said

    def verdict(self, allowed: tuple[int, ...] = (0,)) -> Verdict | None:
        """What is wrong with the way it ended; None if nothing is."""
        if self.hung:
            return Verdict("hang", f"did not end within {self.seconds:.0f} s")
        if self.has_traceback:
            return Verdict("traceback", self.said[-1500:])
        if self.status not in allowed:
            return lost(f"ended with {self.status}: {self.said[-400:]}")
        return None


def forked(
    work: Callable[[], Any],
    *,
    patience: float = PATIENCE,
    limits: Callable[[], None] = lambda: None,
    during: Callable[[int], None] | None = None,
) -> Ended:
    """Run `work` in a fork. It returns JSON; an `int` is an exit status too, as of a command.

    `limits` is called in the child first. `during` gets the child's id while it works.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    (told_read, told_write), (said_read, said_write) = os.pipe(), os.pipe()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(told_read)
        os.close(said_read)
        _be_child(work, limits, said_write, told_write)
    os.close(told_write)
    os.close(said_write)
    try:
        if during is not None:
            during(child)
        (told, said), hung = _read_to_end((told_read, said_read), start + patience)
        if not hung:
            hung = not _ends(child, start + patience)
    finally:
        os.close(told_read)
        os.close(said_read)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    _, code = os.waitpid(child, 0)
    text = said[-100_000:].decode("utf-8", "replace")
    return Ended(
        os.waitstatus_to_exitcode(code), json.loads(told) if told else None, text, hung, time.monotonic() - start
    )


def _be_child(work: Callable[[], Any], limits: Callable[[], None], said: int, told: int) -> None:
    status = 70
    try:
        os.setpgid(0, 0)  # with the processes that it starts: they end with it
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(said, 2)
        # New streams: those of the parent remember what kind of file was theirs.
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limits()
        found = work()
        status = found if isinstance(found, int) else 0
        sys.stderr.flush()
        data = json.dumps(found).encode()
        while data:
            data = data[os.write(told, data) :]
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 2
    except BaseException:  # noqa: BLE001 · a child may not come back into its parent's code
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status & 0xFF)


def _read_to_end(descriptors: tuple[int, ...], until: float) -> tuple[tuple[bytes, ...], bool]:
    """(what was written to each, whether its writer went on for too long)."""
    pieces: dict[int, list[bytes]] = {descriptor: [] for descriptor in descriptors}
    left = set(descriptors)
    while left:
        ready, _, _ = select.select(list(left), [], [], max(0.0, until - time.monotonic()))
        if not ready:
            break
        for descriptor in ready:
            if piece := os.read(descriptor, 2**16):
                pieces[descriptor].append(piece)
            else:
                left.remove(descriptor)
    return tuple(b"".join(each) for each in pieces.values()), bool(left)


def _ends(child: int, until: float) -> bool:
    """Whether it ends by itself. It is not reaped."""
    while time.monotonic() < until:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            return True
        time.sleep(0.002)
    return False


def scratch_place() -> Path:
    """A folder in memory where there is one: a trial synchronises often, and no disk is what is tried."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
