import pytest

from napari_distill2label.core.errors import CohortError, Distill2LabelError
from napari_distill2label.core.text import printable, quoted, shown, without_login


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("Größe 1 病理", "Größe 1 病理"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x9b31m", r"\x9b31m"),
        ("gpj\u202etxt\u2066", r"gpj\u202etxt\u2066"),
        ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
        ("\udcff", r"\udcff"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # a joiner that Persian needs
        ("\U000e0041", r"\U000e0041"),
        ("a\xa0b", "a\xa0b"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text, harmless):
    assert printable(text) == harmless


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("https://me:secret@host/a.zarr: no", "https://…@host/a.zarr: no"),
        ("s3://key@bucket/a.zarr", "s3://…@bucket/a.zarr"),
        ("'https://host/a.zarr?sig=abc&x=1': gone", "'https://host/a.zarr?…': gone"),
        ("https://host/a@b.zarr", "https://host/a@b.zarr"),
        ("mail me@host", "mail me@host"),
        ("https://a:b@c/x and https://d:e@f/y?z", "https://…@c/x and https://…@f/y?…"),
    ],
)
def test_logins_and_signatures_of_urls_are_hidden(text, hidden):
    assert without_login(text) == hidden
    assert printable(text) == hidden


def test_what_is_cut_hides_logins_too():
    signed = "https://host/a.zarr?X-Amz-Signature=" + "0123456789abcdef" * 40
    assert "0123456789" not in shown(signed)
    login = "https://user:" + "p" * 500 + "@host/a.zarr"
    assert "ppp" not in shown(login)


def test_long_texts_are_short():
    text = shown("x" * 100_000 + "end")
    assert len(text) < 160
    assert text.startswith("xxx")
    assert text.endswith("end (100,003 characters)")
    assert shown("short") == "short"
    assert shown(3.5) == "3.5"
    assert quoted("a\\b\n") == r"'a\b\n'"
    assert printable("a\n\x1bb", keep="\n") == "a\n\\x1bb"


def test_every_error_of_ours_is_one_harmless_line():
    error = CohortError("cohort.csv: slide '\x1b[2J\n' at https://me:pw@host/x: bad")
    assert str(error) == r"cohort.csv: slide '\x1b[2J\n' at https://…@host/x: bad"
    assert len(str(Distill2LabelError("a" * 10**6 + " what to do"))) < 2100
    assert "what to do" in str(Distill2LabelError("a" * 10**6 + " what to do"))
