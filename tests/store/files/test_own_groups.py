"""Zarr groups of ours are recognised, whole or damaged; those of others are not."""

import json
import os

import numpy as np
import pytest
import zarr

from napari_distill2label.core.errors import OutputError
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.store.files.outputs import Outputs
from napari_distill2label.store.files.own_groups import is_own_group
from napari_distill2label.store.maps.patch_map import PatchMap


class TestGroups:
    @pytest.fixture
    def patch_map(self, tmp_path):
        grid = PatchGrid((64, 64), 32, 32, (0, 0), 32, None, 2, 2, None)
        return PatchMap.create(tmp_path / "a.student.zarr", grid, ("normal", "tumour"), SlideInfo("a"))

    def test_ours_whole_and_damaged(self, patch_map):
        assert is_own_group(patch_map.path)
        for text in ("", "{}", "{", "[" * 10**5):
            (patch_map.path / "zarr.json").write_text(text)
            assert is_own_group(patch_map.path)

    def test_ours_cut_short(self, tmp_path):
        zarr.open_group(tmp_path / "a.zarr", mode="w", attributes={"kind": "patch-map"})
        assert is_own_group(tmp_path / "a.zarr")

    def test_with_a_file_of_theirs_in_it(self, patch_map):
        (patch_map.path / "notes.txt").write_text("mine")
        assert not is_own_group(patch_map.path)

    def test_theirs(self, tmp_path):
        group = zarr.open_group(tmp_path / "a.zarr", mode="w", attributes={"ome": {"version": "0.5"}})
        group.create_array("0", data=np.zeros(3))
        (tmp_path / "b.zarr").mkdir()
        (tmp_path / "b.zarr" / "x").write_text("")
        for name, arrays in (("c.zarr", ("features", "checksum")), ("d.zarr", ("probability", "logit", "score"))):
            group = zarr.open_group(tmp_path / name, mode="w")
            for array in arrays:  # called as ours are
                group.create_array(array, data=np.zeros(3))
        bare = json.loads((tmp_path / "d.zarr" / "zarr.json").read_text())
        del bare["attributes"]  # which need not be there
        (tmp_path / "d.zarr" / "zarr.json").write_text(json.dumps(bare))
        for name in ("a.zarr", "b.zarr", "c.zarr", "d.zarr"):
            assert not is_own_group(tmp_path / name)
            with Outputs(overwrite=True) as outputs, pytest.raises(OutputError, match="did not make") as caught:
                outputs.claim([tmp_path / name])
            assert caught.value.standing == "folder"

    def test_one_of_theirs_is_never_made_a_map(self, tmp_path):
        zarr.open_group(tmp_path / "a.zarr", mode="w").create_array("features", data=np.zeros((3, 2)))
        grid = PatchGrid((64, 64), 32, 32, (0, 0), 32, None, 2, 2, None)
        with pytest.raises(Exception, match="left alone"):
            PatchMap.create(tmp_path / "a.zarr", grid, ("normal", "tumour"), SlideInfo("a"))
        assert (tmp_path / "a.zarr" / "features" / "zarr.json").is_file()


class TestGroupsThatAKillLeft:
    """zarr writes `<name>.<32 digits>.partial` and renames it."""

    PARTIAL = f"zarr.{'0a' * 16}.partial"

    def test_before_its_first_description(self, tmp_path):
        folder = tmp_path / "a.zarr"
        folder.mkdir()
        (folder / self.PARTIAL).touch()
        assert is_own_group(folder)
        (folder / "notes.partial").touch()
        assert not is_own_group(folder)

    def test_within_an_array(self, tmp_path):
        grid = PatchGrid((64, 64), 32, 32, (0, 0), 32, None, 2, 2, None)
        path = tmp_path / "a.zarr"
        PatchMap.create(path, grid, ("normal", "tumour"), SlideInfo("a"))
        (path / "score" / self.PARTIAL).touch()
        (path / ".zarr.json.0123abcd.0123abcd.77.0123abcd.tmp").touch()
        assert is_own_group(path)

    def test_what_was_begun_goes_when_the_map_is_gone_on_with(self, tmp_path):
        grid = PatchGrid((64, 64), 32, 32, (0, 0), 32, None, 2, 2, None)
        path = tmp_path / "a.zarr"
        PatchMap.create(path, grid, ("normal", "tumour"), SlideInfo("a"))
        whole = {file for file in path.rglob("*") if file.is_file()}
        (path / "score" / "c").mkdir(exist_ok=True)
        (path / "score" / "c" / f"0.{'0a' * 16}.partial").touch()
        (path / ".zarr.json.0123abcd.0123abcd.77.0123abcd.tmp").touch()
        with Outputs() as outputs:
            outputs.claim([path])
        assert {file for file in path.rglob("*") if file.is_file()} == whole

    def test_a_map_that_another_replaces_is_gone_at_once(self, tmp_path, monkeypatch):
        grid = PatchGrid((64, 64), 32, 32, (0, 0), 32, None, 2, 2, None)
        path = tmp_path / "a.zarr"
        PatchMap.create(path, grid, ("normal", "tumour"), SlideInfo("a"))
        gone = []
        monkeypatch.setattr("shutil.rmtree", lambda folder, **how: gone.append((folder.name, path.exists())))
        PatchMap.create(path, grid, ("normal", "tumour"), SlideInfo("a"))
        assert gone[0][0].startswith(".a.zarr.")
        assert not gone[0][1]
        assert is_own_group(path)

    def test_the_description_survives_a_power_cut(self, tmp_path, monkeypatch):
        grid = PatchGrid((64, 64), 32, 32, (0, 0), 32, None, 2, 2, None)
        synced, sync = [], os.fsync
        monkeypatch.setattr("os.fsync", lambda descriptor: (synced.append(os.fstat(descriptor)), sync(descriptor)))
        PatchMap.create(tmp_path / "a.zarr", grid, ("normal", "tumour"), SlideInfo("a"))
        assert (tmp_path / "a.zarr" / "zarr.json").stat().st_ino in {status.st_ino for status in synced}
