"""The file of a random sample."""

import pytest

from napari_distill2label.core.errors import CohortError
from napari_distill2label.store.sample import Sample, SampledPatch, drawn, read_sample, write_sample

PATCHES = (SampledPatch("=S-1", 13.5, 40.25, "tumour"), SampledPatch("S, 2", 0.0, 7.0))


def test_what_is_written_is_read(tmp_path):
    sample = Sample(PATCHES, 3, 900)
    assert read_sample(write_sample(tmp_path / "sample.csv", sample)) == sample


def test_numbers_are_drawn_at_random_without_repeats_and_begin_alike():
    numbers = drawn(50, 200, 0)
    assert len(set(numbers)) == 50
    assert set(numbers) <= set(range(200))
    assert numbers[:20] == drawn(20, 200, 0)
    assert numbers != drawn(50, 200, 1)
    assert sorted(drawn(9, 5, 0)) == list(range(5))
    counts = [sum(number in drawn(10, 40, seed) for seed in range(400)) for number in range(40)]
    assert 60 < min(counts) < 100 < max(counts) < 145  # each 100 times of 400, ± 4 deviations


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("of 900", "of 90", 1), "is no random sample"),
        (lambda text: text.replace("seed 3", "mine"), "is no random sample"),
        (lambda text: text.replace("40.25", "far"), "are no numbers"),
        (lambda text: text.replace("sample\n", "drawn\n"), "has no column 'sample'"),
    ],
)
def test_a_changed_file_is_refused(tmp_path, change, message):
    path = write_sample(tmp_path / "sample.csv", Sample(PATCHES, 3, 900))
    path.write_text(change(path.read_text("utf-8")), "utf-8")
    with pytest.raises(CohortError, match=message):
        read_sample(path)
