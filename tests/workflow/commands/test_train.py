"""`train`: from slides and one label each to bundles; nothing else is read, and bad input loses nothing."""

import csv
import json
import shutil

import pytest

from napari_distill2label.core.errors import CohortError, SettingsError
from napari_distill2label.core.events import EpochEnd, ItemFailed, Progress, Task, drain
from napari_distill2label.core.notices import Notice
from napari_distill2label.core.settings import Settings
from napari_distill2label.store.bundle import load_bundle
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.run import Run
from napari_distill2label.store.timing import Timing
from napari_distill2label.workflow.commands.train import train


def test_a_run_holds_three_bundles_and_their_history(shared_run, config_of, table):
    run = Run.open(shared_run)
    assert run.models == ("baseline", "teacher", "student")
    for network in run.models:
        config = config_of(run.bundle(network))
        assert (config["network"], config["classes"], config["mpp"]) == (network, ["normal", "tumour"], 0.5)
        assert (config["architecture"]["hidden_dim"], config["patches"]["size_px"], config["n_corrections"]) == (
            16,
            27,
            0,
        )
        card = (run.bundle(network) / "card.md").read_text("utf-8")
        assert "research use only" in card
        assert "no patch label was used" in card
        assert load_bundle(run.bundle(network)).model.n_classes == 2
    assert {config_of(run.bundle(network))["weights_sha256"] for network in run.models}.__len__() == 3
    rows = table(shared_run / "history.csv")
    trained = ("baseline", "teacher", "oof-1", "oof-2", "oof-3", "student")
    assert [(row["model"], row["epoch"]) for row in rows] == [(network, "1") for network in trained]
    assert not rows[0]["loss_noise"]  # plain MIL has no such term
    assert rows[1]["loss_noise"]
    assert {slide.split for slide in run.cohort} == {"train", "valid", "test"}


def test_the_run_s_cohort_still_finds_its_slides(shared_run):
    assert all(slide.path.is_file() for slide in Run.open(shared_run).cohort)


def test_truth_beside_the_cohort_is_never_opened(cohort_csv, tmp_path, tiny, monkeypatch):
    folder = tmp_path / "with truth"
    shutil.copytree(cohort_csv.parent, folder)
    for name in ("truth.csv", "centres.csv"):
        (folder / name).write_bytes(b"\xff not a table")
    from napari_distill2label.store.tables import mark_table

    monkeypatch.setattr(mark_table, "iter_table", lambda *_: pytest.fail("a table of points was opened"))
    drain(train(Cohort.read(folder / "cohort.csv"), tmp_path / "run", tiny()))


def test_events_tell_of_reading_epochs_and_the_best(cohort_csv, tmp_path, tiny, collect):
    events, run = collect(train(Cohort.read(cohort_csv), tmp_path / "run", tiny(student={"epochs": 2})))
    ends = [event for event in events if isinstance(event, EpochEnd)]
    assert [(end.network, end.epoch, end.epochs) for end in ends] == [
        ("teacher", 1, 1),
        *((f"oof-{number}", 1, 1) for number in (1, 2, 3)),
        ("student", 1, 2),
        ("student", 2, 2),
    ]
    assert ends[0].losses.keys() == {"loss", "class", "noise", "perturbation", "entropy"}
    assert ends[0].metrics.keys() <= {"valid_loss", "valid_auroc"}
    assert "valid_loss" in ends[0].metrics
    timing = Timing.read(run.folder)
    assert timing.epoch.keys() == {"teacher", "oof-1", "oof-2", "oof-3", "student"}
    assert timing.n_slides == len(run.cohort.in_split("train")) + len(run.cohort.in_split("valid"))
    assert timing.n_patches > timing.n_slides
    assert all(seconds > 0 for seconds in (timing.reading, timing.between, *timing.epoch.values()))
    assert ends[0].best
    done = {(event.task, event.item, event.epoch) for event in events if isinstance(event, Progress)}
    assert done >= {
        (Task.READ_SLIDES, None, None), (Task.TRAIN, "teacher", 1), (Task.TRAIN, "student", 2),
        (Task.COMPUTE_TARGETS, "teacher", None),
    }  # fmt: skip
    assert run.models == ("teacher", "student")


