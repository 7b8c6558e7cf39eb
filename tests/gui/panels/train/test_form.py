"""The settings form: the basic rows first, every setting somewhere, and what differs from the method marked."""

import pytest
from qtpy.QtCore import Qt

from napari_distill2label.core.fields import SETTINGS
from napari_distill2label.core.presets import METHODS, METHODS_IN_WORDS, PRESETS, PRESETS_IN_WORDS
from napari_distill2label.core.settings import Settings
from napari_distill2label.gui.panels.train.form import SECTIONS, SettingsForm, basic_rows
from napari_distill2label.gui.panels.train.form_fields import DIFFERS


@pytest.fixture
def form(qtbot, session):
    problems = []
    made = SettingsForm(session, problems.append)
    made.problems = problems
    session.choices.changed.connect(made.refresh)
    qtbot.addWidget(made)
    made.show()
    return made


def everywhere(name):
    return tuple(f"{network}.{name}" for network in ("teacher", "oof", "student"))


def choose(row, text):
    """As a user does: pick an entry of a box."""
    row.editor.widget.setCurrentText(text)
    row.editor.widget.activated.emit(row.editor.widget.currentIndex())


def test_rows_that_are_seen_first():
    rows = basic_rows()
    assert len(rows) == 26
    assert everywhere("learning_rate") in rows
    assert ("teacher.epochs",) in rows
    assert len({path for row in rows for path in row}) == len([path for path in SETTINGS if SETTINGS[path].basic])


def test_every_setting_has_a_row(form):
    assert {row.paths for row in form.basic} == set(basic_rows())
    assert {path for row in form.rows for path in row.paths} == set(SETTINGS)
    for row in form.rows:
        assert row.editor.widget.toolTip().startswith(SETTINGS[row.paths[0]].description)
        assert row.editor.widget.accessibleName()


def test_names_differ_within_a_section():
    for section in SECTIONS:
        names = [field.name for path, field in SETTINGS.items() if path.startswith(f"{section}.")]
        assert len(names) == len(set(names)), names


def test_presets_and_methods_are_explained():
    assert PRESETS_IN_WORDS.keys() == PRESETS.keys()
    assert METHODS_IN_WORDS.keys() == METHODS.keys()
    assert all(text.endswith(".") for text in (*PRESETS_IN_WORDS.values(), *METHODS_IN_WORDS.values()))


def test_editing(form, session):
    size = form.row_of("patches.size_px").editor.widget
    assert size.value() == Settings().patches.size_px
    size.setValue(40)
    assert session.settings.patches.size_px == 40
    assert isinstance(session.settings.patches.size_px, int)
    mpp = form.row_of("patches.mpp").editor.widget
    mpp.setValue(0.5)
    assert (session.settings.patches.mpp, mpp.text()) == (0.5, "0.5 µm/px")
    mpp.setValue(mpp.minimum())
    assert (session.settings.patches.mpp, mpp.text()) == (None, "slide's own")
    choose(form.row_of("patches.tissue"), "find tissue")
    assert session.settings.patches.tissue == "otsu"
    form.row_of("architecture.multi_label").editor.widget.click()
    assert session.settings.architecture.multi_label
    assert form.row_of("teacher.weight_decay").editor.widget.text() == "0.0005"


def test_one_row_sets_all_networks(form, session):
    rate, epoch, flip = (form.row_of(*everywhere(name)) for name in ("learning_rate", "keep_epoch", "rotate_flip"))
    assert rate.editor.widget.text() == DIFFERS  # the recommended method has two rates
    assert epoch.editor.widget.currentIndex() == -1
    assert session.choices.overrides == {}
    rate.editor.widget.setValue(0.002)
    choose(epoch, "the last")
    settings = session.settings
    assert {settings.teacher.learning_rate, settings.oof.learning_rate, settings.student.learning_rate} == {0.002}
    assert {settings.teacher.keep_epoch, settings.oof.keep_epoch, settings.student.keep_epoch} == {"last"}
    assert form.row_of("student.learning_rate").editor.widget.value() == 0.002  # under Advanced too
    form.row_of("student.rotate_flip").editor.widget.click()
    assert flip.editor.widget.checkState() == Qt.CheckState.PartiallyChecked
    rate.reset.click()
    assert session.settings.teacher.learning_rate == 1e-4
    assert rate.editor.widget.text() == DIFFERS


def test_what_differs_is_marked_and_can_be_reset(form, session):
    row = form.row_of("patches.size_px")
    assert not row.reset.isVisibleTo(form)
    row.editor.widget.setValue(40)
    assert row.label.text() == "Patch size (px) *"
    assert row.label.font().bold()
    assert row.reset.isVisibleTo(form)
    assert row.reset.toolTip() == "Reset to 27 px"
    form.row_of("teacher.noise_ratio").editor.widget.setValue(0.75)
    assert form.sections["teacher"].toggle.text() == "Teacher (1 changed)"
    assert form.fold.toggle.text() == "Advanced (1 changed)"
    row.reset.click()
    assert session.settings.patches.size_px == 27
    assert row.label.text() == "Patch size (px)"
    assert session.choices.overrides == {"teacher": {"noise_ratio": 0.75}}
    form.reset.click()
    assert session.choices.overrides == {}
    assert not form.reset.isEnabled()
    assert form.fold.toggle.text() == "Advanced"


def test_a_value_of_the_preset_is_not_marked(form, session):
    row = form.row_of("patches.size_px")
    row.editor.widget.setValue(32)
    assert row.reset.isVisibleTo(form)
    session.configure(preset="breast")
    assert not row.reset.isVisibleTo(form)


def test_settings_that_do_not_fit_are_reported_and_taken_back(form, session):
    form.row_of("patches.mpp").editor.widget.setValue(0.5)
    form.row_of("patches.size_um").editor.widget.setValue(13.5)
    assert session.settings.patches.size_um == 13.5
    assert form.problems == []
    size = form.row_of("patches.size_px").editor.widget
    size.setValue(99)
    assert "leave one of them out" in form.problems[0]
    assert size.value() == session.settings.patches.size_px == 27


def test_finding_a_setting(form):
    form.search.setText("stain")
    assert form.row_of(*everywhere("stain_jitter")).field.isVisible()
    assert form.row_of("student.stain_jitter").field.isVisible()
    assert not form.row_of("teacher.noise_ratio").field.isVisible()
    assert not form.row_of("patches.size_px").field.isVisible()
    assert not form.sections["split"].isVisible() if "split" in form.sections else True
    form.search.setText("no such thing")
    assert form.none_found.isVisible()
    form.search.clear()
    assert not form.none_found.isVisible()
    assert form.row_of("patches.size_px").field.isVisible()
    assert not form.row_of("teacher.stain_jitter").field.isVisible()  # folded again
