"""How long a job still takes is told from its own speed, and only when that is known."""

import pytest

from napari_distill2label.core.events import EpochEnd, Finished, Progress
from napari_distill2label.core.presets import build_settings
from napari_distill2label.gui.jobs.remaining import Part, Remaining, training_parts


def run(remaining, events, start=0.0):
    """Each event with the seconds that it took; returns the time."""
    for seconds, event in events:
        start += seconds
        remaining.take(event, start)
    return start


def epochs(role, numbers, total, seconds, steps=4):
    for number in numbers:
        for step in range(1, steps + 1):
            yield seconds / steps, Progress(f"{role}: epoch {number}", step, steps)
        yield 0.0, EpochEnd(role, number, total)


def test_nothing_is_said_before_anything_is_measured():
    remaining = Remaining([Part("a"), Part("b")])
    assert remaining.at(5.0) is None
    remaining.take(Progress("reading slides", 1, 2), 10.0)
    assert remaining.at(10.0) is None
    assert remaining.fraction == 0.0


def test_slides_at_the_speed_of_those_before():
    remaining = Remaining([Part(f"s{number}") for number in range(4)])
    now = run(remaining, [(0, Progress("predicting s0", 0, 10)), (10, Progress("predicting s0", 10, 10))])
    now = run(remaining, [(0, Finished("s0")), (5, Progress("predicting s1", 5, 10))], now)
    assert remaining.fraction == pytest.approx(1.5 / 4)
    assert remaining.at(now) == pytest.approx(25)
    assert remaining.at(now + 3) == pytest.approx(22)  # the clock goes on between two events


def test_slides_that_were_there_already_take_no_time():
    remaining = Remaining([Part(f"s{number}") for number in range(10)])
    now = run(remaining, [(0.01, Finished(f"s{number}")) for number in range(8)])
    now = run(remaining, [(0, Progress("predicting s8", 0, 10)), (20, Progress("predicting s8", 10, 10))], now)
    assert remaining.at(now) == pytest.approx(20)


def test_a_training_of_several_networks():
    parts = [Part("teacher", 2.0 * 10, 10), Part("student", 1.0 * 20, 20)]
    remaining = Remaining(parts)
    now = run(remaining, [(100.0, Progress("reading slides", 1, 1))])
    now = run(remaining, epochs("teacher", range(1, 6), 10, seconds=4), now)
    # Five more of 4 s, and 20 of the student's at half of that.
    assert remaining.at(now) == pytest.approx(20 + 40, rel=0.1)
    assert remaining.fraction == pytest.approx(10 / 40)
    now = run(remaining, epochs("teacher", range(6, 11), 10, seconds=4), now)
    now = run(remaining, epochs("student", range(1, 11), 20, seconds=1), now)
    assert remaining.at(now) == pytest.approx(10, rel=0.15)  # by now the student's own speed is known


def test_epochs_of_a_former_session_say_nothing_of_the_speed():
    remaining = Remaining([Part("teacher", 20.0, 20)])
    now = run(remaining, epochs("teacher", range(11, 16), 20, seconds=2))
    assert remaining.at(now) == pytest.approx(10, rel=0.1)
    assert remaining.fraction == pytest.approx(15 / 20)


def test_a_job_of_unknown_parts_goes_by_its_phase():
    remaining = Remaining()
    now = run(remaining, [(0, Progress("loading", 0)), (2, Progress("exporting", 1, 10))])
    now = run(remaining, [(2, Progress("exporting", number, 10)) for number in range(2, 6)], now)
    assert remaining.at(now) == pytest.approx(10)


def test_the_parts_of_a_training():
    settings = build_settings("colon", "default")
    names = [part.name for part in training_parts(settings, baseline=True)]
    assert names == ["mil", "teacher", "assistant-1", "assistant-2", "assistant-3", "student"]
    assert [part.name for part in training_parts(build_settings("colon", "paper"))] == ["teacher", "student"]
