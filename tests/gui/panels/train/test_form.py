"""The settings form: every setting, in words, and what differs from the preset marked."""

import pytest
from napari.components import ViewerModel

from napari_distill2label.core.fields import FIELDS, NO_SETTINGS, SETTINGS, changed_settings, value_in_words
from napari_distill2label.core.presets import METHODS, METHODS_IN_WORDS, PRESETS, PRESETS_IN_WORDS
from napari_distill2label.core.settings import Settings
from napari_distill2label.gui.panels.train.form import MAIN, SettingsForm
from napari_distill2label.gui.session import Session


@pytest.fixture
def session():
    viewer = ViewerModel()
    made = Session(viewer)
    yield made
    made.shutdown()


@pytest.fixture
def form(qtbot, session):
    problems = []
    made = SettingsForm(session, problems.append)
    made.problems = problems
    session.choices.changed.connect(made.refresh)
    qtbot.addWidget(made)
    made.show()
    return made


def choose(editor, value):
    """As a user does: pick an entry of a combo box."""
    editor.setCurrentIndex(editor.findData(value))
    editor.activated.emit(editor.currentIndex())


def test_every_setting_is_in_the_form(form):
    assert set(form.editors) == set(SETTINGS)
    assert len(SETTINGS) > 60
    for path, editor in form.editors.items():
        told, declared = editor.toolTip(), FIELDS[path].description
        assert told == declared
        assert editor.accessibleName()


def test_names_differ_within_a_section():
    paths = SETTINGS
    for section in {path.split(".")[0] for path in paths}:
        names = [FIELDS[path].name for path in paths if path.split(".")[0] == section]
        assert len(names) == len(set(names)), names
    assert not set(NO_SETTINGS) & set(paths)
    assert set(MAIN) <= set(paths)


def test_presets_and_methods_are_explained():
    assert PRESETS_IN_WORDS.keys() == PRESETS.keys()
    assert METHODS_IN_WORDS.keys() == METHODS.keys()
    assert all(text.endswith(".") for text in (*PRESETS_IN_WORDS.values(), *METHODS_IN_WORDS.values()))


def test_editing(form, session):
    editors = form.editors
    assert editors["patches.size_px"].value() == Settings().patches.size_px
    editors["patches.size_px"].setValue(40)
    assert session.settings.patches.size_px == 40
    editors["patches.mpp"].setValue(0.5)
    assert session.settings.patches.mpp == 0.5
    editors["patches.mpp"].setValue(editors["patches.mpp"].minimum())
    assert session.settings.patches.mpp is None
    choose(editors["patches.tissue"], "otsu")
    assert session.settings.patches.tissue == "otsu"
    editors["architecture.multi_label"].click()
    assert session.settings.architecture.multi_label
    assert editors["teacher.weight_decay"].text() == "0.0005"
    assert editors["patches.size_px"].text() == "40"


def test_what_differs_is_marked_and_can_be_put_back(form, session):
    setting = form.settings["patches.size_px"]
    assert not setting.reset.isVisibleTo(form)
    setting.editor.setValue(40)
    assert setting.label.text() == "Patch size (px) *"
    assert setting.label.font().bold()
    assert setting.reset.isVisibleTo(form)
    assert "27 px" in setting.reset.toolTip()
    form.editors["teacher.noise_ratio"].setValue(0.75)
    assert form.sections["teacher"].toggle.text() == "Teacher (1 changed)"
    assert form.fold.toggle.text() == "All settings (1 changed)"
    setting.reset.click()
    assert session.settings.patches.size_px == 27
    assert setting.label.text() == "Patch size (px)"
    assert session.choices.overrides == {"teacher": {"noise_ratio": 0.75}}
    form.reset.click()
    assert session.choices.overrides == {}
    assert not form.reset.isEnabled()
    assert form.fold.toggle.text() == "All settings"


def test_a_value_that_is_the_presets_own_is_not_marked(form, session):
    form.editors["patches.size_px"].setValue(32)
    assert form.settings["patches.size_px"].reset.isVisibleTo(form)
    session.configure(preset="breast")
    assert not form.settings["patches.size_px"].reset.isVisibleTo(form)
    assert changed_settings(session.settings, session.settings) == []


def test_settings_that_do_not_fit_are_said_and_taken_back(form, session):
    form.editors["patches.mpp"].setValue(0.5)
    form.editors["patches.size_um"].setValue(13.5)
    assert session.settings.patches.size_um == 13.5
    assert form.problems == []
    form.editors["patches.size_px"].setValue(99)
    assert "leave one of them out" in form.problems[0]
    assert form.editors["patches.size_px"].value() == session.settings.patches.size_px == 27


def test_finding_a_setting(form):
    form.fold.toggle.click()
    form.search.setText("stain")
    assert form.editors["teacher.stain_jitter"].isVisible()
    assert form.editors["student.stain_jitter"].isVisible()
    assert not form.editors["teacher.noise_ratio"].isVisible()
    assert not form.sections["split"].isVisible()
    form.search.setText("no such thing")
    assert form.none_found.isVisible()
    form.search.clear()
    assert not form.none_found.isVisible()
    assert all(fold.isVisible() for fold in form.sections.values())
    assert not form.editors["teacher.stain_jitter"].isVisible()  # folded again


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [("patches.size_px", 27, "27 px"), ("patches.mpp", None, "slide's own"), ("architecture.multi_label", True, "yes"),
     ("patches.tissue", "none", "keep all"), ("teacher.learning_rate", 0.0001, "0.0001"),
     ("teacher.perturbation", "random", "random"),
     ("patches.stride_px", None, "patch size")],
)  # fmt: skip
def test_values_in_words(path, value, text):
    assert value_in_words(path, value) == text
