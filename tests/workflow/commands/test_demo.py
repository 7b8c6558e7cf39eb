"""`demo` on fewer and smaller slides: the same path, its files, and a second call."""

import json
import subprocess
import sys

import pytest

from napari_distill2label.core.paths import RECORD
from napari_distill2label.store.run import Run
from napari_distill2label.workflow.commands import demo as module


@pytest.fixture(autouse=True)
def _smaller(monkeypatch):
    monkeypatch.setattr(module, "N_SLIDES", 8)
    monkeypatch.setattr(module, "SHAPE", (112, 128))
    small = {"epochs": 1, "learning_rate": 1e-3}
    architecture = {"hidden_dim": 16, "attention_dim": 8}
    monkeypatch.setattr(
        module,
        "OVERRIDES",
        {"teacher": small, "student": small, "architecture": architecture, "split": {"test": 0.3, "valid": 0.1}},
    )


def test_the_demo_leaves_all_it_promises_and_may_be_repeated(tmp_path, cli):
    out = tmp_path / "Demo é"
    status, said, err = cli("demo", "--out", out)
    assert status == 0, err
    run = Run.open(out / "run")
    assert run.models == ("baseline", "teacher", "student")
    tested = [slide.slide_id for slide in run.cohort.in_split("test")]
    assert tested
    assert {path.name for path in (out / "labels").glob("[!.]*")} == {
        f"{name}{end}" for name in tested for end in (".csv", ".csv-metadata.json", ".geojson", ".ome.tif", ".png")
    }
    figures = json.loads((out / "metrics.json").read_text())
    assert list(figures) == ["baseline", "teacher", "student"]
    assert figures["student"]["slide"]["n"] == len(tested)
    assert str(out / "labels" / f"{tested[0]}.png") in said
    assert "research use only" in said
    assert "student  patch " in said

    status, again, err = cli("demo", "--out", out)
    assert status == 0, err
    assert " epoch 1/1" not in err
    assert again.splitlines()[:13] == said.splitlines()[:13]
    assert cli("demo", "--out", out, "--seed", "1")[0] == 2
    assert json.loads((out / "metrics.json").read_text()) == figures


KILLED = """
import os, signal, sys
from napari_distill2label.core.events import drain
from napari_distill2label.workflow.commands import demo
demo.write_cohort = lambda folder, **how: os.kill(os.getpid(), signal.SIGKILL)
drain(demo.demo(sys.argv[1]))
"""


def test_what_a_killed_demo_has_drawn_goes_with_the_next_one(tmp_path):
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False).returncode < 0
    work = module.demo(tmp_path)
    next(work)
    work.close()
    assert {path.name for path in tmp_path.glob(".*")} <= {RECORD}
