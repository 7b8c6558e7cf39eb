"""The table is changed by another program while it is open. Without a window."""

import shutil

import pytest

from napari_distill2label.store.cohort import Cohort


@pytest.fixture
def table(session, cohort_csv, tmp_path):
    folder = shutil.copytree(cohort_csv.parent, tmp_path / "cohort")
    session.read_cohort(folder / "cohort.csv")
    return folder / "cohort.csv"


def set_elsewhere(table, slide_id, label):
    from dataclasses import replace

    cohort = Cohort.read(table).with_classes(["normal", "tumour"])
    rows = [replace(row, label=label) if row.slide_id == slide_id else row for row in cohort]
    cohort.with_slides(rows).write(table)


def labels(cohort):
    return {row.slide_id: row.label for row in cohort}


def test_what_another_program_changed_is_said_and_taken(session, table):
    reload, before = session.table_reload, labels(session.cohort)
    reload.look()
    assert reload.text == ""
    set_elsewhere(table, "slide_000", None)
    reload.look()
    assert reload.text == "Another program has changed cohort.csv: slide_000 differs."
    reload.take()
    assert labels(session.cohort) == before | {"slide_000": None}
    assert not session.project.unsaved
    assert reload.text == ""
    reload.look()
    assert reload.found is None
    session.undo()
    assert labels(session.cohort) == before
    assert session.project.unsaved
    session.write_cohort()  # it is asked about nothing: this window has seen the table
    assert labels(Cohort.read(table)) == before


@pytest.mark.parametrize("prefer_there", [False, True])
def test_unsaved_edits_stay_and_what_both_changed_is_named(session, table, prefer_there):
    session.set_label("slide_000", None)
    session.set_label("slide_001", None)
    set_elsewhere(table, "slide_002", None)
    other = "tumour" if labels(Cohort.read(table))["slide_001"] == "normal" else "normal"
    set_elsewhere(table, "slide_001", other)
    session.table_reload.look()
    assert "2 slides differ; 1 value was changed here too" in session.table_reload.text
    (conflict,) = session.table_reload.merge().conflicts
    assert (conflict.slide_id, conflict.field, conflict.here, conflict.there) == ("slide_001", "label", None, other)
    session.table_reload.take(prefer_there)
    now = labels(session.cohort)
    assert (now["slide_000"], now["slide_001"], now["slide_002"]) == (None, other if prefer_there else None, None)
    assert session.project.unsaved
    session.write_cohort()
    assert labels(Cohort.read(table)) == now


def test_columns_of_others_that_changed_meanwhile_are_saved_with_ours(session, table):
    session.set_label("slide_000", None)
    lines = table.read_text("utf-8").splitlines()
    table.write_text("\n".join([f"{lines[0]},age", *(f"{line},{n}" for n, line in enumerate(lines[1:])), ""]), "utf-8")
    session.table_reload.look()
    assert "no value of a slide differs" in session.table_reload.text
    session.table_reload.take()
    session.undo()
    session.redo()
    session.write_cohort()
    assert table.read_text("utf-8").splitlines()[3].endswith(",2")


def test_a_table_that_cannot_be_read_is_said_and_one_that_is_gone_is_not(session, table):
    text = table.read_bytes()
    table.write_text("nothing,of,it\n1,2,3\n", "utf-8")
    session.table_reload.look()
    assert "cannot be read now" in session.table_reload.text
    session.table_reload.take()  # there is nothing to take
    assert len(session.cohort) == 8
    session.table_reload.keep()
    session.table_reload.look()
    assert session.table_reload.text == ""  # it was seen
    table.unlink()
    session.table_reload.look()
    assert session.table_reload.text == ""
    table.write_bytes(text)
    session.table_reload.look()
    assert session.table_reload.text != ""


def test_saving_here_ends_the_question(session, table):
    set_elsewhere(table, "slide_000", None)
    session.table_reload.look()
    session.write_cohort(overwrite=True)
    assert session.table_reload.found is None
    session.table_reload.look()
    assert session.table_reload.found is None


def test_a_slide_with_another_scale_is_opened_anew(session, table):
    session.show("slide_000")
    heard = []
    session.table_reload.shown_again.connect(heard.append)
    from dataclasses import replace

    cohort = Cohort.read(table)
    cohort.with_slides(replace(row, mpp=0.7) for row in cohort).write(table)
    session.table_reload.look()
    session.table_reload.take()
    assert heard == ["slide_000"]
    assert session.shown == "slide_000"
