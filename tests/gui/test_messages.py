"""Errors and notices in the words of the window."""

import errno
import os
import re
from pathlib import Path

import pytest

import napari_distill2label
from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.messages import Remedy
from napari_distill2label.gui.messages import PLACES, message_of, reason_of

PACKAGE = Path(napari_distill2label.__file__).parent


def test_what_the_window_does_not_have_is_not_asked_for_there():
    error = SettingsError("Only one of them can be used.", remedy=Remedy("clear", "compute.scheduler"))
    assert message_of(error) == "Only one of them can be used."


def test_every_field_of_a_remedy_is_known_to_the_window():
    """Remedies are written as `Remedy("set", "patches.tissue", …)`: the fields are read from the code."""
    written = re.compile(r'(?:Remedy\(\s*"\w+",\s*|field=)"([\w.]+)"')
    fields = {field for path in PACKAGE.rglob("*.py") for field in written.findall(path.read_text("utf-8"))}
    assert len(fields) > 15
    assert fields <= PLACES.keys()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_is_said_in_words_with_the_file(code):
    error = OSError(code, os.strerror(code), "/slides/cohort.csv")
    assert message_of(error) == "/slides/cohort.csv: the disk is full, or your share of it: make room, and try again"


def test_other_errors_of_the_system_are_said_without_their_number():
    assert message_of(PermissionError(errno.EACCES, "Permission denied", "a.csv")) == "a.csv: Permission denied"
    assert message_of(OSError("cannot seek")) == "cannot seek"


def test_every_error_has_a_reason_and_what_names_no_place_is_given_one():
    known = SettingsError("Only one of them can be used.")
    assert reason_of(known, "slide") == "Only one of them can be used."
    denied = PermissionError(errno.EACCES, "Permission denied", "a.csv")
    assert reason_of(denied, "slide") == "a.csv: Permission denied"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert reason_of(full, "slide") == "slide: the disk is full, or your share of it: make room, and try again"
    assert reason_of(MemoryError()).startswith("out of memory: ")
    missing = ModuleNotFoundError("No module named 'a'", name="a.b")
    assert reason_of(missing) == "a is not installed: pip install a, then start napari again"
    assert reason_of(ValueError("odd\neven"), "slide") == "slide: unexpected ValueError: odd"
    assert reason_of(ValueError()) == "unexpected ValueError"
