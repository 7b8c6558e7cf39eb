"""The command line as other programs meet it: real processes, exit statuses, one plain line per error."""

import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from argparse import ArgumentParser
from io import StringIO
from pathlib import Path

import pytest

import napari_distill2label
from napari_distill2label.cli import main as command_line
from napari_distill2label.cli.arguments import GROUPS, setting_overrides
from napari_distill2label.cli.progress_bar import ProgressBar
from napari_distill2label.core.bag import Bag
from napari_distill2label.core.errors import SlideError
from napari_distill2label.core.events import EpochEnd, ItemDone, ItemFailed, Progress, Task
from napari_distill2label.core.notices import Notice, NoticeCode
from napari_distill2label.core.settings import Settings
from napari_distill2label.slides.synthetic import write_cohort

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "demo",
    "prepare-dataset",
    "train",
    "extract-features",
    "segment-tissue",
    "predict",
    "export",
    "evaluate",
    "gui",
    "doctor",
)
TINY = [
    "--architecture.hidden_dim=16", "--architecture.attention_dim=8", "--device=cpu",
    "--teacher.epochs=1", "--oof.epochs=1", "--student.epochs=1",
]  # fmt: skip


def process(*arguments, folder=None, **environment) -> tuple[int, str, str]:
    """`python -m napari_distill2label.cli …` -> exit status, stdout, stderr."""
    known = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-m", "napari_distill2label.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=known, cwd=folder, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def main(capsys):
    """`main("train", …)` -> exit status, stdout, stderr, in this process."""

    def run(*arguments):
        capsys.readouterr()
        try:
            status = command_line.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a cohort and a run, trained by a real process that stands in it; paths are relative."""
    folder = tmp_path_factory.mktemp("Arbeit ä ö")
    write_cohort(folder / "cohort", 8, seed=1, shape=(96, 112))
    status, out, err = process("train", "cohort/cohort.csv", "-o", "my run", "--baseline", *TINY, folder=folder)
    assert (status, out) == (0, "my run\n"), err
    # A log file gets no bars, but a line per epoch.
    assert re.fullmatch(r"( *(baseline|teacher|oof-[123]|student) epoch 1/1: loss .*\n|note: .*\n)+", err), err
    return folder


# ---- whole paths, in processes of their own ----------------------------------------------------------------------


def test_train_predict_evaluate_export(work, main):
    """One slide of three is not there: the others are finished, and the console knows ASCII alone."""
    slides = [work / "cohort" / "slides" / f"slide_00{index}.ome.tif" for index in (0, 1)]
    (work / "日本.ome.tif").write_bytes(slides[0].read_bytes())
    arguments = [
        "my run",
        slides[1],
        "日本.ome.tif",
        "fehlt ß.png",
        "-o",
        "labels ü",
        "--format",
        "csv,geojson,ome-tiff",
    ]
    status, out, err = process("predict", *arguments, folder=work, PYTHONIOENCODING="ascii")
    assert status == 1
    assert re.fullmatch(
        r"slide_001: normal [01]\.\d{3}, tumour [01]\.\d{3}\n\\u65e5\\u672c: normal [01]\.\d{3}, .*\n", out
    )
    assert "1 failed. The others are done.\n  fehlt \\xdf: " in err
    assert "no such file" in err
    assert "Traceback" not in err
    labels = work / "labels ü"
    assert {path.name for path in labels.glob("[!.]*")} == {
        f"{name}{end}"
        for name in ("slide_001", "日本")
        for end in (".csv", ".csv-metadata.json", ".geojson", ".ome.tif")
    }

    arguments = ["my run", "cohort/cohort.csv", "--truth", "cohort/truth.csv", "-o", "metrics.json"]
    status, out, err = process("evaluate", *arguments, folder=work)
    assert status == 0, err
    said = [line.removeprefix("note: ") for line in err.splitlines()]
    assert all("ground truth" in line for line in said[2:])
    assert said[0].startswith("6 of 8 slides are left out, because the run was trained on them")
    assert re.fullmatch(r"The ground truth labels \d+ normal, \d+ tumour patches \(from .*\)\.", said[1])
    assert len(out.splitlines()) == 1 + 3 * 8
    metrics = json.loads((work / "metrics.json").read_text())
    patches = ("patch", "patch_positive_slides", "patch_mean_over_slides")
    parts = ("threshold", "intervals", "reliability", "operating_points", "slides", "left_out")
    levels = ("slide", *patches, "negative_slides", "negative_regions", "area", *parts)
    assert [(network, *metrics[network]) for network in metrics] == [
        (network, *levels) for network in ("baseline", "teacher", "student")
    ]

    status, out, err = main("export", work / "my run", "-o", work / "exported", "--format", "csv")
    assert (status, err) == (0, "")
    for line in map(Path, out.splitlines()):
        assert line.read_bytes() == (labels / line.name).read_bytes()


def test_folders_and_patterns_of_slides(work, main, monkeypatch):
    """In natural order, without what was written beside the slides; an id that two have is told apart."""
    monkeypatch.chdir(work)
    (work / "more" / "deep").mkdir(parents=True)
    slides = sorted((work / "cohort" / "slides").glob("*.tif"))
    for name, slide in (("s10", slides[0]), ("s9", slides[1]), ("deep/s9", slides[2])):
        (work / "more" / f"{name}.ome.tif").write_bytes(slide.read_bytes())
    status, out, err = main("predict", "my run", "more", "-o", "more/labels", "--format", "ome-tiff,png")
    assert status == 0, err
    named = [line.partition(":")[0] for line in out.splitlines()]
    assert named == ["more_s9", "s10", "deep_s9"]
    assert "note: 2 slides share their file name with another one and are called more_s9, deep_s9." in err
    # once more: the masks that lie there now are no slides
    status, out, err = main("predict", "my run", "more/*.ome.tif", "more", "-o", "out", "--format", "csv")
    assert (status, [line.partition(":")[0] for line in out.splitlines()]) == (0, named)
    status, out, err = main("segment-tissue", "more/deep", "-o", "regions")
    assert [Path(line).name for line in out.splitlines()] == ["s9.geojson"]
    (work / "empty").mkdir()
    for nothing in ("empty", "more/*.svs"):
        status, out, err = main("predict", "my run", nothing, "-o", "out")
        assert (status, out) == (2, "")
        assert err.count("\n") == 1
        assert re.match(rf"distill2label: {re.escape(nothing)}: (holds no slide|no slide matches)", err)


def test_a_workbook_is_one_plain_line(main, tmp_path):
    (tmp_path / "cohort.xlsx").write_bytes(b"PK\x03\x04")
    for verb in (("predict", "run"), ("segment-tissue",)):
        status, out, err = main(*verb, tmp_path / "cohort.xlsx", "-o", tmp_path / "out")
        assert (status, out) == (2, "")
    assert err == (
        f"distill2label: {tmp_path / 'cohort.xlsx'}: is an Excel workbook or another packed file, not a CSV file: "
        "save it as 'CSV UTF-8' and give that\n"
    )


def test_debug_adds_the_traceback_to_the_line(work, main):
    arguments = ["predict", work / "no run ü", "x.png", "-o", "out"]
    status, out, err = main(*arguments)
    assert (status, out) == (2, "")
    assert (
        err == f"distill2label: {work / 'no run ü'}: is neither a run nor a model bundle "
        "(no settings.json, no config.json)\n"
    )
    status, out, debugged = process(*arguments, "--debug")
    assert (status, out) == (2, "")
    assert debugged.startswith("Traceback (most recent call last)")
    assert debugged.endswith(err)


def test_the_console_script_is_this_program():
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="distill2label")
    assert script.load() is command_line.main


# ---- what it answers ---------------------------------------------------------------------------------------------


def test_version_and_help(main):
    assert main("--version") == (0, f"{napari_distill2label.__version__}\n", "")
    status, out, _ = main("--help")
    assert status == 0
    assert all(re.search(rf"^ +{command}\s", out, re.MULTILINE) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(main, command):
    status, out, _ = main(command, "--help")
    assert status == 0
    assert "--debug" in out
    assert " ".join(command_line.RESEARCH_USE.split()) in " ".join(out.split())


def test_every_setting_has_a_flag_with_its_description(main):
    out = re.sub(r"\s+", " ", main("train", "--help")[1])
    for group, field in Settings.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        for name, setting in (inner or {group: field}).items():
            flag = f"--{group}.{name}" if inner else f"--{name}"
            assert f"{flag} " in out or f"{flag}," in out, flag
            if inner:
                assert re.sub(r"\s+", " ", setting.description) in out, flag
    assert {f"--{name}" for name in GROUPS} == {
        f"--{name}" for name, field in Settings.model_fields.items() if hasattr(field.annotation, "model_fields")
    }


def test_flags_become_settings_of_their_type():
    options = command_line.build_parser().parse_args(
        [
            "train",
            "c.csv",
            "-o",
            "r",
            "--teacher.lambda-n",
            "0.2",
            "--student.initial_weights=teacher",
            "--patches.mpp",
            "none",
            "--seed",
            "4",
        ]
    )
    assert setting_overrides(options) == {
        "teacher": {"lambda_n": "0.2"}, "student": {"initial_weights": "teacher"}, "patches": {"mpp": None},
        "seed": "4",
    }  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [[], ["cook"], ["train"], ["train", "c.csv"], ["predict", "run"],
     ["train", "c.csv", "-o", "r", "--teacher.spells", "3"],
     ["train", "c.csv", "-o", "r", "--resum"], ["predict", "r", "s", "-o", "o", "--threshold", "high"]],
)  # fmt: skip
def test_what_argparse_refuses_is_status_2(main, arguments):
    status, out, err = main(*arguments)
    assert (status, out) == (2, "")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["features", "c.csv"], "There is no command features. Did you mean extract-features?"),
        (["tissue", "a.svs", "-o", "out"], "There is no command tissue. Did you mean segment-tissue?"),
        (["dataset", "colon"], "There is no command dataset. Did you mean prepare-dataset?"),
        (["cook"], "There is no command cook."),
        (["predict", "r", "s", "-o", "o", "--trust"], "There is no option --trust. Did you mean --trust-encoder?"),
        (["predict", "r", "s", "-o", "o", "--dense=4"], "There is no option --dense. Did you mean --dense-stride?"),
        (["predict", "r", "s", "-o", "o", "--force"], "There is no option --force."),
        (
            ["train", "c.csv", "-o", "r", "--teacher.epoch", "3"],
            "There is no option --teacher.epoch. Did you mean --teacher.epochs?",
        ),
        (["train", "c.csv", "d.csv", "-o", "r"], "There is one argument too many: d.csv."),
    ],
)
def test_a_name_that_does_not_exist_is_answered_with_the_most_similar_one(main, arguments, answer):
    status, out, err = main(*arguments)
    assert (status, out) == (2, "")
    assert err.endswith(f"error: {answer}\n")


@pytest.mark.parametrize(
    "content", [b"", b"slide_id,path\n", b"\xff\xfe\x00", b"a,b\n1,2\n", b"slide_id,path\n1\n", None]
)
def test_a_cohort_that_is_none(main, tmp_path, content):
    cohort = tmp_path / "Kohorte ö.csv"
    if content is not None:
        cohort.write_bytes(content)
    for verb in (["train"], ["predict", tmp_path]):
        status, out, err = main(*verb, cohort, "-o", tmp_path / "out")
        assert (status, out) == (2, "")
        assert err.startswith(f"distill2label: {cohort}: ")
        assert err.count("\n") == 1


def test_errors_of_the_system_are_one_line_too(main, tmp_path, work):
    blocked = tmp_path / "a file"
    blocked.write_text("not a folder")
    status, out, err = main("train", work / "cohort" / "cohort.csv", "-o", blocked / "run", *TINY)
    assert (status, out) == (2, "")
    *notes, last = err.splitlines()
    assert all(line.startswith("note: ") for line in notes)
    assert last.startswith("distill2label: ")
    assert str(blocked) in last


def test_an_error_of_onednn_without_a_reason_is_one_line_that_says_so(capsys):
    parser = ArgumentParser()
    parser.set_defaults(debug=False, command="train")

    def fail(options, drain):
        raise RuntimeError("could not create a primitive")

    parser.set_defaults(run=fail)
    assert command_line.run_command(parser, []) == 2
    line = capsys.readouterr().err
    assert "could not create a primitive (oneDNN names no reason; too little memory can be one). Finished work" in line
    assert line.count("\n") == 1


def test_without_napari_the_window_says_what_to_install(main, monkeypatch):
    monkeypatch.setitem(sys.modules, "napari", None)
    status, out, err = main("gui")
    assert (status, out) == (2, "")
    assert "pip install 'napari-distill2label[gui]'" in err


def test_a_file_that_cannot_be_written_is_said_before_anything_is_computed(main, work):
    arguments = [work / "my run", work / "cohort" / "cohort.csv", "--truth", work / "cohort" / "truth.csv", "-o", work]
    status, out, err = main("evaluate", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"distill2label: {work.parent}: {work.name}: ")
    assert err.count("\n") == 1


# ---- truth -------------------------------------------------------------------------------------------------------


def test_truth_cannot_reach_training_or_prediction(main):
    """Nothing but `evaluate` (and what writes or calls it) can even be given truth."""
    assert "truth" not in Bag.__dataclass_fields__
    for command in ("train", "predict", "extract-features", "export"):
        assert "--truth" not in main(command, "--help")[1]
    package = Path(napari_distill2label.__file__).parent
    workflow = {
        f"workflow/{name}.py"
        for name in (
            "commands/compare",
            "commands/evaluate",
            "ground_truth",
            "commands/demo",
            "commands/prepare_dataset",
        )
    }
    # Experiments hold the truth against finished models; what trains these knows none, but for the marked ceiling.
    named = ("breast", "breast_report", "colon", "colon_figures", "colon_images", "fields", "mnist", "supervised")
    named = (*named, "corrections", "orders", "pixels", "promise", "transfer", "transfer_report", "unlike")
    experiments = {f"experiments/{name}.py" for name in named}
    interfaces = {"cli/commands.py", "cli/arguments.py", "gui/actions/evaluate.py", "gui/plugin/sample_data.py"}
    allowed = (
        workflow | experiments | interfaces | {"core/metrics.py", "core/evaluation.py", "slides/synthetic/cohort.py"}
    )
    files = [(path, package) for path in package.rglob("*.py")]
    files += [(path, ROOT) for path in (ROOT / "experiments").glob("*.py")]
    for path, top in files:
        name = path.relative_to(top).as_posix()
        tree = ast.parse(path.read_text("utf-8"))
        names = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg | ast.keyword)}
        names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        names |= {
            node.module.split(".")[-1] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
        }
        assert name in allowed or "truth" not in names, name


# ---- progress ----------------------------------------------------------------------------------------------------


class Terminal(StringIO):
    def isatty(self):
        return True


def show(monkeypatch, stream, *events) -> ProgressBar:
    monkeypatch.setattr(sys, "stderr", stream)
    with ProgressBar() as bar:
        for event in events:
            bar.show(event)
    return bar


EVENTS = (
    Progress(Task.READ_SLIDES, 1, 4),
    Notice(NoticeCode.ONE_FOLD),
    ItemFailed("b", SlideError("b.png: no such file")),
    Progress(Task.READ_SLIDES, 4, 4),
    Progress(Task.TRAIN, 2, 4, "teacher", 1, 3),
    EpochEnd("teacher", 1, 3, {"loss": 0.5}, {"valid_loss": 0.25}, best=True),
    ItemDone("a", None),
)


def test_a_log_has_lines_and_no_bars(monkeypatch):
    log = StringIO()
    bar = show(monkeypatch, log, *EVENTS)
    assert log.getvalue().splitlines() == [
        f"note: {EVENTS[1]}", "failed: b: b.png: no such file", "teacher epoch 1/3: loss 0.500 valid_loss 0.250 *",
    ]  # fmt: skip
    assert [failure.item for failure in bar.failed] == ["b"]


def test_a_terminal_has_bars_that_are_wiped(monkeypatch):
    terminal = Terminal()
    show(monkeypatch, terminal, *EVENTS)
    text = terminal.getvalue()
    assert "reading slides:  25%" in text
    assert "teacher: epoch 1" in text
    assert "note: All slides of a class are of one patient." in text
    assert text.rsplit("\r", 1)[-1].strip() == ""


def test_the_bar_goes_when_an_error_comes(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    bar = ProgressBar()

    def fail():
        with bar:
            bar.show(Progress(Task.EXPORT, 1, 2))
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        fail()
    assert bar._bar is None


def test_ctrl_c_ends_with_a_line(main, monkeypatch, work):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ProgressBar, "show", stop)
    status, out, err = main("predict", work / "my run", work / "cohort" / "cohort.csv", "-o", work / "never")
    assert (status, out, err) == (command_line.INTERRUPTED, "", "distill2label: Stopped. Finished work is saved.\n")


def test_an_empty_list_of_formats_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        command_line.main(["export", str(tmp_path), "-o", str(tmp_path), "--format", " , "])
    assert stop.value.code == 2
    assert "name at least one" in capsys.readouterr().err
