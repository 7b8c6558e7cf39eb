import json
import re
from typing import Literal, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.presets import METHODS, PRESETS, build_settings
from napari_distill2label.core.settings import (
    ArchitectureSettings,
    PatchSettings,
    Settings,
    SplitSettings,
    StudentSettings,
    TeacherSettings,
    merged,
    validated,
)

PARTS = (PatchSettings, ArchitectureSettings, TeacherSettings, StudentSettings, SplitSettings)
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
    if name in ("preset", "method"):  # choices, checked by `build_settings`
        return
    if name == "device":
        assert any(getattr(item, "pattern", None) for item in field.metadata)
        return
    found = bounds(field)
    assert found & {"ge", "gt"}, f"{name} has no lower bound"
    assert found & {"le", "lt"}, f"{name} has no upper bound"


def test_a_copy_takes_no_name_that_is_no_setting():
    teacher = Settings().teacher
    assert teacher.model_copy(update={"epochs": 3}).epochs == 3
    with pytest.raises(TypeError, match="TeacherSettings has no batch_bags"):
        teacher.model_copy(update={"batch_bags": 3})


def test_settings_are_frozen_and_know_their_fields():
    with pytest.raises(ValidationError):
        Settings().seed = 3
    for data, field in (
        ({"teacher": {"epochs": 0}}, r"teacher\.epochs: .*\(got 0\)"),
        ({"student": {"temperature": 0}}, r"student\.temperature"),
        ({"student": {"temperature": float("nan")}}, r"student\.temperature"),
        ({"teacher": {"perturbation_radius": float("inf")}}, r"teacher\.perturbation_radius"),
        ({"patches": {"mpp": 100}}, r"patches\.mpp"),
        ({"architecture": {"pooling": "sum"}}, r"architecture\.pooling"),
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
    settings = build_settings("breast", "paper", {"teacher": {"epochs": 7}, "patches": {"stride_px": 3}})
    assert validated(Settings, json.loads(settings.model_dump_json())) == settings


def test_what_the_paper_gives():
    for preset in ("colon", "breast"):
        settings = build_settings(preset, "paper")
        student, teacher = settings.student, settings.teacher
        assert (student.gamma_c, student.gamma_b, student.gamma_i, student.gamma_e) == (0.3, 0.5, 0.5, 0.1)
        for part in (student, teacher):
            assert (part.optimiser, part.learning_rate, part.batch_size) == ("adam", 1e-4, 1)
            assert part.weight_decay == 5e-4
        assert student.instance_reduction == "mean"
        assert student.initial_weights == "random"
        assert (teacher.perturbation, teacher.subset_size) == ("random", "fixed")
        assert (
            settings.architecture.attention_dim,
            settings.architecture.dropout,
            settings.architecture.hidden_dim,
        ) == (128, 0.5, 512)
        assert settings.architecture.pooling == "gated"
        assert (settings.split.valid, settings.split.test) == (0.1, 0.2)
    colon, breast = build_settings("colon", "paper"), build_settings("breast", "paper")
    lambdas = [[getattr(s.teacher, f"lambda_{x}") for x in "cnde"] for s in (colon, breast)]
    assert lambdas == [[1.0, 0.5, 0.3, 0.3], [0.8, 0.8, 0.3, 0.3]]
    assert (colon.teacher.n_subsets, breast.teacher.n_subsets) == (1, 5)
    assert (colon.patches.size_px, colon.patches.tissue) == (27, "none")
    assert (breast.patches.size_px, breast.patches.tissue) == (32, "white")
    assert (breast.patches.white_level, breast.patches.max_background) == (220, 0.75)


def test_presets_and_recipes_are_known_by_name():
    assert set(PRESETS) == {"colon", "breast", "wsi"}
    assert set(METHODS) == {"recommended", "paper"}
    for preset in PRESETS:
        for method in METHODS:
            settings = build_settings(preset, method)
            assert (settings.preset, settings.method) == (preset, method)
    with pytest.raises(SettingsError, match="unknown preset 'colom': choose one of colon, breast, wsi"):
        build_settings("colom")
    with pytest.raises(SettingsError, match="unknown method"):
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
        build_settings("colon", "recommended", {"student": {"gamma_oof": 0.0}})
    assert str(error.value) == (
        "settings: student: nothing teaches the student what a patch is: give gamma_i, gamma_oof or gamma_n a weight"
    )
    assert build_settings("colon", "recommended", {"student": {"gamma_oof": 0.0, "gamma_i": 1.0}}).student.gamma_i == 1


GRIDS = [
    ({}, (27, None, None)),
    ({"size_um": 112, "mpp": 0.5}, (224, None, 0.5)),
    ({"size_um": "13.5"}, (27, None, 0.5)),  # as the command line gives it
    ({"size_um": 32, "size_px": 64}, (64, None, 0.5)),
    ({"size_um": 32, "size_px": 64, "mpp": 0.5}, (64, None, 0.5)),
    ({"size_um": 100, "mpp": 0.49}, (204, None, 0.49)),
    ({"size_px": 64, "mpp": 0.5, "stride_um": 16}, (64, 32, 0.5)),
    ({"size_um": 64, "mpp": 0.5, "stride_um": 16, "stride_px": 32}, (128, 32, 0.5)),
    ({"stride_um": 16}, (27, None, None)),  # until there is a scale
]


@pytest.mark.parametrize(("given", "expected"), GRIDS)
def test_lengths_in_um_and_px_give_one_another(given, expected):
    grid = validated(PatchSettings, given)
    assert (grid.size_px, grid.stride_px, grid.mpp) == expected
    assert grid.model_fields_set == set(given)  # what was worked out gives way to an encoder's
    assert validated(PatchSettings, json.loads(grid.model_dump_json())) == grid


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"size_um": 16, "mpp": 0.25, "size_px": 32}, "size_um 16 at mpp 0.25 is 64 px, not size_px 32"),
        ({"stride_um": 16, "mpp": 0.5, "stride_px": 16}, "stride_um 16 at mpp 0.5 is 32 px, not stride_px 16"),
        ({"size_um": 20_000}, "mpp would be 740.7, which is not between 0.05 and 20"),
        ({"size_um": 9_000, "mpp": 0.1}, "size_px would be 9e+04, which is not between 1 and 4096"),
        ({"size_um": 0}, "size_um: Input should be greater than 0"),
    ],
)
def test_lengths_that_contradict_one_another(given, said):
    with pytest.raises(SettingsError, match=re.escape(said)) as error:
        validated(PatchSettings, given)
    assert "\n" not in str(error.value)


def test_a_users_lengths_win_over_a_presets_and_an_encoders():
    breast = build_settings("breast", "recommended", {"patches": {"size_um": 16, "mpp": 0.25}}).patches
    assert (breast.size_px, breast.tissue) == (64, "white")
    assert build_settings("breast").patches.size_px == 32  # the preset itself is what it was

    def opened_grid(**given):
        grid = validated(PatchSettings, given).with_encoder_defaults(224, 0.5)
        return grid.size_px, grid.stride_px, grid.mpp

    assert opened_grid() == (224, None, 0.5)
    assert opened_grid(mpp=0.25) == (224, None, 0.25)
    assert opened_grid(size_um=64) == (128, None, 0.5)
    assert opened_grid(size_um=64, size_px=64) == (64, None, 1.0)
    assert opened_grid(size_um=64, mpp=1) == (64, None, 1.0)
    assert opened_grid(stride_um=56) == (224, 112, 0.5)
    assert PatchSettings().with_encoder_defaults(224, None).mpp is None
