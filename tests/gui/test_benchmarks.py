"""The benchmarks of the window run, in a real one; what they measure is their own affair."""

import pytest

from benchmarks import live


@pytest.mark.long
def test_the_live_loop(qtbot):
    lines = list(live.measure(slides=8, patches=40, rounds=1))
    assert len(lines) == 6
    assert "goal <= 10" in lines[2]
    assert "(Up to date: trained on" in lines[3]
