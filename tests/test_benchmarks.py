"""What the benchmarks measure with; what they measure is their own affair."""

import time
from functools import partial

import numpy as np
import pytest
import tifffile

from benchmarks import reading
from benchmarks.pyramids import pyramid
from benchmarks.rounds import Elsewhere, in_turn, ratio, timed
from napari_distill2label.slides import open_slide


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


def test_pyramids_are_made_of_a_real_slides_own_tiles(data_dir, tmp_path):
    slide = data_dir / "slides" / "CMU-1-Small-Region.svs"
    path = pyramid(2500, tmp_path, data_dir)
    assert pyramid(2500, tmp_path, data_dir) == path
    with tifffile.TiffFile(slide) as theirs, tifffile.TiffFile(path) as ours:
        assert [level.shape[:2] for level in ours.series[0].levels] == [(2500, 2500), (1250, 1250), (625, 625)]
        for row, col in ((0, 0), (3, 7), (10, 2)):
            tiles = []
            for page in (theirs.pages[0], ours.pages[0]):
                index = row * -(-page.shape[1] // 240) + col
                page.parent.filehandle.seek(page.dataoffsets[index])
                tiles.append(page.parent.filehandle.read(page.databytecounts[index]))
            assert tiles[0] == tiles[1]
    with open_slide(slide) as theirs, open_slide(path) as ours:
        assert np.array_equal(ours.read(0, 0, 0, 2500, 1920), theirs.read(0, 0, 0, 2500, 1920))
        assert np.array_equal(ours.read(0, 0, 1920, 2500, 300), theirs.read(0, 0, 0, 2500, 300))  # it repeats
        shrunk = ours.read(0, 0, 0, 2400, 2400).reshape(1200, 2, 1200, 2, 3).mean(axis=(1, 3))
        assert np.abs(ours.read(1, 0, 0, 1200, 1200) - shrunk).mean() < 4


def test_all_ways_of_reading_see_the_whole_slide(data_dir, tmp_path):
    path = pyramid(1100, tmp_path, data_dir)
    corners = reading._corners(1100)
    assert len(corners) == 16
    reading._ours(path, corners)
    reading._bare(path, corners)
