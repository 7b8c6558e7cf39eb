"""Copies that are not the same file are in no two splits."""

import csv
import os

import numpy as np
import pytest
from PIL import Image

from napari_distill2label.core.errors import CohortError
from napari_distill2label.core.events import drain
from napari_distill2label.core.notices import Notice, NoticeCode
from napari_distill2label.slides.synthetic import write_cohort
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.workflow.commands.train import train
from napari_distill2label.workflow.look_alikes import look_alikes


@pytest.fixture
def copied(tmp_path):
    """`copied(splits=False)` -> a cohort of 8 slides and a ninth that is the first, turned and saved as JPEG."""

    def make(splits=False):
        import tifffile

        table = write_cohort(tmp_path / "cohort", 8, seed=1, shape=(128, 192))
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        pixels = tifffile.imread(table.parent / rows[0]["path"])
        Image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(tmp_path / "cohort" / "turned.jpg", quality=80)
        copy = rows[0] | {"slide_id": "turned", "path": "turned.jpg", "case_id": "another", "mpp": "0.5"}
        for row in rows:
            row["split"] = "train" if splits else ""
            row["mpp"] = "0.5"
        copy["split"] = "test" if splits else ""
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(copy))
            writer.writeheader()
            writer.writerows([*rows, copy])
        return Cohort.read(table)

    return make


def ids(groups):
    return [[slide.slide_id for slide in group] for group in groups]


def test_a_copy_is_in_the_split_of_its_slide(copied, tmp_path, tiny):
    cohort, events = copied(), []
    first = cohort.slides[0].slide_id
    run = drain(train(cohort, tmp_path / "run", tiny()), events.append)
    (said,) = (e for e in events if isinstance(e, Notice) and e.code is NoticeCode.SAME_PICTURES)
    assert said.values == {"groups": [[first, "turned"]]}
    assert run.cohort[first].case_id == run.cohort["turned"].case_id
    assert run.cohort[first].split == run.cohort["turned"].split


def test_a_table_that_divides_them_is_refused_before_anything_is_written(copied, tmp_path, tiny):
    with pytest.raises(CohortError, match=r"\(train\) and 'turned' \(test\) show the same picture, perhaps turned"):
        drain(train(copied(splits=True), tmp_path / "run", tiny()))
    assert not [path for path in (tmp_path / "run").rglob("*") if not path.name.startswith(".")]


def test_two_labels_of_one_picture_are_said(copied, tmp_path, tiny):
    from dataclasses import replace

    cohort, events = copied(), []
    *others, last = cohort.slides
    other = next(slide.label for slide in others if slide.label != last.label)
    drain(train(cohort.with_slides([*others, replace(last, label=other)]), tmp_path / "run", tiny()), events.append)
    (said,) = (e for e in events if isinstance(e, Notice) and e.code is NoticeCode.SAME_PICTURE_TWO_LABELS)
    assert said.values["other"] == "turned"


def test_slides_that_are_one_file_are_looked_at_once(copied):
    cohort = copied()
    copy = cohort["turned"].path
    os.link(copy, copy.with_name("again.jpg"))
    from dataclasses import replace

    again = replace(cohort["turned"], slide_id="again", path=copy.with_name("again.jpg"))
    assert ids(drain(look_alikes([*cohort.slides, again]))) == [[cohort.slides[0].slide_id, "turned"]]


def test_three_alike_are_one_group_and_what_cannot_be_read_is_in_none(copied):
    from dataclasses import replace

    cohort = copied()
    copy = cohort["turned"].path
    Image.open(copy).reduce(2).save(copy.with_name("small.png"))
    gone = replace(cohort["turned"], slide_id="gone", path=copy.with_name("gone.jpg"))
    away = replace(cohort["turned"], slide_id="away", path="https://host.invalid/a.zarr")
    small = replace(cohort["turned"], slide_id="small", path=copy.with_name("small.png"))
    events = []
    found = drain(look_alikes([gone, away, *cohort.slides, small]), events.append)
    assert ids(found) == [[cohort.slides[0].slide_id, "turned", "small"]]
    assert events
