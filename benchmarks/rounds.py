"""Competitors timed in turn, round by round, so that a machine that slows down slows all of them."""

import multiprocessing
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection

import numpy as np
import torch

from .goals import Goal, judged

Competitor = Callable[[], float]  # does its work once and returns the seconds that took


def timed(work: Callable[[], object]) -> Competitor:
    """`work` as a competitor.

    With one thread the seconds are those the processor spent, which other work on the machine hardly changes; with
    more, those on the clock: threads that wait for one another also spend the processor's.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def competitor() -> float:
        start = clock()
        work()
        return clock() - start

    return competitor


class Elsewhere:
    """A competitor in a process of its own, where nothing the others do to theirs reaches it.

    `prepare(*arguments)` is called there once and gives the work; both must be picklable.
    """

    def __init__(self, prepare: Callable[..., Callable[[], object]], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        context.Process(target=_serve, args=(theirs, prepare, arguments), daemon=True).start()
        theirs.close()  # else a process that dies would be waited for

    def __call__(self) -> float:
        self._pipe.send("again")
        return self._pipe.recv()


def _serve(pipe: Connection, prepare: Callable[..., Callable[[], object]], arguments: tuple) -> None:
    competitor = timed(prepare(*arguments))
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        pipe.send(competitor())


def in_turn(competitors: Mapping[str, Competitor], rounds: int, warm_up: int) -> dict[str, np.ndarray]:
    """Seconds (rounds,) of each."""
    seconds = {name: [competitor() for _ in range(warm_up)] for name, competitor in competitors.items()}
    for _ in range(rounds):
        for name, competitor in competitors.items():
            seconds[name].append(competitor())
    return {name: np.array(each[warm_up:]) for name, each in seconds.items()}


def ratio(numerator: np.ndarray, denominator: np.ndarray, goal: Goal | None = None) -> str:
    """Median and quartiles of the rounds' ratios, the ratio of the fastest tenth of either's rounds, goal and verdict.

    On a busy machine the last is the one to read for several threads: a round is slow as soon as one of them waits.
    """
    low, middle, high = np.percentile(numerator / denominator, (25, 50, 75))
    fastest = np.percentile(numerator, 10) / np.percentile(denominator, 10)
    text = f"{middle:.2f} ({low:.2f}–{high:.2f}; fastest rounds {fastest:.2f})"
    return text if goal is None else judged(text, goal, numerator / denominator)
