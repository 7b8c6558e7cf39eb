"""The time left is told from the job's own speed, and only when that is known. No name can mislead it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_distill2label.core.errors import SlideError
from napari_distill2label.core.events import EpochEnd, ItemDone, ItemFailed, Progress, Task, Unit
from napari_distill2label.core.presets import build_settings
from napari_distill2label.core.progress import Part, TimeLeft, title, training_parts


def run(time_left, events, start=0.0):
    """Each event with the seconds that it took; returns the time."""
    for seconds, event in events:
        start += seconds
        time_left.update(event, start)
    return start


def epochs(network, numbers, total, seconds, steps=4):
    for number in numbers:
        for step in range(1, steps + 1):
            yield seconds / steps, Progress(Task.TRAIN, step, steps, network, number, total)
        yield 0.0, EpochEnd(network, number, total)


def predicting(item, *steps, total=10):
    return [(seconds, Progress(Task.PREDICT, step, total, item)) for seconds, step in steps]


def test_nothing_is_said_before_anything_is_measured():
    time_left = TimeLeft([Part("a"), Part("b")])
    assert time_left.at(5.0) is None
    time_left.update(Progress(Task.READ_SLIDES, 1, 2), 10.0)
    assert time_left.at(10.0) is None
    assert time_left.fraction == 0.0


def test_slides_at_the_speed_of_those_before():
    time_left = TimeLeft([Part(f"s{number}") for number in range(4)])
    now = run(time_left, predicting("s0", (0, 0), (10, 10)))
    now = run(time_left, [(0, ItemDone("s0")), *predicting("s1", (5, 5))], now)
    assert time_left.fraction == pytest.approx(1.5 / 4)
    assert time_left.at(now) == pytest.approx(25)
    assert time_left.at(now + 3) == pytest.approx(22)  # the clock goes on between two events


def test_slides_that_were_there_already_take_no_time():
    time_left = TimeLeft([Part(f"s{number}") for number in range(10)])
    now = run(time_left, [(0.01, ItemDone(f"s{number}")) for number in range(8)])
    now = run(time_left, predicting("s8", (0, 0), (20, 10)), now)
    assert time_left.at(now) == pytest.approx(20)


def test_a_slide_that_fails_is_over():
    time_left = TimeLeft([Part("s0"), Part("s1")])
    run(time_left, [(0, ItemFailed("s0", SlideError("damaged")))])
    assert time_left.fraction == 0.5


def test_a_training_of_several_networks():
    time_left = TimeLeft([Part("teacher", 2.0 * 10, 10), Part("student", 1.0 * 20, 20)])
    now = run(time_left, [(100.0, Progress(Task.READ_SLIDES, 1, 1))])
    now = run(time_left, epochs("teacher", range(1, 6), 10, seconds=4), now)
    # Five more of 4 s, and 20 of the student's at half of that.
    assert time_left.at(now) == pytest.approx(20 + 40, rel=0.1)
    assert time_left.fraction == pytest.approx(10 / 40)
    now = run(time_left, epochs("teacher", range(6, 11), 10, seconds=4), now)
    now = run(time_left, epochs("student", range(1, 11), 20, seconds=1), now)
    assert time_left.at(now) == pytest.approx(10, rel=0.15)  # by now the student's own speed is known


def test_epochs_of_a_former_session_say_nothing_of_the_speed():
    time_left = TimeLeft([Part("teacher", 20.0, 20)])
    now = run(time_left, epochs("teacher", range(11, 16), 20, seconds=2))
    assert time_left.at(now) == pytest.approx(10, rel=0.1)
    assert time_left.fraction == pytest.approx(15 / 20)


def test_a_network_that_scores_the_slides_was_trained_before_this_job():
    time_left = TimeLeft([Part("teacher", 20.0, 20), Part("student", 20.0, 20)])
    scoring = [(1.0, Progress(Task.COMPUTE_TARGETS, step, 5, "teacher")) for step in range(1, 6)]
    now = run(time_left, scoring)
    assert time_left.fraction == pytest.approx(0.5)
    assert time_left.at(now) is None  # nothing of the student is measured
    now = run(time_left, epochs("student", range(1, 11), 20, seconds=2), now)
    assert time_left.at(now) == pytest.approx(20, rel=0.15)


def test_an_epoch_is_trained_when_its_validation_begins():
    time_left = TimeLeft([Part("teacher", 1.0, 4)])
    time_left.update(Progress(Task.VALIDATE, 0, 9, "teacher", 2, 4), 1.0)
    assert time_left.fraction == 0.5


def test_a_job_of_unknown_parts_goes_by_its_task():
    time_left = TimeLeft()
    now = run(time_left, [(0, Progress(Task.LOAD_MODEL, 0)), (2, Progress(Task.EXPORT, 1, 10))])
    now = run(time_left, [(2, Progress(Task.EXPORT, number, 10)) for number in range(2, 6)], now)
    assert time_left.at(now) == pytest.approx(10)


def test_the_parts_of_a_training():
    settings = build_settings("colon", "recommended")
    names = [part.name for part in training_parts(settings, baseline=True)]
    assert names == ["baseline", "teacher", "oof-1", "oof-2", "oof-3", "student"]
    assert [part.name for part in training_parts(build_settings("colon", "paper"))] == ["teacher", "student"]


HARD = st.text(alphabet=" :0123456789abcepochs.h5/–", min_size=1, max_size=30) | st.sampled_from(
    ["case: 7", "case 7", "epoch 3", "teacher: epoch 3", "slides.h5", "epoch_3.h5", "predicting", "of validation"]
)


@given(st.lists(HARD, min_size=2, max_size=6, unique=True))
def test_no_id_of_a_slide_misleads_unit_or_time(ids):
    time_left = TimeLeft([Part(slide_id) for slide_id in ids])
    first = Progress(Task.PREDICT, 2, 100, ids[0])
    assert first.task.unit is Unit.PATCHES
    time_left.update(first, 0.0)
    assert time_left.fraction == pytest.approx(0.02 / len(ids))
    time_left.update(Progress(Task.PREDICT, 52, 100, ids[0]), 10.0)
    assert time_left.fraction == pytest.approx(0.52 / len(ids))
    assert time_left.at(10.0) == pytest.approx((len(ids) - 0.52) * 20)
    assert ids[0] in title(first)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (Progress(Task.READ_SLIDES, 1, 2), "reading slides"),
        (Progress(Task.PREDICT, 1, 2, "case: 7"), "predicting case: 7"),
        (Progress(Task.FIND_TISSUE, 1, 2, "S-1"), "segmenting tissue of S-1"),
        (Progress(Task.MEASURE, 1, 2, "teacher"), "measuring the speed of teacher"),
        (Progress(Task.TRAIN, 1, 2, "teacher", 3, 20), "teacher: epoch 3 of 20"),
        (Progress(Task.VALIDATE, 1, 2, "teacher", 3, 20), "teacher: validating epoch 3 of 20"),
        (EpochEnd("student", 3, 20), "student: epoch 3 of 20"),
    ],
)
def test_titles(event, words):
    assert title(event) == words
