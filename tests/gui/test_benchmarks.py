"""The benchmarks of the window run, in a real one; what they measure is their own affair."""

import pytest

from benchmarks import live, next_slide


@pytest.mark.long
def test_the_live_loop(qtbot):
    lines = list(live.measure(slides=8, patches=40, rounds=1))
    assert len(lines) == 6
    assert ", goal ≤ 2 s: " in lines[2]
    assert "(Up to date: trained on" in lines[3]


@pytest.mark.long
def test_from_slide_to_slide(qtbot, tmp_path):
    taken = next_slide.times(next_slide.crops(tmp_path, 2), 27, rounds=1)
    assert taken.shape == (2, 2)
    assert (taken > 0).all()
