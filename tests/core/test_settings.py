import json
import re
from typing import Literal, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.presets import PRESETS, RECIPES, build_settings
from napari_distill2label.core.settings import (
    GridSettings,
    ModelSettings,
    Settings,
    SplitSettings,
    StudentSettings,
    TeacherSettings,
    merged,
    validated,
)

PARTS = (GridSettings, ModelSettings, TeacherSettings, StudentSettings, SplitSettings)
FIELDS = [(kind, name) for kind in (*PARTS, Settings) for name in kind.model_fields]


def bounds(field):
    return {
        name for item in field.metadata for name in ("ge", "gt", "le", "lt") if getattr(item, name, None) is not None
    }


@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=[f"{kind.__name__}.{name}" for kind, name in FIELDS])
def test_every_field_has_a_description_and_a_range_or_choices(kind, name):
    field = kind.model_fields[name]
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
        assert field.annotation.__doc__
        return
    assert field.description
    choices = {inner for inner in get_args(field.annotation) if inner is not type(None)} or {field.annotation}
    if get_origin(field.annotation) is Literal or choices == {bool}:
        return
    if name in ("preset", "recipe"):  # choices, checked by `build_settings`
        return
    if name == "device":
        assert any(getattr(item, "pattern", None) for item in field.metadata)
        return
    found = bounds(field)
    assert found & {"ge", "gt"}, f"{name} has no lower bound"
    assert found & {"le", "lt"}, f"{name} has no upper bound"


def test_settings_are_frozen_and_know_their_fields():
    with pytest.raises(ValidationError):
        Settings().seed = 3
    for data, field in (
        ({"teacher": {"epochs": 0}}, r"teacher\.epochs: .*\(got 0\)"),
        ({"student": {"temperature": 0}}, r"student\.temperature"),
        ({"student": {"temperature": float("nan")}}, r"student\.temperature"),
        ({"teacher": {"delta": float("inf")}}, r"teacher\.delta"),
        ({"grid": {"mpp": 100}}, r"grid\.mpp"),
        ({"model": {"pooling": "sum"}}, r"model\.pooling"),
        ({"device": "gpu"}, "device"),
        ({"seed": -1}, "seed"),
    ):
        with pytest.raises(SettingsError, match=rf"^settings: {field}[^\n]*$"):
            validated(Settings, data)
    with pytest.raises(SettingsError, match=r"^file\.json: "):
        validated(Settings, {"no": 1}, "file.json")


def test_an_unknown_setting_is_answered_with_the_nearest():
    with pytest.raises(SettingsError, match=r"^There is no setting teacher\.epoch\. Did you mean teacher\.epochs\?$"):
        validated(Settings, {"teacher": {"epoch": 3}}, "settings")


def test_settings_survive_json():
    settings = build_settings("breast", "paper", {"teacher": {"epochs": 7}, "grid": {"stride_px": 3}})
    assert validated(Settings, json.loads(settings.model_dump_json())) == settings


def test_what_the_paper_gives():
    for preset in ("colon", "breast"):
        settings = build_settings(preset, "paper")
        student, teacher = settings.student, settings.teacher
        assert (student.gamma_c, student.gamma_b, student.gamma_i, student.gamma_e) == (0.3, 0.5, 0.5, 0.1)
        for part in (student, teacher):
            assert (part.optimiser, part.learning_rate, part.batch_bags) == ("adam", 1e-4, 1)
            assert part.weight_decay == 5e-4
        assert student.instance_reduction == "mean"
        assert student.init == "fresh"
        assert (teacher.ball, teacher.subset) == ("random", "fixed")
        assert (settings.model.attention, settings.model.dropout, settings.model.hidden) == (128, 0.5, 512)
        assert settings.model.pooling == "gated"
        assert (settings.split.valid, settings.split.test) == (0.1, 0.2)
    colon, breast = build_settings("colon", "paper"), build_settings("breast", "paper")
    lambdas = [[getattr(s.teacher, f"lambda_{x}") for x in "cnde"] for s in (colon, breast)]
    assert lambdas == [[1.0, 0.5, 0.3, 0.3], [0.8, 0.8, 0.3, 0.3]]
    assert (colon.teacher.realizations, breast.teacher.realizations) == (1, 5)
    assert (colon.grid.patch_px, colon.grid.tissue) == (27, "all")
    assert (breast.grid.patch_px, breast.grid.tissue) == (32, "white")
    assert (breast.grid.white_level, breast.grid.background_fraction) == (220, 0.75)


def test_presets_and_recipes_are_known_by_name():
    assert set(PRESETS) == {"colon", "breast", "wsi"}
    assert set(RECIPES) == {"default", "paper"}
    for preset in PRESETS:
        for recipe in RECIPES:
            settings = build_settings(preset, recipe)
            assert (settings.preset, settings.recipe) == (preset, recipe)
    with pytest.raises(SettingsError, match="unknown preset 'colom': choose one of colon, breast, wsi"):
        build_settings("colom")
    with pytest.raises(SettingsError, match="unknown recipe"):
        build_settings("colon", "best")
    with pytest.raises(SettingsError, match=r"teacher\.epoch"):
        build_settings("colon", overrides={"teacher": {"epoch": 5}})


