"""A copied script does what was done: run for real, and compared."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from napari.components import ViewerModel

from napari_distill2label.cli.main import build_parser
from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.inputs import Compute, Inputs, TissueRegions
from napari_distill2label.core.presets import build_settings
from napari_distill2label.gui import get_session
from napari_distill2label.gui.actions.log import NOTHING
from napari_distill2label.store.cohort import CohortSlide
from napari_distill2label.workflow.script_writer import Exported, Predicted, overrides_of

from ..conftest import TINY


def run(command, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    return {path.name: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}


@pytest.mark.long
def test_a_script_of_the_whole_way_gives_the_same_labels(session, cohort_csv, tmp_path):
    folder = tmp_path / "a folder's files"
    session.read_cohort(cohort_csv)
    session.configure(**TINY, patches={"size_px": 30})
    session.train(folder / "run")
    session.predict(["slide_001", "slide_002"])
    session.predict("slide_003")
    session.export(folder / "out", ["csv"], threshold=0.4)
    before = tables(folder / "out")
    assert list(before) == ["slide_001.csv", "slide_002.csv", "slide_003.csv"]

    (tmp_path / "copied.py").write_text(session.log.python(), "utf-8")
    written_by(folder, [sys.executable, "copied.py"], "run_again", before)

    command_line = session.log.command_line()  # as long as there is a run_again, into a folder beside it
    (tmp_path / "distill2label").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m napari_distill2label.cli "$@"\n')
    (tmp_path / "distill2label").chmod(0o755)
    written_by(folder, ["bash", "-e", "-c", f"PATH=$PWD:$PATH\n{command_line}"], "run_again_2", before)


def written_by(folder, command, run_folder, expected):
    for path in (folder / "out").iterdir():
        path.unlink()
    run(command, folder.parent)
    assert (folder / run_folder / "student" / "config.json").exists()
    after = tables(folder / "out")
    assert list(after) == list(expected)
    for name, table in expected.items():
        pd.testing.assert_frame_equal(after[name], table)


def test_a_loaded_run_is_named_where_it_is(session, run_folder, tmp_path):
    session.load_model(run_folder)
    session.predict("slide_001")
    session.predict(["slide_002"])
    session.set_colour("tumour", (1, 2, 3))
    session.export(tmp_path / "out", ["csv", "geojson"], slides="slide_001")
    text = session.log.python()
    assert "train(" not in text
    assert text.count("predict(") == 1
    assert f"predict({str(run_folder)!r}, slides" in text
    assert "each.slide_id in ['slide_001']" in text
    assert "colours={'tumour': (1, 2, 3)}" in text
    compile(text, "copied", "exec")
    lines = session.log.command_line()
    assert str(run_folder / "predictions" / "slide_001.student.zarr") in lines


def test_what_failed_or_was_cancelled_is_not_in_it(session, run_folder):
    assert NOTHING in session.log.python()
    assert NOTHING in session.log.command_line()
    session.load_model(run_folder)
    session.predict("slide_001")
    with pytest.raises(SettingsError, match="unknown format"):
        session.export("anywhere", ["docx"])
    assert not any(isinstance(deed, Exported) for deed in session.log.actions)


def test_the_verbs_keep_their_names_and_docs(session):
    assert session.train.__name__ == "train"
    assert "Train teacher and student" in session.train.__doc__


def test_slides_with_names_of_their_own_or_several_scales(tmp_path):
    rows = (
        CohortSlide("a, b", tmp_path / "one.tif", case_id="case 1", mpp=0.5),
        CohortSlide("c", "https://example.org/c.zarr", case_id="c"),
    )
    script = get_session(ViewerModel()).log
    script.add(Predicted(tmp_path / "bundle", "student", rows, compute=Compute("cpu")))
    script.add(
        Exported(
            tmp_path / "bundle", "student", ("a, b",), tmp_path / "out", ("csv",), 0.25,
            Inputs(corrections=tmp_path / "c.csv", label_map={"Tumor": "tumour"}),
        )
    )  # fmt: skip
    text = script.python()
    compile(text, "copied", "exec")
    assert "CohortSlide('a, b', Path(" in text
    assert "mpp=0.5" in text
    assert "CohortSlide('c', 'https://example.org/c.zarr'" in text
    assert "from napari_distill2label import Cohort, CohortSlide, Compute, export, Inputs, predict" in text
    assert "compute=Compute(device='cpu')" in text
    assert f"inputs=Inputs(corrections={str(tmp_path / 'c.csv')!r}, label_map={{'Tumor': 'tumour'}})" in text
    lines = script.command_line()
    assert '"a, b",' in lines
    assert "https://example.org/c.zarr" in lines
    assert f"--corrections {tmp_path / 'c.csv'}" in lines
    assert "--map Tumor=tumour" in lines
    assert "--device cpu" in lines


def test_an_id_of_several_lines_ends_no_table_and_starts_no_command(tmp_path):
    evil = f'x\nEND\ntouch {tmp_path}/owned\n"y'
    rows = (CohortSlide(evil, tmp_path / "one.tif", mpp=0.5), CohortSlide("b", tmp_path / "two.tif"))
    script = get_session(ViewerModel()).log
    script.add(Predicted(tmp_path / "bundle", "student", rows))
    (tmp_path / "distill2label").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "distill2label").chmod(0o755)
    run(["bash", "-e", "-c", f"PATH=$PWD:$PATH\n{script.command_line()}"], tmp_path)
    assert not (tmp_path / "owned").exists()
    assert pd.read_csv(tmp_path / "bundle_slides.csv")["slide_id"].tolist() == [evil, "b"]


def test_masks_of_tissue(tmp_path):
    rows = tuple(CohortSlide(name, tmp_path / f"{name}.tif", case_id=name) for name in ("a", "b"))

    def script(masks):
        made = get_session(ViewerModel()).log
        made.add(Predicted(tmp_path / "bundle", "student", rows, inputs=Inputs(tissue=TissueRegions(masks))))
        return made

    folder = {name: str(tmp_path / "masks" / f"{name}.geojson") for name in ("a", "b")}
    assert f"inputs=Inputs(tissue=TissueRegions(source={folder!r}))" in script(folder).python()
    assert f"--tissue {tmp_path / 'masks'}" in script(folder).command_line()
    some = {"a": str(tmp_path / "my mask.geojson")}
    assert f"TissueRegions(source={some!r})" in script(some).python()
    assert "--tissue" not in script(some).command_line()
    assert "left out here" in script(some).command_line()
    assert "--tissue all.geojson" in script("all.geojson").command_line()


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"teacher": {"epochs": 3}},
        {"patches": {"size_px": 40}},
        {"patches": {"size_um": 20.0, "mpp": 0.5}},
        {"seed": 4},
    ],
)
@pytest.mark.parametrize("method", ["paper", "recommended"])
def test_overrides_give_the_settings_back(asked, method):
    settings = build_settings("breast", method, asked)
    assert build_settings("breast", method, overrides_of(settings)) == settings


def test_its_flags_are_flags_of_the_command_line(session, cohort_csv, tmp_path):
    import shlex

    session.read_cohort(cohort_csv)
    session.configure(**TINY)
    session.train(tmp_path / "run", baseline=False)
    parts = shlex.split(session.log.command_line().replace("\\\n", " "))
    assert build_parser().parse_args(parts[1:]).preset == "colon"


def test_a_copied_script_exports_what_was_chosen_when_export_was_pressed(session, run_folder, qtbot, tmp_path):
    session.load_model(run_folder)
    session.predict("slide_001")
    job = session.export(tmp_path / "out", ["csv"], wait=False)
    session.network = "teacher"
    qtbot.waitUntil(lambda: job.outcome is not None, timeout=60_000)
    (exported,) = (action for action in session.log.actions if isinstance(action, Exported))
    assert (exported.network, exported.slide_ids) == ("student", ("slide_001",))
