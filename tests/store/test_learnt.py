"""Which slides a run learnt from: the same pixels and the same patients, under whatever ids."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from napari_distill2label.core.events import drain
from napari_distill2label.core.settings import Settings
from napari_distill2label.store import learnt as module
from napari_distill2label.store.cohort import Cohort, CohortSlide
from napari_distill2label.store.learnt import (
    LearntSlides,
    content_signature,
    has_signatures,
    iter_sign_slides,
    write_signatures,
)
from napari_distill2label.store.run import Run, RunConfig


@pytest.fixture
def make(tmp_path):
    """`make("a.bin", seed, size)` -> a file of random bytes."""

    def write(name, seed=0, size=1000):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(np.random.default_rng(seed).bytes(size))
        return path

    return write


@pytest.mark.parametrize("size", [0, 1000, module.WHOLE, module.WHOLE + 12345])
def test_a_copy_has_the_signature_and_another_file_has_not(make, tmp_path, size):
    own = make("own", 0, size)
    copy = shutil.copy(own, tmp_path / "copy.tif")
    os.utime(copy, (1, 1))
    assert content_signature(own) == content_signature(copy)
    assert content_signature(make("longer", 0, size + 1)) != content_signature(own)
    if size:
        assert content_signature(make("other", 1, size)) != content_signature(own)


def test_large_files_are_told_by_pieces_all_over_them(make):
    path = make("large", 0, 3 * module.WHOLE)
    own = content_signature(path)
    for at in (0, 3 * module.WHOLE - 1):
        with path.open("r+b") as file:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 1]))
        assert content_signature(path) != own
        own = content_signature(path)


def test_folders(make, tmp_path):
    for number in range(100):
        make(f"a.zarr/{number // 10}/{number}", number)
    own = content_signature(tmp_path / "a.zarr")
    shutil.copytree(tmp_path / "a.zarr", tmp_path / "elsewhere" / "b.zarr")
    assert content_signature(tmp_path / "elsewhere" / "b.zarr") == own
    make("a.zarr/0/1", 1, 999)
    assert content_signature(tmp_path / "a.zarr") != own


def test_what_is_not_there_has_none(tmp_path):
    assert content_signature(tmp_path / "gone") is None
    assert content_signature("https://localhost:1/a.zarr") is None
    (tmp_path / "empty.zarr").mkdir()
    assert content_signature(tmp_path / "empty.zarr") is None


@pytest.fixture
def run(make, tmp_path):
    """A run that learnt from a, b, c (c has a case of its own) and was not shown t."""
    rows = [
        CohortSlide("a", make("a"), "normal", "P1", split="train"),
        CohortSlide("b", make("b", 1), "tumour", "P2", split="valid"),
        CohortSlide("c", make("c", 2), "tumour", "c", split="train"),
        CohortSlide("t", make("t", 3), "tumour", "P3", split="test"),
        CohortSlide("u", make("u", 4), None, "P1"),
    ]
    config = RunConfig(settings=Settings(), classes=("normal", "tumour"))
    return Run.create(tmp_path / "run", config, Cohort(tuple(rows)))


@pytest.mark.parametrize("kept", [True, False])
def test_why(run, make, tmp_path, kept):
    if kept:
        write_signatures(run, drain(iter_sign_slides(run.cohort)))
    assert has_signatures(run) == kept
    learnt = LearntSlides.of(run)
    assert learnt.n_unsigned == 0
    new = CohortSlide("n", make("n", 9), "tumour", "P9")
    copy = shutil.copy(tmp_path / "b", tmp_path / "renamed")
    cases = {
        "own": run.cohort["a"],
        "file": replace(new, path=tmp_path / "renamed"),
        "patient": replace(new, case_id="P2"),
        None: run.cohort["t"],
    }
    assert os.path.exists(copy)
    assert {why: learnt.reason(row) for why, row in cases.items()} == {why: why for why in cases}
    assert learnt.reason(new) is None
    assert learnt.reason(replace(new, slide_id="a")) is None  # another slide that has its id by chance
    assert learnt.reason(replace(new, case_id="c")) == "patient"
    assert learnt.reason(replace(new, slide_id="P1", case_id="P1")) == "patient"
    assert learnt.reason(run.cohort["u"]) == "patient"
    assert learnt.reason(replace(new, case_id=" p1")) == "patient"  # as a cohort spells cases
    assert learnt.reason(replace(new, slide_id="p2", case_id="p2")) == "patient"
    assert learnt.reason(replace(new, case_id="C")) == "patient"


@pytest.mark.parametrize(("slide_id", "case_id"), [("c", "c"), ("c", "P9"), ("a", "a")])
def test_another_file_under_the_same_id_is_the_same_slide_unless_both_cases_are_told(run, make, slide_id, case_id):
    """A slide that was converted, or made anonymous, is another file."""
    row = CohortSlide(slide_id, make("n", 9), "tumour", case_id)
    assert LearntSlides.of(run).reason(row) == "id"


def test_without_files_ids_and_patients_are_compared(run, make, tmp_path):
    for name in "abc":
        (tmp_path / name).unlink()
    learnt = LearntSlides.of(run)
    assert learnt.n_unsigned == 3
    new = CohortSlide("n", make("n", 9), "tumour", "P9")
    assert learnt.reason(new) is None
    assert learnt.reason(replace(new, slide_id="a")) == "id"
    assert learnt.reason(replace(new, case_id="P1")) == "patient"
    assert learnt.reason(replace(new, slide_id="c", case_id="c", path=tmp_path / "gone")) == "id"


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"signatures": 3}', "[" * 99_999, '{"signatures": {"a": []}}'])
def test_a_record_that_cannot_be_read_is_as_none(run, text):
    (run.folder / module.FILE).write_text(text)
    assert LearntSlides.of(run).reason(run.cohort["a"]) == "own"
