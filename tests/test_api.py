"""`d2l.train(…)` and its like: one line each, the result returned, progress on stderr."""

import ast
import inspect
import subprocess
import sys

import pytest

import napari_distill2label as d2l
from napari_distill2label import api
from napari_distill2label.core.events import ItemDone, Progress, Task

COMMANDS = (
    "demo", "draw_sample", "evaluate", "export", "export_model", "extract_features", "predict", "prepare_dataset",
    "recalibrate", "segment_tissue", "train",
)  # fmt: skip
SMALL = {
    "architecture": {"hidden_dim": 16, "attention_dim": 8}, "device": "cpu",
    "teacher": {"epochs": 1}, "oof": {"epochs": 1}, "student": {"epochs": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def run(synthetic_cohort, tmp_path_factory):
    """A run trained as a script would."""
    cohort = d2l.Cohort.read(synthetic_cohort)
    few = cohort.with_slides(list(cohort)[:6])
    return d2l.train(few, tmp_path_factory.mktemp("api") / "run", d2l.build_settings("colon", overrides=SMALL))


def test_a_script_of_one_line_each(run, synthetic_cohort, tmp_path, capfd):
    assert isinstance(run, d2l.Run)
    assert run.models == ("teacher", "student")
    cohort = d2l.Cohort.read(synthetic_cohort)
    two = cohort.with_slides(list(cohort)[:2])
    maps = d2l.predict(run, two, tmp_path / "out", formats=["csv"])
    assert [type(patch_map) for patch_map in maps] == [d2l.PatchMap] * 2
    assert (tmp_path / "out" / "slide_000.csv").is_file()
    files = d2l.export(maps, tmp_path / "more", ["geojson"])
    assert [file.name for file in files] == ["slide_000.geojson", "slide_001.geojson"]
    metrics = d2l.evaluate(run, two, synthetic_cohort.with_name("truth.csv"), split="all")
    assert set(metrics) == {"teacher", "student"}
    bundle = d2l.load_bundle(run.bundle("student"))
    in_memory = d2l.predict(bundle, [two.slides[0].path])
    assert in_memory[0].probability.shape == maps[0].probability.shape
    assert capfd.readouterr().out == ""  # a script's stdout is its own


def test_failures_are_shown_and_the_rest_returned(run, synthetic_cohort, tmp_path, capfd):
    good = d2l.Cohort.read(synthetic_cohort).slides[0].path
    maps = d2l.predict(run, [tmp_path / "gone.png", good])
    assert [patch_map.slide_id for patch_map in maps] == ["slide_000"]
    assert "failed: gone: " in capfd.readouterr().err


def test_errors_are_the_package_s_own(tmp_path):
    with pytest.raises(d2l.Distill2LabelError, match=r"no settings\.json"):
        d2l.predict(tmp_path, [tmp_path / "a.png"])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_verb_has_the_signature_and_words_of_its_generator(name):
    verb = getattr(d2l, name)
    assert verb is getattr(api, name)
    assert inspect.isgeneratorfunction(inspect.unwrap(verb))
    assert not inspect.isgeneratorfunction(verb)
    assert inspect.signature(verb) == inspect.signature(inspect.unwrap(verb))
    assert verb.__doc__.startswith(inspect.unwrap(verb).__doc__)
    assert "progress bar" in verb.__doc__


def test_an_interrupted_verb_closes_its_generator(monkeypatch):
    closed = []

    def work():
        try:
            yield Progress(Task.EXPORT, 1, 2)
            yield ItemDone("never")
        finally:
            closed.append(True)

    def stop(self, event):
        raise KeyboardInterrupt

    monkeypatch.setattr(api.ProgressBar, "show", stop)
    with pytest.raises(KeyboardInterrupt):
        api._drained(work)()
    assert closed == [True]


def test_the_verb_export_is_not_the_room_of_that_name():
    from napari_distill2label.exporters.formats import FORMATS

    assert set(FORMATS) >= {"csv", "geojson", "ome-tiff", "png"}
    assert d2l.export is api.export
    assert d2l.doctor()


def test_using_the_api_needs_no_window():
    code = (
        "import napari_distill2label as d2l; d2l.train; d2l.predict; d2l.Cohort; d2l.load_bundle; import sys;"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'napari', 'qtpy', 'PyQt6', 'PySide6'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_type_checkers_and_editors_know_every_public_name():
    """An import without an alias is private to them, and `__all__` is computed."""
    tree = ast.parse(inspect.getsource(d2l))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    found = {
        each.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for each in node.names
        if each.name == each.asname
    }
    assert found == d2l._HOMES
