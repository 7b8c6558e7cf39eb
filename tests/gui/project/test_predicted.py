"""What came of a prediction, in a line."""

from types import SimpleNamespace

import pytest

from napari_distill2label.gui.project.predicted import what_was_predicted


def session(failures, unreadable):
    ids = [f"img{number}" for number in range(30)]
    previews = {name: SimpleNamespace(reason="damaged" if name in unreadable else "") for name in ids}
    return SimpleNamespace(
        failures=dict.fromkeys(failures, "why"),
        cohort=[SimpleNamespace(slide_id=name, path=name) for name in ids],
    ), SimpleNamespace(get=lambda name, path: previews.get(name))


@pytest.mark.parametrize(
    ("failures", "unreadable", "expected"),
    [
        ([], [], "23 slides predicted"),
        (["img12"], ["img12"], "22 of 23 slides predicted. img12 could not be read."),
        (["img12", "img3"], [], "21 of 23 slides predicted. img3 and img12 could not be predicted."),
        (["img1", "img2", "img3"], ["img3"], "20 of 23 slides predicted. img3 could not be read. "
         "img1 and img2 could not be predicted."),
        (["img1", "img2", "img3"], [], "20 of 23 slides predicted. 3 slides could not be predicted."),
        (["img29"], ["img29"], "23 slides predicted"),  # it was not asked for
    ],
)  # fmt: skip
def test_predicted_and_not(failures, unreadable, expected):
    ids = [f"img{number}" for number in range(23)]
    count = 23 - len(set(failures) & set(ids))
    assert what_was_predicted(*session(failures, unreadable), count, ids) == expected


def test_one_slide():
    assert what_was_predicted(*session([], []), 1, ["img0"]) == "1 slide predicted"
