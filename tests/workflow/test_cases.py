"""One label for all slides of a case: one bag in training, a map for each slide, a score for the case."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_distill2label.core.bag import Bag
from napari_distill2label.core.errors import CohortError, SettingsError
from napari_distill2label.core.events import drain
from napari_distill2label.core.notices import Notice, NoticeCode
from napari_distill2label.store.bundle import load_bundle
from napari_distill2label.store.cohort import Cohort, CohortSlide
from napari_distill2label.store.run import Run
from napari_distill2label.workflow.cases import CASE_TABLE, bags_of_cases, case_table, score_cases
from napari_distill2label.workflow.commands.evaluate import evaluate
from napari_distill2label.workflow.commands.predict import predict
from napari_distill2label.workflow.commands.prepare_dataset import prepare_dataset
from napari_distill2label.workflow.commands.train import train

N_CASES = 6


@pytest.fixture(scope="module")
def case_csv(cohort_csv, tmp_path_factory) -> Path:
    """The ten drawn slides as cases of two: P0 and P1 in turn negative and positive, the label in one row of each.

    A positive case has one drawn positive slide and a negative one, which is what a label of a case means.
    """
    rows = list(Cohort.read(cohort_csv))
    positive, negative = ([row for row in rows if row.label == name] for name in ("tumour", "normal"))
    made = [cohort_csv.parent / "truth.csv"]
    folder = tmp_path_factory.mktemp("cases")
    lines = ["slide_id,path,label,case_id,split"]

    def add(row, label, case, split):
        lines.append(f"{row.slide_id},{row.path},{label},{case},{split}")

    for number, split in enumerate(("train", "test")):
        add(positive[number], "tumour", f"P{number}", split)
        add(negative[number], "", f"P{number}", "")
    add(negative[2], "normal", "N0", "train")
    add(negative[3], "", "N0", "")
    add(negative[4], "normal", "N1", "test")
    add(positive[2], "tumour", "P2", "valid")
    path = folder / "cohort.csv"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    shutil.copy(made[0], folder / "truth.csv")
    return path


@pytest.fixture(scope="module")
def case_run(case_csv, tiny, tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("run of cases") / "run"
    return drain(train(Cohort.read(case_csv), folder, tiny(bag="case"), baseline=True))


def test_a_run_on_cases_says_so_and_counts_them(case_run):
    for network in case_run.models:
        bundle = load_bundle(case_run.bundle(network))
        assert (bundle.config.bag, bundle.config.n_train, bundle.config.n_valid) == ("case", 2, 1)
        card = (bundle.path / "card.md").read_text("utf-8")
        assert "2 cases; epoch 1, 1 cases to choose it" in card
        assert bundle.identity["bag"] == "case"
    assert sorted(row.slide_id for row in case_run.cohort.in_split("train")) == sorted(
        row.slide_id for row in case_run.cohort if row.case_id in ("P0", "N0")
    )
    assert {row.label for row in case_run.cohort if row.case_id == "P0"} == {"tumour"}


def test_it_is_resumed_by_the_table_it_was_made_from_and_no_other(case_run, case_csv, tiny, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(case_run.folder, folder)
    case_run.cohort.write(folder / "cohort.csv")
    run = drain(train(Cohort.read(case_csv), folder, tiny(bag="case", student={"epochs": 2}), resume=True))
    assert load_bundle(run.bundle("student")).config.bag == "case"
    with pytest.raises(SettingsError, match="other bag settings"):
        drain(train(Cohort.read(case_csv), folder, tiny(), resume=True))


def test_every_slide_gets_a_map_and_the_case_one_score(case_run, case_csv, tmp_path, table):
    cohort = Cohort.read(case_csv)
    maps = drain(predict(case_run, cohort, tmp_path / "out", formats=("csv",)))
    by_id = {own.slide_id: own for own in maps}
    assert set(by_id) == {row.slide_id for row in cohort}
    rows = {row["case_id"]: row for row in table(tmp_path / "out" / CASE_TABLE)}
    assert set(rows) == {"P0", "P1", "P2", "N0", "N1"}
    for case, slides in cohort.by_case.items():
        highest = max(by_id[row.slide_id].bag_probability[1] for row in slides)
        assert float(rows[case]["case_prob_tumour"]) == pytest.approx(highest, rel=1e-4)
        assert (int(rows[case]["slides"]), rows[case]["slides_failed"]) == (len(slides), "0")


def test_without_results_no_table_is_written(case_run, case_csv, tmp_path):
    drain(predict(case_run, Cohort.read(case_csv), tmp_path, formats=()))
    assert not (tmp_path / CASE_TABLE).exists()


def test_a_model_of_slides_writes_no_table_of_cases(trained, cohort_csv, tmp_path):
    drain(predict(Run.open(trained), Cohort.read(cohort_csv), tmp_path / "out", formats=("csv",)))
    assert not (tmp_path / "out" / CASE_TABLE).exists()


def test_evaluate_calls_cases(case_run, case_csv):
    found = drain(evaluate(case_run, Cohort.read(case_csv), case_csv.with_name("truth.csv")))
    for network in case_run.models:
        assert found[network]["slide"]["n"] == 2  # P1 and N1, of three slides
        assert len(found[network]["slides"]) == 3


def test_a_case_that_lacks_a_slide_is_no_case_in_evaluate(case_run, case_csv, tmp_path, collect):
    """Its highest slide may be the one that is not there."""
    cohort = Cohort.read(case_csv)
    lost = next(row for row in cohort if row.case_id == "P1")
    rows = [replace(row, path=tmp_path / "gone.png") if row is lost else row for row in cohort]
    events, found = collect(evaluate(case_run, cohort.with_slides(rows), case_csv.with_name("truth.csv"), split="all"))
    (notice,) = [own for own in events if isinstance(own, Notice) and own.code == NoticeCode.CASE_NOT_SCORED]
    assert notice.values == {"case": "P1", "n": 1, "total": 2}
    for network in case_run.models:
        assert found[network]["incomplete_cases"] == ["P1"]
        assert found[network]["slide"]["n"] == 4
        assert sum(own["n"] for own in found[network]["reliability"]["slide"]) == 4
        assert [row["case_id"] for row in found[network]["slides"]].count("P1") == 1  # its patches count


def test_two_labels_of_a_case_stop_a_training_in_one_line(case_csv, tiny, tmp_path, refused, flags):
    path = tmp_path / "cohort.csv"
    text = case_csv.read_text("utf-8").replace(",,N0,", ",tumour,N0,")
    path.write_text(text, "utf-8")
    with pytest.raises(CohortError, match="Case 'N0' has two labels"):
        drain(train(Cohort.read(path), tmp_path / "run", tiny(bag="case")))
    said = refused("train", path, "-o", tmp_path / "run", "--bag", "case", *flags)
    assert "Case 'N0' has two labels" in said
    assert "--bag slide" in said
    assert not (tmp_path / "run").exists()


def test_the_command_line_trains_on_cases(case_csv, tmp_path, cli, flags, config_of):
    status, _, err = cli("train", case_csv, "-o", tmp_path / "run", "--bag", "case", *flags)
    assert status == 0, err
    assert config_of(tmp_path / "run" / "student")["n_train"] == 2


# ---- a slide that cannot be read -----------------------------------------------------------------------------------


def bag(slide_id, label, case):
    return Bag(slide_id, np.zeros((3, 4), np.float32), np.zeros((3, 2), np.int64), (label,), case_id=case)


def rows_and_bags(label):
    rows = [CohortSlide(name, Path(name), "x", "P1") for name in "abc"]
    return rows, {name: bag(name, label, "P1") for name in "ab"}


def test_a_positive_case_without_one_of_its_slides_is_left_out(collect):
    """The finding may be in that one."""
    events, found = collect(bags_of_cases(*rows_and_bags(1)))
    assert found == []
    notice = next(event for event in events if isinstance(event, Notice))
    assert notice.code == NoticeCode.CASE_INCOMPLETE
    assert str(notice) == (
        "Case 'P1' is left out: 1 of its 3 slides could not be read, and its label may be of that one."
    )


def test_a_negative_case_without_one_of_its_slides_is_still_negative(collect):
    events, (found,) = collect(bags_of_cases(*rows_and_bags(0)))
    assert events == []
    assert found.parts == (("a", 3), ("b", 3))


def test_a_case_of_one_slide_is_that_slide(collect):
    own = bag("a", 1, "P1")
    assert collect(bags_of_cases([CohortSlide("a", Path("a"), "x", "P1")], {"a": own}))[1] == [own]


def test_a_case_says_which_of_its_slides_it_lacks(make_patch_map):
    patch_map = make_patch_map((60, 60), size_px=20)
    patch_map.finish([0.8, 0.2])
    rows = [CohortSlide(name, Path(name), None, "P1") for name in (patch_map.slide_id, "lost")]
    (found,) = score_cases(rows, {patch_map.slide_id: patch_map})
    assert found.probability == [0.8, 0.2]
    assert (found.slides, found.missing) == ((patch_map.slide_id,), ("lost",))
    assert score_cases(rows, {})[0].probability is None


def test_a_slide_cannot_take_the_name_of_the_table(tmp_path):
    with pytest.raises(SettingsError, match="rename the slide"):
        case_table(tmp_path, [tmp_path / CASE_TABLE])


# ---- real tissue ---------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_colon_images_in_pairs(data_dir, tiny, tmp_path, collect):
    """Positive cases: an image with epithelium and one without. Every image has a map, every case a score."""
    from napari_distill2label.core.inputs import Inputs

    described = drain(prepare_dataset("colon", data_dir / "colon", tmp_path / "colon"))
    rows = list(Cohort.read(described))
    with_finding, without = ([row for row in rows if row.label == name] for name in ("epithelial", "normal"))
    table = ["slide_id,path,label,case_id"]
    for number in range(N_CASES):
        table.append(f"{with_finding[number].slide_id},{with_finding[number].path},epithelial,P{number}")
        table.append(f"{without[number].slide_id},{without[number].path},,P{number}")
        table.append(f"{without[N_CASES + number].slide_id},{without[N_CASES + number].path},normal,N{number}")
    path = tmp_path / "cohort.csv"
    path.write_text("\n".join(table) + "\n", "utf-8")
    cohort, inputs = Cohort.read(path), Inputs(centres=described.with_name("centres.csv"))
    settings = tiny(bag="case", split={"valid": 0.2, "test": 0.2})
    events, run = collect(train(cohort, tmp_path / "run", settings, inputs=inputs))
    assert not [event for event in events if isinstance(event, Notice) and event.code == NoticeCode.CASE_INCOMPLETE]
    maps = drain(predict(run, cohort, tmp_path / "out", formats=("csv",), inputs=inputs))
    assert len(maps) == len(cohort) == 3 * N_CASES
    assert len((tmp_path / "out" / CASE_TABLE).read_text("utf-8").splitlines()) == 1 + 2 * N_CASES
