"""Transfer: from drawn images in the published layout to tables, and the differences by hand."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.__main__ import main
from experiments.promise import measure
from experiments.transfer import Cell, _Measured
from experiments.transfer_report import BASELINE, Measured, differences, read_cells, rows_of, write_report
from napari_distill2label.core.evaluation import Evaluation, SlideResult
from napari_distill2label.store.run import Run

from .conftest import COUNT, EMPTY


@pytest.fixture(scope="module")
def published(publish_set, tmp_path_factory):
    """Two sets of drawn images, `colon` and `consep`."""
    random, root = np.random.default_rng(0), tmp_path_factory.mktemp("sets")
    publish_set(root / "colon", random)
    publish_set(root / "consep", random, first=101)
    return root


def test_from_the_command_line_and_again(published, tmp_path, capsys):
    arguments = ["transfer", "--data", str(published), "-o", str(tmp_path / "out"), "--quick", "--test", "consep"]
    assert main([*arguments, "--patches", "nucleus"]) == 0
    frame = pd.read_csv(tmp_path / "out" / "transfer.csv")
    assert set(frame.network) == {"baseline", "teacher", "student", "supervised"}
    assert set(frame.set) == {"colon", "consep"}
    run = Run.open(tmp_path / "out" / "runs" / "colon-nucleus-fold0-seed0")
    tested = run.cohort.in_split("test")
    assert (frame[frame.set == "colon"].n_slides == len(tested)).all()
    assert (frame[frame.set == "consep"].n_slides == COUNT).all()
    assert f"img{EMPTY}" not in {row.slide_id for row in run.cohort}
    student = frame[(frame.network == "student") & (frame.set == "colon")].iloc[0]
    assert 0 < student.true_prior < 1
    assert student.true_prior == pytest.approx(10 / 22, abs=0.05)  # of 22 nuclei 10 are epithelial; some overlap
    assert student.seconds > 0
    assert frame[frame.network == "supervised"].slide_ece.isna().all()
    text = capsys.readouterr().out
    assert "## colon → CoNSeP: 27 px around nuclei" in text
    assert "| recommended student | 1 |" in text

    # What is there is not done again; another set is an experiment more.
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
    assert main([*arguments, "--patches", "nucleus"]) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept

    assert main(["promise", "--data", str(tmp_path / "out"), "-o", str(tmp_path / "promise"), "--quick"]) == 0
    promises = pd.read_csv(tmp_path / "promise" / "promise.csv")
    assert "drawn slides" in set(promises.data)
    assert any("CoNSeP" in name for name in promises.data)  # six negative images: a risk of .2 needs four

    assert main(["corrections", "--data", str(tmp_path / "out"), "-o", str(tmp_path / "worth"), "--quick"]) == 0
    worth = pd.read_csv(tmp_path / "worth" / "corrections.csv")
    assert set(worth["size"]) == {30, 50, 100}
    assert set(worth.set) == {"colon", "consep"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--train", "mnist"], "unknown set 'mnist'"),
        (["--train", "glas", "--patches", "grid"], "GlaS has areas of glands"),
        (["--only", "colon-nucleus-fold9-seed0"], "there is no cell"),
    ],
)
def test_what_is_not_possible_is_said(published, tmp_path, capsys, arguments, said):
    assert main(["transfer", "--data", str(published), "-o", str(tmp_path), *arguments]) == 2
    assert said in capsys.readouterr().err


# ---- the report ----------------------------------------------------------------------------------------------------


def evaluation(strength, seed, threshold=0.5):
    random, slides = np.random.default_rng(seed), []
    for number in range(12):
        positive = number % 2 == 1
        truth = random.random(80) < (0.5 if positive else 0)
        score = 1 / (1 + np.exp(-(random.normal(size=80) + strength * truth)))
        slides.append(SlideResult(f"s{number}", f"c{number}", positive, 0.1 + 0.8 * positive, truth, score))
    return Evaluation(slides, threshold)


def cell(fold, seed, **networks):
    about = {"train": "colon", "patches": "nucleus", "fold": fold, "seed": seed, "seconds": 60.0, "prior": 0.5}
    return _Measured(about | {"true_prior": 0.4}, {("consep", name): own for name, own in networks.items()})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "cells").mkdir()
    for seed in range(2):
        own = cell(0, seed, baseline=evaluation(1, 0), student=evaluation(3, 0, 0.7))
        (tmp_path / "cells" / f"colon-nucleus-fold0-seed{seed}-recommended.npz").write_bytes(own.to_npz())
    return tmp_path


def test_cells_come_back_as_they_were(folder):
    found = {(own.about["seed"], own.network): own.evaluation for own in read_cells(folder)}
    assert set(found) == {(seed, network) for seed in range(2) for network in ("baseline", "student")}
    assert found[0, "student"].threshold == 0.7
    assert found[0, "student"].metrics()["patch"]["auroc"] == pytest.approx(
        evaluation(3, 0).metrics()["patch"]["auroc"], abs=1e-6
    )


def test_a_row_for_each_set_network_seed_and_fold(folder):
    frame = rows_of(read_cells(folder))
    assert list(zip(frame.network, frame.seed, strict=True)) == [
        ("baseline", 0), ("student", 0), ("baseline", 1), ("student", 1),
    ]  # fmt: skip
    figures = evaluation(3, 0, 0.7).metrics()
    student = frame[frame.network == "student"].iloc[0]
    assert student.f1 == pytest.approx(figures["patch"]["f1"])
    assert student.called == pytest.approx(figures["negative_slides"]["called"])
    assert student.slide_ece == pytest.approx(figures["slide"]["ece"])
    assert (student.prior, student.true_prior) == (0.5, 0.4)
    assert np.isnan(frame.prior[frame.network == "baseline"]).all()


def test_differences_are_of_pairs(folder):
    found = differences(read_cells(folder), "student")
    one, other = (evaluation(strength, 0).metrics()["patch"]["auroc"] for strength in (3, 1))
    mean, (low, high) = found["auroc"]
    assert mean == pytest.approx(one - other, abs=1e-6)
    assert low < mean < high
    same, limits = differences(read_cells(folder), BASELINE)["auroc"]
    assert (same, limits) == (0, [0, 0])  # in pairs: the same draws of both


def test_cells_on_the_same_slides_draw_the_same_slides():
    """Two seeds on the same test slides say less than two sets of slides: their interval is not narrower."""

    def width(cells):
        _, (low, high) = differences(cells, "student")["auroc"]
        return high - low

    def measured(seed, name):
        about = {"seed": seed, "fold": 0}
        return Measured(about, "consep", name, evaluation(3 if name == "student" else 1, 0))

    one = width([measured(0, name) for name in ("baseline", "student")])
    two = width([measured(seed, name) for seed in range(2) for name in ("baseline", "student")])
    assert two == pytest.approx(one)


def test_the_report_is_made_of_all_cells(folder):
    text = write_report(folder).read_text("utf-8")
    assert "fold 0 (seeds 0, 1)" in text
    assert "0.50 for 0.40; 0.50 for 0.40" in text
    assert "1 minutes of one processor core" in text
    shutil.rmtree(folder / "cells")


def test_names_of_cells_are_names_of_files():
    assert Path(Cell("colon", "grid", 1, 2).name).name == "colon-grid-fold1-seed2"


# ---- the promise ---------------------------------------------------------------------------------------------------


def test_the_rate_of_broken_promises_is_at_most_the_risk():
    from experiments.promise import drawn_cases

    for share, risk in ((0.05, 0.1), (0.1, 0.2)):
        held = [measure("drawn", "–", drawn_cases(seed), np.empty(0), 0.5, share, risk, 20) for seed in range(10)]
        rate = np.mean([own.broken for own in held])
        # ten cohorts of 40 cases: the deviation of the mean is about .02
        assert 0 < rate <= risk + 0.04
        assert np.mean([own.slides_broken for own in held]) <= risk + 0.04
        assert np.mean([own.called for own in held]) < share


def test_a_promise_that_cannot_be_given_is_counted():
    certain = {str(case): [(np.ones(10, np.float32), 1.0)] for case in range(12)}
    held = measure("certain", "student", certain, np.ones(3), 0.5, 0.05, 0.2, 5)
    assert (held.refused, held.broken, held.sensitivity, held.own_sensitivity) == (1, 0, None, 1)


# ---- a random sample of labelled patches -----------------------------------------------------------------------------


def biased(bias: float) -> Measured:
    """A network whose log-odds are too high by `bias`, in 20 slides of 200 patches, half of them positive."""
    random, slides = np.random.default_rng(0), []
    for number in range(20):
        logit, has = random.normal(0, 2, 200), number % 2 == 1
        truth = (random.random(200) < 1 / (1 + np.exp(-logit))) & has
        p = (0.97 if has else 0.03) / (1 + np.exp(-logit - bias))
        slides.append(SlideResult(str(number), str(number), has, 0.97 if has else 0.03, truth, p))
    about = {"train": "colon", "patches": "nucleus", "fold": 0, "seed": 0}
    return Measured(about, "consep", "student", Evaluation(slides))


def test_a_sample_mends_a_network_that_is_off_and_leaves_one_that_is_right():
    from experiments.corrections import measure as measure_samples

    off, right = measure_samples(biased(2.0), 50, 40), measure_samples(biased(0.0), 50, 40)
    assert off.ece > 0.12
    assert off.ece_after < off.ece / 2
    assert off.better > 0.95
    assert right.ece < 0.03
    assert right.ece_after < 0.06
    assert off.recall > off.bound > 0.5
    assert off.missed <= 0.15  # 5 %, of 40 draws
