"""JSON in pieces is what `json.loads` makes of the whole, wherever the pieces end."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_distill2label.slides import json_text
from napari_distill2label.slides.json_text import JsonText

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def reader(text, size):
    """A function that gives `size` characters of a text at a time, however many are asked for."""
    pieces = iter([text[start : start + size] for start in range(0, len(text), size)])
    return lambda n: next(pieces, "")


@given(VALUES, st.sampled_from([1, 2, 7, 100]), st.sampled_from([None, 1]), st.booleans())
def test_values_do_not_depend_on_the_pieces(value, size, indent, escaped):
    text = json.dumps(value, indent=indent, ensure_ascii=escaped)
    found = list(JsonText(reader(f" {text}\n", size)).parts("features"))
    expected = value
    if isinstance(value, dict) and isinstance(value.get("features"), list):
        expected = value["features"]
    assert found == (expected if isinstance(expected, list) else [expected])


@given(st.lists(VALUES, max_size=5), VALUES, st.sampled_from([1, 3, 50]))
def test_a_list_among_members(listed, other, size):
    text = json.dumps({"type": "x", "provenance": other, "features": listed, "after": other})
    assert list(JsonText(reader(text, size)).parts("features")) == listed
    assert JsonText(reader(text, size)).member("provenance", "features") == other
    assert JsonText(reader(text, size)).member("after", "features") is None


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"features":[1,2', '{"features":[1 2]}', '{"a":1,}', "[1,]", "[1]]", '{"a" 1}', "{1:2}", '["a', "nul",
     '{"features":[{"a":tru}]}'],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 1000])
def test_what_is_no_json_is_an_error(text, size):
    with pytest.raises(ValueError, match=r"."):
        list(JsonText(reader(text, size)).parts("features"))


def test_a_long_list_is_not_held(monkeypatch):
    monkeypatch.setattr(json_text, "AT_ONCE", 100)
    asked = []

    def read(n):
        asked.append(n)
        return '{"features":[' if len(asked) == 1 else "12345678,"

    parts = JsonText(read).parts("features")
    assert [next(parts) for _ in range(500)] == [12345678] * 500
    assert len(asked) < 520


def test_an_error_is_found_without_reading_on():
    asked = []

    def read(n):
        asked.append(n)
        return '{"features":[{"a":tru}, ' + '"and so on", ' * 100

    with pytest.raises(ValueError, match="tru"):
        next(JsonText(read).parts("features"))
    assert len(asked) == 1
