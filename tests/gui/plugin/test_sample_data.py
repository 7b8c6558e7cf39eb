"""Where the drawn slides are kept: in a folder that no other user could have prepared."""

import os
import stat
from pathlib import Path

import pytest

from napari_distill2label.gui.plugin import sample_data


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache is a folder of this test."""
    monkeypatch.setattr(sample_data, "user_cache_dir", lambda *names, **options: str(tmp_path / "cache"))
    sample_data._private_folder.cache_clear()
    return tmp_path / "cache"


def test_samples_lie_in_the_users_own_cache(cache):
    folder = sample_data.samples_folder()
    assert folder.parent == cache
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sample_data.samples_folder() == folder


@pytest.mark.parametrize("trouble", ["file", "link", "writable by all", "of somebody else"])
def test_a_folder_that_others_could_have_made_is_not_used(cache, monkeypatch, tmp_path, trouble):
    place = cache / f"samples-{sample_data.VERSION}"
    cache.mkdir()
    if trouble == "file":
        place.write_text("x")
    elif trouble == "link":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    elif trouble == "writable by all":
        place.mkdir()
        place.chmod(0o777)
    else:
        place.mkdir()
        monkeypatch.setattr(os, "getuid", lambda: place.stat().st_uid + 1)
    folder = sample_data.samples_folder()
    assert folder != place
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sample_data.samples_folder() == folder  # for this process
    sample_data._private_folder.cache_clear()
    assert sample_data.samples_folder() != folder  # and no name that can be foreseen
    assert not list((tmp_path / "elsewhere").glob("*")) if trouble == "link" else True
    assert Path(folder).is_dir()