def test_the_users_settings_come_last():
    settings = build_settings("breast", "paper", {"teacher": {"lambda_n": 0.1}, "seed": 4})
    assert (settings.teacher.lambda_n, settings.teacher.lambda_c, settings.seed) == (0.1, 0.8, 4)


def test_merged_lays_layers_over_one_another_and_changes_none():
    base = {"a": {"x": 1, "y": {"z": 2}}, "b": 3}
    assert merged(base, {"a": {"y": {"w": 4}}}, {"b": 5, "a": {"x": 6}}) == {
        "a": {"x": 6, "y": {"z": 2, "w": 4}},
        "b": 5,
    }
    assert merged({"a": 1}, {"a": {"x": 2}}) == {"a": {"x": 2}}
    assert merged({"a": {"x": 2}}, {"a": None}) == {"a": None}
    assert base == {"a": {"x": 1, "y": {"z": 2}}, "b": 3}


def test_a_student_that_nothing_teaches_is_refused():
    with pytest.raises(SettingsError) as error:
        build_settings("colon", "default", {"student": {"gamma_a": 0.0}})
    assert str(error.value) == (
        "settings: student: nothing teaches the student what a patch is: give gamma_i, gamma_a or gamma_n a weight"
    )
    assert build_settings("colon", "default", {"student": {"gamma_a": 0.0, "gamma_i": 1.0}}).student.gamma_i == 1


GRIDS = [
    ({}, (27, None, None)),
    ({"patch_um": 112, "mpp": 0.5}, (224, None, 0.5)),
    ({"patch_um": "13.5"}, (27, None, 0.5)),  # as the command line gives it
    ({"patch_um": 32, "patch_px": 64}, (64, None, 0.5)),
    ({"patch_um": 32, "patch_px": 64, "mpp": 0.5}, (64, None, 0.5)),
    ({"patch_um": 100, "mpp": 0.49}, (204, None, 0.49)),
    ({"patch_px": 64, "mpp": 0.5, "stride_um": 16}, (64, 32, 0.5)),
    ({"patch_um": 64, "mpp": 0.5, "stride_um": 16, "stride_px": 32}, (128, 32, 0.5)),
    ({"stride_um": 16}, (27, None, None)),  # until there is a scale
]


@pytest.mark.parametrize(("given", "expected"), GRIDS)
def test_lengths_in_um_and_px_give_one_another(given, expected):
    grid = validated(GridSettings, given)
    assert (grid.patch_px, grid.stride_px, grid.mpp) == expected
    assert grid.model_fields_set == set(given)  # what was worked out gives way to an encoder's
    assert validated(GridSettings, json.loads(grid.model_dump_json())) == grid


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"patch_um": 16, "mpp": 0.25, "patch_px": 32}, "patch_um 16 at mpp 0.25 is 64 px, not patch_px 32"),
        ({"stride_um": 16, "mpp": 0.5, "stride_px": 16}, "stride_um 16 at mpp 0.5 is 32 px, not stride_px 16"),
        ({"patch_um": 20_000}, "mpp would be 740.7, which is not between 0.05 and 20"),
        ({"patch_um": 9_000, "mpp": 0.1}, "patch_px would be 9e+04, which is not between 1 and 4096"),
        ({"patch_um": 0}, "patch_um: Input should be greater than 0"),
    ],
)
def test_lengths_that_contradict_one_another(given, said):
    with pytest.raises(SettingsError, match=re.escape(said)) as error:
        validated(GridSettings, given)
    assert "\n" not in str(error.value)


def test_a_users_lengths_win_over_a_presets_and_an_encoders():
    breast = build_settings("breast", "default", {"grid": {"patch_um": 16, "mpp": 0.25}}).grid
    assert (breast.patch_px, breast.tissue) == (64, "white")
    assert build_settings("breast").grid.patch_px == 32  # the preset itself is what it was

    def open_classifier(**given):
        grid = validated(GridSettings, given).with_encoder_defaults(224, 0.5)
        return grid.patch_px, grid.stride_px, grid.mpp

    assert open_classifier() == (224, None, 0.5)
    assert open_classifier(mpp=0.25) == (224, None, 0.25)
    assert open_classifier(patch_um=64) == (128, None, 0.5)
    assert open_classifier(patch_um=64, patch_px=64) == (64, None, 1.0)
    assert open_classifier(patch_um=64, mpp=1) == (64, None, 1.0)
    assert open_classifier(stride_um=56) == (224, 112, 0.5)
    assert GridSettings().with_encoder_defaults(224, None).mpp is None
