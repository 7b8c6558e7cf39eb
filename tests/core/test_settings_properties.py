"""Settings survive JSON, which is how runs and bundles keep them, whatever their values."""

import json
from types import NoneType, UnionType
from typing import Literal, get_args, get_origin

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.settings import Settings, merged, validated

GROUPS = {name: field.annotation for name, field in Settings.model_fields.items() if isinstance(field.annotation, type)}
GROUPS = {name: kind for name, kind in GROUPS.items() if issubclass(kind, BaseModel)}


def values_of(field) -> st.SearchStrategy:
    """Every value that a setting may have, by its annotation and its limits."""
    kinds = get_args(field.annotation) if get_origin(field.annotation) in (UnionType,) else (field.annotation,)
    limits = {key: value for item in field.metadata for key, value in vars_of(item).items()}
    return st.one_of([_of_kind(kind, limits) for kind in kinds])


def vars_of(item) -> dict:
    return {key: getattr(item, key) for key in ("ge", "gt", "le", "lt") if getattr(item, key, None) is not None}


def _of_kind(kind, limits) -> st.SearchStrategy:
    if kind is NoneType:
        return st.none()
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if kind is bool:
        return st.booleans()
    if kind is int:
        low = limits.get("ge", limits.get("gt", -1) + 1)
        return st.integers(low, limits.get("le", limits.get("lt", 0) - 1))
    return st.floats(
        limits.get("ge", limits.get("gt")),
        limits.get("le", limits.get("lt")),
        exclude_min="gt" in limits,
        exclude_max="lt" in limits,
    )


def some_of(kind: type[BaseModel]) -> st.SearchStrategy[dict]:
    """Some settings of a group, set to anything they may be."""
    fields = {name: values_of(field) for name, field in kind.model_fields.items()}
    return st.fixed_dictionaries({}, optional=fields)


SOME = st.fixed_dictionaries({}, optional={name: some_of(kind) for name, kind in GROUPS.items()})


def settings_of(data) -> Settings:
    """The settings; combinations that are refused are left out."""
    try:
        return validated(Settings, data)
    except SettingsError:
        assume(False)


@given(SOME)
def test_settings_come_back_from_json(data):
    settings = settings_of(data)
    again = validated(Settings, json.loads(settings.model_dump_json()))
    assert again == settings
    assert again.model_dump_json() == settings.model_dump_json()


@given(SOME)
def test_laying_settings_over_themselves_changes_nothing(data):
    settings = settings_of(data)
    assert merged(settings.model_dump(), settings.model_dump()) == settings.model_dump()


@pytest.mark.parametrize("name", GROUPS)
def test_the_strategy_knows_every_setting(name):
    for field in GROUPS[name].model_fields.values():
        values_of(field)
