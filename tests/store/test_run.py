import csv
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from napari_distill2label.core.errors import BundleError, FolderInUseError, SettingsError
from napari_distill2label.core.presets import build_settings
from napari_distill2label.core.settings import PatchSettings, TeacherSettings
from napari_distill2label.mil.model import MILModel
from napari_distill2label.store.bundle import save_bundle
from napari_distill2label.store.cohort import Cohort, CohortSlide
from napari_distill2label.store.files.lock import locked
from napari_distill2label.store.files.outputs import RECORD
from napari_distill2label.store.run import Run, RunConfig


@pytest.fixture
def cohort(tmp_path):
    return Cohort(
        (
            CohortSlide("a", tmp_path / "a b.png", "metastasis", "p", 0.5, "train"),
            CohortSlide("b", tmp_path / "ß.png", "normal", "q", None, "test"),
        ),
        ("normal", "metastasis"),
    )


@pytest.fixture
def run(tmp_path, cohort):
    config = RunConfig(settings=build_settings("breast", overrides={"seed": 3}), classes=cohort.classes, baseline=True)
    return Run.create(tmp_path / "Lauf 1", config, cohort)


def test_a_run_is_rebuilt_from_its_folder(run, cohort):
    again = Run.open(run.folder)
    assert again.config == run.config
    assert [(s.slide_id, s.path.resolve(), s.label, s.split) for s in again.cohort] == [
        (s.slide_id, s.path.resolve(), s.label, s.split) for s in cohort
    ]
    assert again.cohort.classes == ("normal", "metastasis")
    assert Run.is_run(run.folder)
    assert sorted(path.name for path in run.folder.glob("[!.]*")) == ["cohort.csv", "settings.json"]


def test_a_run_is_not_overwritten(run, cohort):
    before = (run.folder / "settings.json").read_bytes()
    with pytest.raises(SettingsError, match=r"already holds a run\. Resume the run"):
        Run.create(run.folder, RunConfig(settings=build_settings(), classes=("x", "y")), cohort)
    assert (run.folder / "settings.json").read_bytes() == before


def test_models_are_those_trained_in_the_order_they_are(run):
    assert run.models == ()
    model = MILModel(run.config.settings.architecture, 2, (3, 32, 32))
    for network in ("teacher", "baseline"):
        about = {
            "network": network,
            "classes": run.config.classes,
            "patches": PatchSettings(size_px=32),
            "training": TeacherSettings(),
        }
        save_bundle(run.bundle(network), model, about, {})
    assert run.models == ("baseline", "teacher")
    assert run.checkpoint("baseline") == run.folder / "checkpoints" / "baseline.safetensors"
    assert run.predictions == run.folder / "predictions"
    assert torch.is_tensor(model.mean)


def test_history_has_a_row_per_model_and_epoch(run):
    run.write_history(
        {
            "baseline": [{"epoch": 1, "loss": 0.5, "valid_loss": None}],
            "teacher": [{"epoch": 1, "loss": 0.25, "loss_noise": 0.125, "valid_loss": 1.5}],
        }
    )
    with (run.folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"model": "baseline", "epoch": "1", "loss": "0.5", "valid_loss": "", "loss_noise": ""},
        {"model": "teacher", "epoch": "1", "loss": "0.25", "valid_loss": "1.5", "loss_noise": "0.125"},
    ]


def test_a_folder_that_is_no_run(tmp_path):
    assert not Run.is_run(tmp_path)
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(BundleError, match=r"is no run, it has no settings\.json"):
            Run.open(folder)


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda text: "", "settings.json: is no run's settings"),
        (lambda text: text[:-20], "is no run's settings"),
        (lambda text: "[" * 200_000, "is no run's settings"),
        (lambda text: json.dumps(json.loads(text) | {"more": 1}), "is no run's settings: more: "),
        (lambda text: json.dumps(json.loads(text) | {"classes": ["a"]}), "is no run's settings: classes: "),
        (
            lambda text: json.dumps(json.loads(text) | {"format": 9}),
            "has format 9, and this version of the program reads format 2",
        ),
    ],
)
def test_settings_that_are_damaged_are_one_plain_line(run, alter, message):
    path: Path = run.folder / "settings.json"
    path.write_text(alter(path.read_text("utf-8")), "utf-8")
    with pytest.raises(BundleError, match=rf"^[^\n]*{message}[^\n]*$"):
        Run.open(run.folder)


def altered(path: Path, change) -> None:
    data = json.loads(path.read_text("utf-8"))
    change(data)
    path.write_text(json.dumps(data), "utf-8")


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["settings"].update(seed=4),
        lambda data: data["settings"]["teacher"].update(learning_rate=0.5),
        lambda data: data.update(classes=["metastasis", "normal"]),
        lambda data: data.update(cohort_sha256=""),
    ],
)
def test_altered_settings_are_noticed(run, change):
    altered(run.folder / "settings.json", change)
    with pytest.raises(BundleError, match=r"^[^\n]*settings\.json: was altered after it was written[^\n]*$"):
        Run.open(run.folder)


