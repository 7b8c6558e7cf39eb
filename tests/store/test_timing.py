"""How long a run took is kept beside it, and nothing depends on it."""

import pytest
from pydantic import ValidationError

from napari_distill2label.store.timing import NAME, Timing


def test_in_and_out(tmp_path):
    timing = Timing(device="cpu", n_slides=3, n_patches=40, reading=1.5, epoch={"teacher": 0.25}, between=0.5)
    assert timing.write(tmp_path).name == NAME
    assert Timing.read(tmp_path) == timing


@pytest.mark.parametrize("text", ["", "[]", "{", '{"n_slides": 1}', '{"format": 2}', "[" * 99_999])
def test_what_cannot_be_read_is_none(tmp_path, text):
    (tmp_path / NAME).write_text(text)
    assert Timing.read(tmp_path) is None


def test_an_altered_figure_is_not_believed(tmp_path):
    path = Timing(device="cpu", n_slides=3, n_patches=40, reading=1.5).write(tmp_path)
    path.write_text(path.read_text().replace("1.5", "2.5"))
    assert Timing.read(tmp_path) is None


def test_no_nonsense():
    with pytest.raises(ValidationError):
        Timing(device="cpu", n_slides=3, n_patches=40, reading=float("nan"))
