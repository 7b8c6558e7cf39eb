"""What the benchmarks measure with; what they measure is their own affair."""

import time
from functools import partial

import numpy as np
import pytest

from benchmarks.rounds import Elsewhere, in_turn, ratio, timed


def test_competitors_are_timed_in_turn_and_warm_up_is_not_counted():
    calls = []

    def competitor(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    seconds = in_turn({name: partial(competitor, name) for name in "ab"}, rounds=2, warm_up=1)
    assert calls == ["a", "b", "a", "b", "a", "b"]
    assert {name: each.tolist() for name, each in seconds.items()} == {"a": [3, 5], "b": [4, 6]}


def test_ratio_is_that_of_the_rounds():
    assert ratio(np.array([2.0, 6.0, 40.0]), np.array([1.0, 2.0, 10.0])).startswith("3.00 (2.50–3.50;")


def test_work_takes_time_here_and_elsewhere():
    work = partial(sum, range(2_000_000))
    assert timed(work)() > 0
    assert Elsewhere(partial, sum, range(2_000_000))() > 0


def test_a_competitor_that_fails_elsewhere_does_not_hang():
    with pytest.raises(EOFError):
        Elsewhere(partial, time.sleep, "not a number")()
