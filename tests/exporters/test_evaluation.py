"""The report of `evaluate` as CSV, Markdown and picture: what they say is what the JSON says."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from napari_distill2label.core.evaluation import Evaluation, SlideResult
from napari_distill2label.exporters.evaluation import (
    AREA_INK,
    LINE,
    evaluation_markdown,
    evaluation_picture,
    files_of_evaluation,
    slides_csv,
    write_evaluation,
)


@pytest.fixture
def reports():
    random = np.random.default_rng(0)
    slides = []
    for number in range(6):
        truth = random.random(50) < (0.5 if number % 2 else 0)
        score = (random.random(50) + truth) / 2
        slides.append(
            SlideResult(f"=s{number}", f"c{number}", bool(number % 2), 0.2 + 0.1 * number, truth, score, 0.01)
        )
    return {"baseline": Evaluation(slides, 0.5).report(), "student": Evaluation(slides, 0.7).report()}


def test_all_files_are_written_and_agree(reports, tmp_path):
    files = write_evaluation(tmp_path / "é.json", reports)
    assert files == files_of_evaluation(tmp_path / "é.json")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["é.csv", "é.json", "é.md", "é.png"]
    assert json.loads(files[0].read_text("utf-8")) == reports
    assert Image.open(files[3]).size == evaluation_picture(reports).size


def test_a_name_without_json_keeps_its_whole_name(tmp_path):
    names = [file.name for file in files_of_evaluation(tmp_path / "fold.0")]
    assert names == ["fold.0", "fold.0.csv", "fold.0.md", "fold.0.png"]


def test_a_row_for_each_network_and_slide(reports):
    rows = list(csv.DictReader(io.StringIO(slides_csv(reports))))
    assert [(row["network"], row["slide_id"]) for row in rows] == [
        (network, f"'=s{number}")
        for network in reports
        for number in range(6)  # no formula for a spreadsheet
    ]
    student = [row for row in rows if row["network"] == "student"]
    off = [float(row["called_share"]) - float(row["true_share"]) for row in student]
    assert np.mean(off) == pytest.approx(reports["student"]["area"]["bias"])
    assert float(student[1]["called_mm2"]) == pytest.approx(float(student[1]["called_share"]) * 50 * 0.01)


def test_markdown_names_every_figure_with_its_interval(reports):
    text = evaluation_markdown(reports)
    auroc = reports["student"]["patch"]["auroc"]
    low, high = reports["student"]["intervals"]["patch"]["auroc"]
    assert f"| `patch` | auroc | {auroc:.3f} | {low:.3f} to {high:.3f} | 300 |" in text
    assert text.count("| shipped |") == 2
    assert "| specificity 0.95\\* |" in text
    assert "Labels from 0.700 on" in text


def test_the_picture_shows_points_where_the_figures_are(reports):
    picture = np.asarray(evaluation_picture(reports))
    assert ((picture == LINE).all(-1)).sum() > 300  # points and lines
    assert ((picture == AREA_INK).all(-1)).sum() > 300  # limits of agreement
    one = np.asarray(evaluation_picture({"student": reports["student"]}))
    assert len(one) * 2 == len(picture)


def test_what_is_unknown_is_drawn_as_nothing():
    slides = [SlideResult("a", "a", True, 0.9, np.empty(0, bool), np.empty(0))]
    reports = {"student": Evaluation(slides).report()}
    assert evaluation_picture(reports).size[0] > 0
    assert "limits of agreement" not in evaluation_markdown(reports)
