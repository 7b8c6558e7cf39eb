"""The sample that is being labelled: which patch comes next, and what is in its file."""

import pytest

from napari_distill2label.gui.project.project import Project
from napari_distill2label.gui.project.random_sample import RandomSample
from napari_distill2label.gui.runner.reader import BackgroundReader
from napari_distill2label.store.sample import Sample, SampledPatch, read_sample, write_sample


def raised(error):
    raise error


@pytest.fixture
def sample(tmp_path):
    """Five patches, the first two of them labelled."""
    labels = ["normal", "tumour", "", "", ""]
    drawn = Sample(tuple(SampledPatch("s", 10.0 * at, 5.0, label) for at, label in enumerate(labels)), 3, 100)
    path = write_sample(tmp_path / "sample.csv", drawn)
    made = RandomSample(Project(), BackgroundReader(lambda: False))
    made.begin(path, drawn, ("s",))
    return made


def test_patches_are_labelled_from_the_top_and_none_is_passed_over(sample):
    assert sample.n_labelled == 2
    assert sample.current is None
    sample.go_to(4)
    assert sample.position == 2  # the first without a label
    sample.label("tumour")
    sample.go_to(0)
    assert sample.current.label == "normal"
    sample.go_to(-3)
    assert sample.position == 0
    assert sample.n_labelled == 3
    sample.clear()
    assert (sample.path, sample.patches, sample.n_labelled, sample.current) == (None, (), 0, None)


def test_the_newest_labels_stay_in_the_file(sample):
    sample.go_to(2)
    sample.label("normal")
    sample.label("tumour")
    assert sample.unsaved
    sample.save_soon(raised)
    assert not sample.unsaved
    assert read_sample(sample.path).patches[2].label == "tumour"
    sample.label("normal")
    assert sample.unsaved
    sample.flush()
    assert not sample.unsaved
    assert read_sample(sample.path) == sample.sample


def test_another_label_makes_a_measurement_old(sample):
    sample.set_report("what it said")
    sample.go_to(0)
    assert sample.report == "what it said"
    sample.label("tumour")
    assert sample.report is None