def test_settings_without_a_digest_are_read_as_they_are(run):
    """Those of earlier versions, and of people who change them on purpose."""
    altered(run.folder / "settings.json", lambda data: (data.pop("sha256"), data["settings"].update(seed=4)))
    assert Run.open(run.folder).config.settings.seed == 4


@pytest.mark.parametrize(("old", "new"), [("metastasis", "normal"), ("train", "test"), (",p,", ",q,"), ("0.5", "0.25")])
def test_an_altered_cohort_is_noticed(run, old, new):
    path = run.folder / "cohort.csv"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")
    with pytest.raises(BundleError, match=r"^[^\n]*cohort\.csv: was altered after the run was begun[^\n]*$"):
        _ = Run.open(run.folder).cohort


def test_slides_may_move(run):
    path = run.folder / "cohort.csv"
    path.write_text(path.read_text("utf-8").replace("a b.png", "elsewhere/a.png"), "utf-8")
    assert Run.open(run.folder).cohort["a"].path.name == "a.png"


def test_a_folder_in_place_of_a_file_is_one_plain_line(run):
    path = run.folder / "settings.json"
    path.unlink()
    path.mkdir()
    with pytest.raises(BundleError, match=r"^[^\n]*settings\.json: is no run's settings[^\n]*$"):
        Run.open(run.folder)


def save_model(run, network="teacher"):
    about = {"network": network, "classes": run.config.classes, "patches": PatchSettings(size_px=32)}
    model = MILModel(run.config.settings.architecture, 2, (3, 32, 32))
    save_bundle(run.bundle(network), model, about | {"training": TeacherSettings()}, {})


@pytest.mark.slow
def test_a_model_that_a_kill_left_between_two_names_is_put_back_when_the_run_is_opened(run):
    save_model(run)
    left = run.folder / ".teacher.00000000.00000000.1.00000000.old"
    run.bundle("teacher").rename(left)
    (run.folder / ".settings.json.00000000.00000000.1.00000000.tmp").write_text("half")
    with locked(run.folder, "training"):  # by somebody who is about to rename it
        assert Run.open(run.folder).models == ()
    assert Run.open(run.folder).models == ("teacher",)
    assert sorted(path.name for path in run.folder.iterdir()) == [RECORD, "cohort.csv", "settings.json", "teacher"]


TRAIN = """
import sys
from pathlib import Path
from napari_distill2label.store.files.atomic import atomic_path
from napari_distill2label.store.run import Run
folder = Path(sys.argv[1])
with (
    Run.locked(folder), atomic_path(folder / "history.csv") as history,
    atomic_path(folder / "checkpoints" / "student.safetensors") as checkpoint,
):
    history.write_text("half")
    checkpoint.write_text("half")
    print("held", flush=True)
    sys.stdin.read()
"""


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_a_training_leaves_that_is_killed_at_its_end_goes_when_the_run_is_opened(run, holding):
    """It is finished, so that nobody trains it further."""
    (run.folder / ".notes.tmp").write_text("of somebody")
    before = files(run.folder)
    training = holding(TRAIN, run.folder)
    assert len(files(run.folder)) == len(before) + 4
    training.kill()
    training.wait()
    Run.open(run.folder)
    assert files(run.folder) == before


def test_nothing_of_a_training_at_work_goes_when_the_run_is_opened(run, holding):
    training = holding(TRAIN, run.folder)
    before = files(run.folder)
    Run.open(run.folder)
    assert files(run.folder) == before
    training.communicate("")
    assert training.returncode == 0
    assert (run.folder / "history.csv").read_text() == "half"


def test_nothing_goes_from_a_folder_that_is_no_run(tmp_path, holding):
    training = holding(TRAIN, tmp_path / "own")
    training.kill()
    training.wait()
    before = files(tmp_path)
    with pytest.raises(BundleError, match="is no run"):
        Run.open(tmp_path / "own")
    assert files(tmp_path) == before


def test_a_run_on_a_read_only_disk_is_opened_with_all_that_a_kill_has_left(run, holding, small_disk):
    disk = small_disk(2**20)
    place = disk / "run"
    shutil.copytree(run.folder, place)
    training = holding(TRAIN, place)
    training.kill()
    training.wait()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    before = files(disk)
    assert Run.open(place).config == run.config
    assert files(disk) == before


WRITE = """
import sys
from napari_distill2label.store.files.atomic import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("whole")
    print("held", flush=True)
    sys.stdin.read()
"""


def test_whoever_writes_into_a_run_while_it_is_taken_keeps_what_it_has_begun(run, holding):
    """`predict -o RUN` writes there and holds no run."""
    other = holding(WRITE, run.folder / "a.csv")
    with Run.locked(run.folder):
        pass
    other.communicate("")
    assert other.returncode == 0
    assert (run.folder / "a.csv").read_text() == "whole"


def test_a_run_is_held_by_one_training(run, monkeypatch):
    monkeypatch.setattr("napari_distill2label.store.files.lock.TIMEOUT", 0.01)
    with (
        Run.locked(run.folder),
        pytest.raises(FolderInUseError, match=r"has been training in this folder since"),
        Run.locked(run.folder),
    ):
        pass
