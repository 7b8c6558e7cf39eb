"""What the benchmarks measure with; what they measure is their own affair."""

import importlib
import importlib.util
import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from benchmarks import __main__ as everything
from benchmarks import exporting, goals, golden, gpu, growth, hops, reading
from benchmarks.goals import Goal, figure
from benchmarks.pyramids import flat, pyramid
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
    with open_slide(path) as slide:
        expected = slide.read(0, 0, 0, 1100, 1100).astype(int)
    for codec, most in (("deflate", 0), ("jpeg2000", 6)):
        other = flat(1100, codec, tmp_path, data_dir)
        reading._bare(other, corners)
        with open_slide(other) as slide:
            assert np.abs(slide.read(0, 0, 0, 1100, 1100) - expected).mean() <= most, codec


@pytest.mark.parametrize(
    ("goal", "values", "verdict"),
    [
        (Goal(2, "s"), [1, 2, 3], "goal ≤ 2 s: met"),
        (Goal(2, "s"), [1, 1, 3, 3, 3], "goal ≤ 2 s: missed, within the spread"),
        (Goal(2), [3, 3, 3], "goal ≤ 2: missed"),
        (Goal(5, at_least=True), [5, 6, 7], "goal ≥ 5: met"),
        (Goal(5, at_least=True), [4, 4, 4, 9, 9], "goal ≥ 5: missed, within the spread"),
        (Goal(5, at_least=True), [4, 4, 4], "goal ≥ 5: missed"),
    ],
)
def test_a_verdict_is_computed(goal, values, verdict):
    assert figure("it", values, "s", goal).endswith(f", {verdict}")


def test_figures_are_told_with_three_digits_and_their_spread():
    assert figure("it", [1.23456], "s") == "it: 1.23 s"
    assert figure("it", [1, 2, 12_345]) == "it: 2 (1.5–6,174)"
    assert figure("it", [0, 0.00001]) == "it: 5e-06 (2.5e-06–7.5e-06)"


@pytest.mark.long
def test_the_check_of_a_gpu_runs_on_a_processor():
    lines = list(gpu.measure("cpu", short=True))
    found = {line.partition(": ")[0] for line in lines}
    assert {"logits, float32, largest difference from the processor's", "features / the encoder alone"} <= found
    assert any(line.startswith("5 folds of that: ") and ", goal ≤ 180 s: " in line for line in lines)
    assert gpu.as_row("it: 3 s, goal ≤ 2 s: missed") == "| it | 3 s | ≤ 2 s: missed |"


def test_every_line_of_all_is_a_script():
    for _, (module, *_) in everything.ALL:
        source = Path(importlib.util.find_spec(f"benchmarks.{module}").origin).read_text("utf-8")
        assert '__name__ == "__main__"' in source