@pytest.mark.parametrize("seed", [0, 1])
def test_seeds_repeat_a_run(shared_run, cohort_csv, tmp_path, tiny, config_of, seed):
    run = drain(train(Cohort.read(cohort_csv), tmp_path / "run", tiny(seed=seed)))
    same = [config_of(run.bundle(network))["weights_sha256"] == config_of(shared_run / network)["weights_sha256"]
            for network in ("teacher", "student")]  # fmt: skip
    assert same == [seed == 0] * 2


def test_unlabelled_slides_are_left_out_once_said_and_still_predicted(slides, cohort_of, tmp_path, flags, cli):
    rows = [(path.name[:9], path, ("normal", "tumour", "")[index % 3]) for index, path in enumerate(slides)]
    cohort, run = cohort_of(rows), tmp_path / "run"
    status, _, err = cli("train", cohort, "-o", run, *flags)
    assert status == 0
    assert err.count("have no label") == 1
    assert "3 slides have no label. They are not used for training but can be predicted." in err
    status, out, _ = cli("predict", run, cohort, "-o", tmp_path / "out", "--format", "csv")
    assert status == 0
    assert len(out.splitlines()) == 10


def test_a_slide_that_cannot_be_read_is_listed_and_the_run_is_whole(slides, cohort_of, tmp_path, flags, cli):
    broken = tmp_path / "broken.ome.tif"
    broken.write_bytes(slides[0].read_bytes()[:3000])
    rows = [(path.name[:9], path, ("normal", "tumour")[index % 2], "train") for index, path in enumerate(slides[:4])]
    rows += [("bad", broken, "normal", "train"), ("gone", tmp_path / "gone.png", "tumour", "valid")]
    rows += [("blank", slides[5], "tumour", "valid")]
    cohort = cohort_of(rows, ("slide_id", "path", "label", "split"))
    status, out, err = cli("train", cohort, "-o", tmp_path / "run", *flags)
    assert status == 1
    assert out.strip() == str(tmp_path / "run")
    assert "2 failed. The others are done." in err
    assert f"  gone: {tmp_path / 'gone.png'}: no such file" in err
    assert str(broken) in err
    assert "Traceback" not in err
    assert Run.open(tmp_path / "run").models == ("teacher", "student")


def test_several_classes_at_once_give_a_mask_and_a_picture_each(slides, cohort_of, tmp_path, flags, cli, config_of):
    labels = ["normal", "a", "b", "a;b"]
    rows = [
        (f"s{index}", path, labels[index % 4], "train" if index < 8 else "valid") for index, path in enumerate(slides)
    ]
    cohort, run, out = cohort_of(rows, ("slide_id", "path", "label", "split")), tmp_path / "run", tmp_path / "out"
    assert cli("train", cohort, "-o", run, *flags)[0] == 0
    config = config_of(run / "student")
    assert config["architecture"]["multi_label"] is True
    assert config["classes"] == ["normal", "a", "b"]
    assert cli("predict", run, slides[0], "-o", out, "--format", "ome-tiff,csv")[0] == 0
    assert {path.name for path in out.glob("[!.]*[!n]")} == {
        "slide_000.csv",
        "slide_000_a.ome.tif",
        "slide_000_b.ome.tif",
    }


def test_classes_are_as_given(slides, cohort_of, tmp_path, flags, cli, refused, config_of):
    rows = [(f"s{index}", path, ("alpha", "beta")[index % 2], "train") for index, path in enumerate(slides[:4])]
    cohort = cohort_of(rows, ("slide_id", "path", "label", "split"))
    assert "negative" in refused("train", cohort, "-o", tmp_path / "run", *flags)
    assert not (tmp_path / "run").exists()
    assert "unknown label 'beta'" in refused(
        "train", cohort, "-o", tmp_path / "run", "--classes", "alpha,gamma", *flags
    )
    assert cli("train", cohort, "-o", tmp_path / "run", "--classes", "beta, alpha", *flags)[0] == 0
    assert config_of(tmp_path / "run" / "student")["classes"] == ["beta", "alpha"]


