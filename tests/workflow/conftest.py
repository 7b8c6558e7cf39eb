"""A tiny cohort, and one run trained on it by the command line that most tests share."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import tifffile

from napari_distill2label.cli.main import main
from napari_distill2label.core.events import drain
from napari_distill2label.core.presets import build_settings
from napari_distill2label.exporters import png as pictures
from napari_distill2label.slides.synthetic import write_cohort, write_image
from napari_distill2label.store.cohort import Cohort

TINY = {
    "architecture": {"hidden_dim": 16, "attention_dim": 8},
    "teacher": {"epochs": 1, "learning_rate": 1e-3},
    "oof": {"epochs": 1},
    "student": {"epochs": 1, "learning_rate": 1e-3},
    "device": "cpu",
}
FLAGS = [
    f"--{group}.{name}={value}" if isinstance(values, dict) else f"--{group}={values}"
    for group, values in TINY.items()
    for name, value in (values.items() if isinstance(values, dict) else [("", "")])
]


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch):
    """Pictures of tiny slides are enlarged for people; drawing those would be most of the tests' time."""
    monkeypatch.setattr(pictures, "SMALLEST", 128)


@pytest.fixture
def flags():
    """Command-line flags of a tiny network and one epoch."""
    return FLAGS


@pytest.fixture(scope="session")
def tiny():
    """`tiny(seed=1, teacher={"epochs": 3})` -> settings of a tiny network."""
    return lambda **overrides: build_settings(
        "colon",
        "recommended",
        {**TINY, **{k: {**TINY.get(k, {}), **v} if isinstance(v, dict) else v for k, v in overrides.items()}},
    )


@pytest.fixture(scope="session")
def cohort_csv(tmp_path_factory) -> Path:
    """Ten drawn slides of 112 × 128 px at 0.5 µm/px, in a folder with spaces and no ASCII; do not write there."""
    return write_cohort(tmp_path_factory.mktemp("Kohorte Ärzte") / "日本 slides", 10, seed=3, shape=(112, 128))


@pytest.fixture(scope="session")
def shared_run(cohort_csv, tmp_path_factory) -> Path:
    """A run with all three models, trained by the command line where no truth is to be found."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("cohort.csv", "slides"):
        (shutil.copytree if name == "slides" else shutil.copy)(cohort_csv.with_name(name), folder / name)
    run = folder / "ein Lauf é"
    assert main(["train", str(folder / "cohort.csv"), "-o", str(run), "--baseline", *FLAGS]) == 0
    return run


@pytest.fixture
def trained(shared_run, tmp_path) -> Path:
    """A copy of the trained run, without predictions."""
    copy = tmp_path / "run"
    shutil.copytree(shared_run, copy)
    rows = Cohort.read(shared_run / "cohort.csv")  # its paths are relative to it
    rows.write(copy / "cohort.csv")
    return copy


@pytest.fixture
def slides(cohort_csv) -> list[Path]:
    return sorted((cohort_csv.parent / "slides").iterdir())


@pytest.fixture
def png(slides, tmp_path):
    """`png("name", pixels)` -> a slide without µm/px; pixels default to those of the first slide."""

    def make(name="ohne Maßstab", pixels=None):
        path = tmp_path / f"{name}.png"
        write_image(path, tifffile.imread(slides[0]) if pixels is None else pixels)
        return path

    return make


@pytest.fixture
def cohort_of(tmp_path):
    """`cohort_of([(slide_id, path, label), …])` -> path of a cohort.csv; more columns by `header`."""

    def make(rows, header=("slide_id", "path", "label"), name="cohort.csv") -> Path:
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
        return path

    return make


@pytest.fixture
def cli(capsys):
    """`cli("predict", …)` -> (exit status, stdout, stderr), in this process."""

    def run(*arguments) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            status = stop.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def refused(cli):
    """`refused("predict", …)`: exit status 2, one plain line on stderr, which is returned."""

    def run(*arguments) -> str:
        status, out, err = cli(*arguments)
        lines = [line for line in err.splitlines() if not line.startswith("note: ")]
        assert (status, out) == (2, ""), err
        assert len(lines) == 1, err
        assert lines[0].startswith("distill2label: ")
        return lines[0]

    return run


@pytest.fixture
def collect():
    """`collect(generator)` -> (all its events, its result)."""

    def run(work):
        events = []
        return events, drain(work, events.append)

    return run


@pytest.fixture
def config_of():
    return lambda bundle: json.loads((Path(bundle) / "config.json").read_text("utf-8"))


@pytest.fixture
def table():
    """`table(path)` -> rows of a CSV as dicts."""

    def read(path):
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return read