def test_all_counts_the_verdicts_of_its_scripts(tmp_path, monkeypatch):
    lines = ["it: 3 s, goal ≤ 2 s: missed", "ratio: 3, goal ≥ 2: met", "a line, goal ≤ 1: missed, that no verdict is"]
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "goals.py").write_text(Path(goals.__file__).read_text("utf-8"), "utf-8")
    (tmp_path / "benchmarks" / "drawn.py").write_text(
        "from .goals import Goal, figure\n"
        "print(figure('it', [3], 's', Goal(2, 's')))\n"
        "print(figure('ratio', [3], goal=Goal(2, at_least=True)))\n"
        f"print({lines[-1]!r})\n",
        "utf-8",
    )
    (tmp_path / "benchmarks" / "failing.py").write_text("raise SystemExit('no data')", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = list(everything.run_all((("A", ("drawn",)), ("B", ("failing",)))))
    assert found[:4] == ["\nA", *lines]
    assert found[-3:] == [
        "\n1 goals are met. Missed or not measured: 2",
        "A: it: 3 s, goal ≤ 2 s: missed",
        "B: not measured: no data",
    ]


@pytest.mark.long
def test_the_growth_of_small_cohorts_is_measured():
    lines = list(growth.measure((2, 6)))
    assert any(line.startswith("plan: ms per slide") for line in lines)
    assert lines[-1].startswith("memory, MB")


def test_both_ways_of_exporting_are_measured_and_agree(tmp_path):
    made = exporting.patch_map(tmp_path / "map.zarr", 6, "regions")
    mine, theirs = (way(made, tmp_path, "ome-tiff") for way in exporting.WAYS.values())
    with tifffile.TiffFile(mine) as one, tifffile.TiffFile(theirs) as other:
        for a, b in zip(one.series[0].levels, other.series[0].levels, strict=True):
            assert np.array_equal(a.asarray(), b.asarray())
    for name in ("geojson", "csv"):
        assert all(way(made, tmp_path, name).stat().st_size > 1000 for way in exporting.WAYS.values())


@pytest.mark.slow
def test_all_conversions_are_measured(monkeypatch):
    monkeypatch.setattr(exporting, "CONVERSIONS", exporting.CONVERSIONS[-2:])
    lines = list(exporting.measure_conversions(6))
    assert len(lines) == 1 + 2 * 2
    assert lines[1].startswith("geojson to ome-tiff")


DIGESTS = {"points": {"weights, teacher": "a" * 64, "table, student": "b" * 64}}


@pytest.fixture
def written(tmp_path):
    """A file of digests, made here."""
    path = tmp_path / "golden.json"
    path.write_text(json.dumps({"environment": golden.environment(), "digests": DIGESTS}), "utf-8")
    return path


def test_golden_says_what_differs(written):
    assert golden.check(written, lambda: DIGESTS) == (golden.SAME, ["All 2 digests are the same."])
    found = {
        "points": {"weights, teacher": "a" * 64, "table, student": "c" * 64},
        "grid": {"mask, student": "d" * 64},
    }
    status, lines = golden.check(written, lambda: found)
    assert status == golden.DIFFERENT
    assert lines == [
        "points: table, student: was bbbbbbbbbbbb, is cccccccccccc",
        "grid: mask, student: was nothing, is dddddddddddd",
        "2 differ, of 3 digests.",
    ]
    assert golden.check(written, dict)[0] == golden.DIFFERENT


def test_golden_of_another_machine_is_not_compared(written, tmp_path):
    content = json.loads(written.read_text("utf-8"))
    content["environment"]["torch"] = "1.0"
    written.write_text(json.dumps(content), "utf-8")
    status, lines = golden.check(written, lambda: pytest.fail("it was worked out for nothing"))
    assert status == golden.NOT_COMPARABLE
    assert any(line.startswith("  torch: 1.0 there, ") for line in lines)
    assert golden.check(tmp_path / "none.json")[0] == golden.NOT_COMPARABLE


def test_golden_sees_numbers_and_not_names(tmp_path):
    one, other = torch.zeros(2, 3), torch.ones(4)
    assert golden.of_weights([one, other]) == golden.of_weights([other, one])
    assert golden.of_weights([one, other]) != golden.of_weights([one, torch.nextafter(other, 2 * other)])
    assert golden.of_arrays([one]) != golden.of_arrays([one.reshape(3, 2)])
    assert golden.of_arrays([np.zeros(4, np.float32)]) != golden.of_arrays([np.zeros(4, np.int32)])
    found = set()
    for number, (measured, value) in enumerate([("prob_a", 0.5), ("p(a)", 0.5), ("prob_a", 0.25)]):
        about = {"objectType": "tile", "classification": {"name": "a"}, "measurements": {measured: value}}
        features = [{"id": "1", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": about}]
        (path := tmp_path / f"{number}.geojson").write_text(json.dumps({"features": features}))
        found.add(golden.of_geojson(path))
    assert len(found) == 2


def test_golden_works_out_what_its_file_names():
    case = "features, several findings"  # the quickest
    assert golden.measure([case])[case].keys() == json.loads(golden.FILE.read_text("utf-8"))["digests"][case].keys()


OUTER = """
import a_tiny_package.inner as inner

def go():
    inner.Thing().act()
    return [f() for f in ()]
"""
INNER = """
import threading

class Thing:
    size = len([x for x in (1, 2)])

    def act(self):
        thread = threading.Thread(target=lambda: self.late())
        thread.start()
        thread.join()

    def late(self):
        from a_tiny_package import loaded
"""
LOADED = """
VALUE = (lambda: 1)()

class Never:
    pass

def unused():
    pass
"""


def test_hops_counts_modules_in_which_a_function_runs(tmp_path, monkeypatch):
    package = tmp_path / "a_tiny_package"
    package.mkdir()
    for name, text in {"__init__": "", "outer": OUTER, "inner": INNER, "loaded": LOADED}.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    before = sys.getprofile()
    counter = hops.Counter(package)
    try:
        outer = importlib.import_module("a_tiny_package.outer")
        whole = counter.count("whole", outer.go, goal=1)
        here = counter.count("here", outer.go, goal=2, here_alone=True)
    finally:
        counter.stop()
        sys.setprofile(before)
    assert whole.files == ("outer.py", "inner.py")
    assert whole.functions == ("outer.py: go", "inner.py: Thing.act", "inner.py: Thing.late")
    assert here.functions == ("outer.py: go", "inner.py: Thing.act")
    assert (whole.meets_goal, here.meets_goal) == (False, True)
    assert list(hops.lines_of(whole)) == [
        "whole: 2 modules, 3 functions, goal at most 1: MISSED",
        "    outer → inner",
    ]
