import os
from pathlib import Path

import pytest

from napari_distill2label.core.errors import CohortError
from napari_distill2label.core.settings import SplitSettings
from napari_distill2label.store import same_files as module
from napari_distill2label.store.cohort import Cohort, CohortSlide
from napari_distill2label.store.same_files import same_files, with_files_in_one_case
from napari_distill2label.store.splits import with_splits


def slide(name, path, label="normal", case=None, split=None):
    return CohortSlide(name, path, label, case or name, None, split)


def groups(slides):
    return sorted(sorted(slide.slide_id for slide in group) for group in same_files(slides))


@pytest.fixture
def files(tmp_path):
    """a.svs; links to it; a copy of it; others of its size."""
    (tmp_path / "a.svs").write_bytes(b"a" * 200_000)
    (tmp_path / "link.svs").symlink_to("a.svs")
    os.link(tmp_path / "a.svs", tmp_path / "hard.svs")
    (tmp_path / "copy.svs").write_bytes(b"a" * 200_000)
    (tmp_path / "middle.svs").write_bytes(b"a" * 100_000 + b"b" + b"a" * 99_999)
    (tmp_path / "end.svs").write_bytes(b"a" * 199_999 + b"b")
    (tmp_path / "longer.svs").write_bytes(b"a" * 200_001)
    (tmp_path / "empty1.svs").write_bytes(b"")
    (tmp_path / "empty2.svs").write_bytes(b"")
    return tmp_path


def test_links_and_copies_are_one_file_and_others_are_not(files):
    slides = [slide(path.stem, path) for path in sorted(files.glob("*.svs"))]
    slides.append(slide("dots", files / ".." / files.name / "a.svs"))
    assert groups(slides) == [["a", "copy", "dots", "hard", "link"]]


def test_large_files_are_compared_in_many_places(files, monkeypatch):
    monkeypatch.setattr(module, "WHOLE", 100_000)
    assert groups([slide(name, files / f"{name}.svs") for name in ("a", "copy", "middle", "end")]) == [["a", "copy"]]


def test_what_is_not_there_is_like_its_own_path_alone(tmp_path):
    url = "https://host/a.zarr"
    folder = tmp_path / "x.zarr"
    folder.mkdir()
    slides = [
        slide("a", tmp_path / "gone.svs"), slide("b", tmp_path / "gone.svs"), slide("c", tmp_path / "gone2.svs"),
        slide("d", url), slide("e", url), slide("f", url + "x"), slide("g", folder), slide("h", folder),
    ]  # fmt: skip
    assert groups(slides) == [["a", "b"], ["d", "e"], ["g", "h"]]


def test_one_file_under_two_ids_is_one_case_and_this_is_said(files):
    rows = [
        slide("a", files / "a.svs"),
        slide("b", files / "copy.svs", "tumour", "P2"),
        slide("c", files / "end.svs", "tumour", "P2"),
    ]
    rows.append(slide("u", files / "link.svs", None, "P9"))
    cohort = Cohort(tuple(rows), ("normal", "tumour"))
    joined = with_files_in_one_case(cohort)
    assert [row.case_id for row in joined] == ["a", "a", "a", "P9"]  # without a label it is in no split
    assert tuple(map(str, joined.notices)) == (
        "1 file is listed under more than one id; each counts as one case: 'a' = 'b'.",
        "1 of these files has two labels, as 'a' (normal) and 'b' (tumour). Correct one, or delete a row.",
    )
    apart = Cohort((rows[0], rows[2]), ("normal", "tumour"))
    assert with_files_in_one_case(apart) is apart


def test_one_file_in_two_splits_is_an_error(files):
    rows = (slide("a", files / "a.svs", split="train"), slide("b", files / "link.svs", split="test"))
    with pytest.raises(
        CohortError, match=r"^slides 'a' \(train\) and 'b' \(test\) are the same file, .*a\.svs: delete"
    ):
        with_files_in_one_case(Cohort(rows, ("normal", "tumour")))


def test_no_split_divides_a_file(tmp_path):
    rows = []
    for i in range(24):
        path = tmp_path / f"{i}.png"
        path.write_bytes(bytes([i // 2]) * 1000)  # pairs of copies
        rows.append(slide(f"s{i}", path, "tumour" if i // 2 % 2 else "normal"))
    cohort = with_files_in_one_case(Cohort(tuple(rows), ("normal", "tumour")))
    split = {row.slide_id: row.split for row in with_splits(cohort, SplitSettings(), 0)}
    assert {split.get(f"s{i}") for i in range(24)} == {"train", "valid", "test"}
    assert all(split[f"s{i}"] == split[f"s{i + 1}"] for i in range(0, 24, 2))


def test_a_file_that_cannot_be_read_is_like_none(files, monkeypatch):
    def refuse(path, size):
        raise OSError("gone")

    monkeypatch.setattr(module, "_digest_of_ends", refuse)
    assert groups([slide("a", files / "a.svs"), slide("b", files / "copy.svs")]) == []
    assert groups([slide("a", Path("a\0b")), slide("b", Path("a\0c"))]) == []