def test_corrections_reach_the_student_alone_and_are_recorded(shared_run, cohort_csv, tmp_path, flags, cli, config_of):
    corrections = tmp_path / "Korrekturen ü.csv"
    ids = [slide.slide_id for slide in Run.open(shared_run).cohort.in_split("train")]
    rows = [(ids[0], 13, 13, "normal"), (ids[0], 40, 13, "tumour"), (ids[1], 70, 70, "normal"), ("other", 1, 1, "odd")]
    with corrections.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("slide_id", "x", "y", "label"), *rows])
    run = tmp_path / "run"
    assert cli("train", cohort_csv, "-o", run, "--corrections", corrections, *flags)[0] == 0
    teacher, student = config_of(run / "teacher"), config_of(run / "student")
    assert (teacher["n_corrections"], student["n_corrections"]) == (0, 3)
    assert "| Patches corrected by a user | 3 |" in (run / "student" / "card.md").read_text("utf-8")
    assert teacher["weights_sha256"] == config_of(shared_run / "teacher")["weights_sha256"]
    assert student["weights_sha256"] != config_of(shared_run / "student")["weights_sha256"]
    assert Run.open(run).config.corrections == str(corrections)


@pytest.mark.parametrize(
    ("row", "said"), [("nobody,1,1,tumour", "slide ids"), ("slide_004,1,1,tumor", "unknown label 'tumor'")]
)
def test_corrections_that_fit_nothing_are_an_error(cohort_csv, tmp_path, flags, refused, row, said):
    corrections = tmp_path / "corrections.csv"
    corrections.write_text(f"slide_id,x,y,label\n{row}\n")
    line = refused("train", cohort_csv, "-o", tmp_path / "run", "--corrections", corrections, *flags)
    assert said in line
    assert str(corrections) in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"slide_id,path,label\n", "no row"),
        (b"slide_id,path,label\na,a.png,\nb,b.png,\n", "no slide has a label"),
        (b"slide_id,path,label\na,a.png,normal\nb,b.png,normal\n", "at least two classes"),
        (b"slide_id,path,label\na,a.png,x\nb,b.png,y\n", "Which of x, y is the negative class"),
        (b"slide_id,path,label\na,a.png,normal\na,b.png,x\n", "two slides have the id 'a'"),
        (
            b"slide_id,path,label,case_id,split\na,a.png,normal,c,train\nb,b.png,x,c,valid\n",
            "Case 'c' is in two splits",
        ),
        (b"slide_id,path,label\na,a.png,normal\nb,b.png,x\n", "none of the 2 labelled slides could be read"),
    ],
)
def test_a_cohort_that_cannot_be_used_is_one_line(tmp_path, cli, flags, content, said):
    cohort = tmp_path / "Kohorte ß.csv"
    cohort.write_bytes(content)
    status, out, err = cli("train", cohort, "-o", tmp_path / "run", *flags)
    assert (status, out) == (2, "")
    assert said in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("flags_given", "said"),
    [
        (["--teacher.epochs", "0"], "teacher.epochs"),
        (["--teacher.epochs", "many"], "teacher.epochs"),
        (["--split.test", "0.95"], "leave no slide to train on"),
        (["--patches.size_px", "5"], "too small"),
        (["--device", "abacus"], "device"),
        (["--device", "cuda:99"], "not available"),
        (["--preset", "wsi"], "--encoder"),
        (["--centres", "no-such.csv"], "no-such.csv: no such file"),
        (["--corrections", "no-such.csv"], "no-such.csv: no such file"),
        (["--encoder", "no-such.onnx"], "no-such.onnx: no such file"),
        (["--encoder", "no-such.pt"], ".onnx"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line_and_leave_no_run(
    cohort_csv, tmp_path, flags, refused, flags_given, said
):
    assert said in refused("train", cohort_csv, "-o", tmp_path / "run", *flags, *flags_given)
    assert not (tmp_path / "run").exists()


def test_a_second_run_in_the_same_folder_is_refused(shared_run, cohort_csv, flags, refused):
    before = (shared_run / "settings.json").read_bytes()
    assert "Resume the run with --resume." in refused("train", cohort_csv, "-o", shared_run, *flags)
    assert (shared_run / "settings.json").read_bytes() == before


def test_centres_are_read_in_training(cohort_csv, tmp_path, flags, cli, config_of):
    centres = cohort_csv.with_name("centres.csv")
    run = tmp_path / "run"
    assert cli("train", cohort_csv, "-o", run, "--centres", centres, *flags)[0] == 0
    assert Run.open(run).config.centres == str(centres)
    assert config_of(run / "teacher")["n_train"] == 6


def test_settings_may_be_left_out_of_the_api(cohort_csv, tmp_path):
    work = train(Cohort.read(cohort_csv), tmp_path / "run")
    next(event for event in work if isinstance(event, Progress) and (event.item, event.epoch) == ("teacher", 1))
    work.close()
    assert Run.open(tmp_path / "run").config.settings.teacher == Settings().teacher


def test_closing_mid_epoch_leaves_the_last_checkpoint_whole(cohort_csv, tmp_path, tiny, config_of, shared_run):
    from napari_distill2label.store.checkpoint import load_checkpoint

    work = train(Cohort.read(cohort_csv), tmp_path / "run", tiny(teacher={"epochs": 3}))
    for event in work:
        if isinstance(event, Progress) and (event.item, event.epoch, event.step) == ("teacher", 2, 2):
            break
    work.close()
    run = Run.open(tmp_path / "run")
    assert load_checkpoint(run.checkpoint("teacher")).epoch == 1
    assert run.models == ()
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_a_cohort_without_validation_trains_to_the_last_epoch(slides, cohort_of, tmp_path, tiny, collect, config_of):
    rows = [(f"s{index}", path, ("0", "1")[index % 2], "train") for index, path in enumerate(slides[:4])]
    cohort = Cohort.read(cohort_of(rows, ("slide_id", "path", "label", "split")))
    events, run = collect(train(cohort, tmp_path / "run", tiny(teacher={"epochs": 2})))
    assert any(isinstance(event, Notice) and "No slide is held out for validation" in str(event) for event in events)
    assert config_of(run.bundle("teacher"))["epoch"] == 2
    assert json.loads((run.bundle("teacher") / "metrics.json").read_text())["n"] == 0


def test_slides_of_different_scale_are_pointed_out(slides, cohort_of, tmp_path, tiny, collect, config_of):
    rows = [(f"s{i}", path, ("0", "1")[i % 2], "train", (0.5, 0.25)[i % 2]) for i, path in enumerate(slides[:4])]
    cohort = Cohort.read(cohort_of(rows, ("slide_id", "path", "label", "split", "mpp")))
    events, run = collect(train(cohort, tmp_path / "run", tiny()))
    assert any(isinstance(event, Notice) and "differ in pixel size" in str(event) for event in events)
    assert config_of(run.bundle("teacher"))["mpp"] is None
    events, run = collect(train(cohort, tmp_path / "other", tiny(patches={"mpp": 0.5, "size_px": 20})))
    assert not any(isinstance(event, Notice) and "differ" in str(event) for event in events)
    assert config_of(run.bundle("teacher"))["mpp"] == 0.5


def test_one_class_among_the_readable_slides_is_an_error(slides, cohort_of, tmp_path, tiny):
    rows = [("a", slides[0], "0", "train"), ("b", slides[2], "0", "train"), ("c", tmp_path / "gone.png", "1", "train")]
    cohort = Cohort.read(cohort_of(rows, ("slide_id", "path", "label", "split")))
    failed = []
    with pytest.raises(SettingsError, match="all of one class"):
        drain(
            train(cohort, tmp_path / "run", tiny()),
            lambda event: failed.extend([event] * isinstance(event, ItemFailed)),
        )
    assert [event.item for event in failed] == ["c"]


def test_an_unknown_label_names_its_slide(slides, cohort_of, tmp_path, tiny):
    rows = [("a", slides[0], "0", "train"), ("b", slides[1], "1", "train")]
    cohort = Cohort.read(cohort_of(rows, ("slide_id", "path", "label", "split")))
    with pytest.raises(CohortError, match="unknown label '1'"):
        drain(train(cohort, tmp_path / "run", tiny(), classes=["0", "2"]))
