"""Files altered at random, of fixed seeds: each is read, or refused by one line that names it; and soon.

`D2L_FUZZ` multiplies how many are tried.
"""

import faulthandler
import json
import os
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from napari_distill2label.core.errors import Distill2LabelError
from napari_distill2label.core.events import drain
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.store.maps.feature_map import EncoderIdentity, FeatureMap
from napari_distill2label.store.maps.hdf5 import import_hdf5, read_hdf5, write_hdf5
from napari_distill2label.store.maps.hdf5_geometry import Frame
from napari_distill2label.store.maps.patch_map import PatchMap

TIMES = int(os.environ.get("D2L_FUZZ", "1"))
LONGEST = 20  # s of the processor for one file: a hang, on however slow a machine
HANGS = 120  # s for one file: a library in C that does not come back can be ended with its process alone
VALUES = (
    None, True, -1, 0, 1, 2, 2**31, 2**63, 2**70, 10**30, 0.5, 1e300, float("inf"), float("nan"), "", "a", "../x",
    "\x1b[2J", [], [0], [1, 2], [[]], {}, {"kind": "grid"}, "9" * 400,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _ends():
    """A hang ends the process, with a traceback that names the test, in place of waiting for ever."""
    yield
    faulthandler.cancel_dump_traceback_later()


def patches_of(kind):
    if kind == "points":
        return PatchPoints.at(np.random.default_rng(0).uniform(0, 99, (40, 2)), (100, 120), PatchSettings(size_px=15))
    grid = PatchGrid.over((100, 120), PatchSettings(size_px=15, stride_px=10))
    return grid.with_tissue(np.arange(grid.rows * grid.cols).reshape(grid.shape) % 3 > 0)


def write_features(path, kind):
    features = FeatureMap.open_or_create(
        path, patches_of(kind), 6, {"slide": "1-2", "encoder": "ab", "description": "cd"}
    )
    for block in features.patches.blocks(16):
        features.write(block, np.random.default_rng(1).normal(size=(len(block.corners), 6)).astype(np.float32))
    return features


def write_map(path, kind):
    patches = patches_of(kind)
    patch_map = PatchMap.create(path, patches, ("a", "b"), SlideInfo("s", None, (0.5, 0.5)), model={"pooling": "x"})
    for block in patches.blocks(16):
        n = len(block.corners)
        probability = np.random.default_rng(2).dirichlet((1, 1), n)
        patch_map.write(block, probability, np.log(probability), probability[:, 0])
    patch_map.finish([0.4, 0.6])


def write_h5(path, kind, packed=False):
    pytest.importorskip("h5py", reason="HDF5 files were NOT tested: h5py is not installed")
    features = write_features(path.with_suffix(".zarr"), kind)
    encoder = EncoderIdentity(name="e", path="/e.onnx", sha256="ab", description_sha256="cd")
    write_hdf5(path, features, "s", encoder, (0.5, 0.5), "1-2")
    shutil.rmtree(path.with_suffix(".zarr"))
    if packed:
        import h5py

        with h5py.File(path, "a") as file:
            for name in ("features", "coords"):
                values, about = file[name][...], dict(file[name].attrs)
                del file[name], about["layout" if name == "coords" else "slide_signature"]
                file.create_dataset(name, data=values, chunks=(16, values.shape[1]), compression="gzip", shuffle=True)
                file[name].attrs.update(about)


def read_map(path):
    patch_map = PatchMap.open(path)
    patch_map.table()
    patch_map.to_labels()
    return patch_map.bag_probability, patch_map.damaged_regions, patch_map.slide.mpp


def read_features(path):
    features = FeatureMap.open(path)
    return features.instances().sum(), features.signature, features.identity


def read_h5(path):
    for frame in (Frame(), Frame((100, 120), mpp=(0.5, 0.5))):
        drain(import_hdf5(read_hdf5(path, frame), path.parent / f"cache{frame.shape}.zarr"))


KINDS = {
    "features.h5": (write_h5, read_h5, 120),
    "packed.h5": (lambda path, kind: write_h5(path, kind, packed=True), read_h5, 120),
    "map.zarr": (write_map, read_map, 100),
    "features.zarr": (write_features, read_features, 100),
}


def altered(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut out, doubled, zeroed; or the end cut off."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 8, 100))
        how = rng.randrange(6)
        if how == 0:
            data[at : at + length] = rng.randbytes(length)
        elif how == 1 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif how == 2:
            del data[at : at + length]
        elif how == 3:
            data[at:at] = data[at : at + length]
        elif how == 4:
            data[at : at + length] = rng.choice((b"\x00", b"\xff")) * length
        elif how == 5 and rng.random() < 0.3:
            del data[at:]
    return bytes(data)


def with_another_value(node, rng: random.Random):
    """The same JSON with one value in it replaced, or gone, or a new one."""
    if isinstance(node, dict) and node and rng.random() < 0.9:
        key = rng.choice(sorted(node))
        how = rng.random()
        if how < 0.1:
            return {name: value for name, value in node.items() if name != key}
        if how < 0.15:
            return {**node, rng.choice(("x", "consolidated_metadata", "storage_transformers")): rng.choice(VALUES)}
        return {**node, key: with_another_value(node[key], rng)}
    if isinstance(node, list) and node and rng.random() < 0.8:
        at = rng.randrange(len(node))
        return [with_another_value(value, rng) if index == at else value for index, value in enumerate(node)]
    return rng.choice(VALUES)


def alter(path: Path, rng: random.Random) -> None:
    """Alter a file, or one of the files in a folder."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    described = [file for file in files if file.suffix == ".json"]
    file = rng.choice(described if described and rng.random() < 0.7 else files)
    if file.suffix == ".json" and rng.random() < 0.8:
        file.write_text(json.dumps(with_another_value(json.loads(file.read_text("utf-8")), rng)), "utf-8")
    elif file != path and rng.random() < 0.1:
        file.unlink()
    else:
        file.write_bytes(altered(file.read_bytes(), rng))


def check_line(error: Distill2LabelError, path: Path, seed: int) -> None:
    """One line, for a terminal, that names the file."""
    assert str(path) in str(error), f"seed {seed}"
    assert "\n" not in str(error), f"seed {seed}"
    assert "\x1b" not in str(error), f"seed {seed}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tissue", "points"])
@pytest.mark.parametrize("name", KINDS)
def test_altered_files_are_read_or_refused_in_one_line(tmp_path, name, kind):
    write, read, tries = KINDS[name]
    whole, place = tmp_path / f"whole-{name}", tmp_path / name
    write(whole, kind)
    refused = 0
    for seed in range(tries * TIMES):
        for old in tmp_path.iterdir():
            if old != whole:
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        (shutil.copytree if whole.is_dir() else shutil.copyfile)(whole, place)
        alter(place, random.Random(seed))
        faulthandler.dump_traceback_later(HANGS, exit=True)
        started = time.process_time()
        try:
            read(place)
        except Distill2LabelError as error:
            refused += 1
            check_line(error, place, seed)
        except Exception as error:
            raise AssertionError(f"seed {seed} of {name}, {kind}: {type(error).__name__}: {error}") from error
        assert time.process_time() - started < LONGEST, f"seed {seed}"
    assert refused > tries * TIMES / 5


@pytest.mark.slow
def test_an_altered_description_of_an_encoder_is_read_or_refused(tmp_path):
    from napari_distill2label.inference.encoder import EncoderDescription

    path = tmp_path / "e.onnx"
    path.touch()
    whole = {
        "name": "e", "features": 4, "patch_px": 224, "mpp": 0.5, "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1],
        "timm": "vit_tiny", "arguments": {"img_size": 32, "init_values": 1e-5},
    }  # fmt: skip
    file = path.with_suffix(".json")
    for seed in range(300 * TIMES):
        rng = random.Random(seed)
        file.write_text(json.dumps(whole), "utf-8")
        if rng.random() < 0.5:
            file.write_bytes(altered(file.read_bytes(), rng))
        else:
            file.write_text(json.dumps(with_another_value(whole, rng)), "utf-8")
        try:
            assert EncoderDescription.read_beside(path).digest
        except Distill2LabelError as error:
            check_line(error, file, seed)
