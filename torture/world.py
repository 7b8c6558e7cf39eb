"""What the trials work on: a small drawn cohort, a run trained on it, an encoder. Made once, in forks."""

import csv
import hashlib
import importlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari_distill2label.cli.main import main as command_line
from napari_distill2label.core.paths import RECORD
from napari_distill2label.slides.synthetic import write_cohort

from .forks import forked, scratch_place

N_SLIDES, SHAPE = 6, (64, 64)
SMALL = (
    "--device=cpu", "--architecture.hidden_dim=8", "--architecture.attention_dim=4", "--teacher.learning_rate=0.001",
    "--teacher.epochs=2", "--oof.epochs=1", "--student.epochs=1",
)  # fmt: skip
N_FEATURES = 3
TIMED = ("timing.json",)  # says how long something took


class World:
    """A folder with everything, and the modules that commands import, imported. A context manager: it removes it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="torture-", dir=scratch_place()))
        self.folder.chmod(0o755)  # trials of a user without rights read it
        self.cohort = write_cohort(self.folder / "cohort", N_SLIDES, seed=3, shape=SHAPE)
        self.truth = self.cohort.with_name("truth.csv")
        self.run, self.encoder = self.folder / "run", self.folder / "encoder.onnx"
        self.place = self.folder / "trial"  # of every trial, so that no result differs by its place
        self._notes: dict[object, Any] = {}
        self.few = self._few()
        for work in (self._make_encoder, self._make_run, self._make_predictions, self._import_everything):
            ended = forked(work)
            if wrong := ended.verdict():
                self.close()
                raise RuntimeError(f"the trials could not be prepared: {wrong.evidence}")
            for name in ended.told if isinstance(ended.told, list) else ():
                with suppress(Exception):
                    importlib.import_module(name)

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def once(self, key: object, make: Callable[[], Any]) -> Any:
        """What `make` returns, made once."""
        if key not in self._notes:
            self._notes[key] = make()
        return self._notes[key]

    def fresh(self) -> Path:
        """The folder of a trial, empty."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()
        return self.place

    def _few(self) -> Path:
        """A table of three of the slides, of both classes."""
        header, *rows = self.cohort.read_text("utf-8").splitlines()
        path = self.cohort.with_name("few.csv")
        path.write_text("\n".join([header, *rows[:3], ""]), "utf-8")
        return path

    def _make_run(self) -> int:
        return command("train", self.cohort, "-o", self.run, "--baseline", *SMALL)

    def _make_predictions(self) -> int:
        return command("predict", self.run, self.few, "-o", self.folder / "predicted", "--format", "csv,ome-tiff")

    def _make_encoder(self) -> int:
        """Mean colours: a graph of two nodes."""
        import onnx
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            [helper.make_node("GlobalAveragePool", ["x"], ["m"]), helper.make_node("Flatten", ["m"], ["y"])],
            "means",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 27, 27])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", N_FEATURES])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.save(model, str(self.encoder))
        about = {"name": "means", "features": N_FEATURES, "patch_px": 27, "mpp": 0.5}
        self.encoder.with_suffix(".json").write_text(json.dumps(about), "utf-8")
        return 0

    def _import_everything(self) -> list[str]:
        """Names of the modules that commands import on their way."""
        place = self.folder / "tried"
        table = [self.few, "-o", place]
        for words in (
            ("extract-features", *table, "--encoder", self.encoder, "--format", "h5,zarr", *WHOLE),
            ("export", self.run, "-o", place / "all", "--format", "csv,geojson,png,ome-tiff,regions,mask-png,report"),
            ("evaluate", self.run, self.cohort, "--truth", self.truth, "--split=all", "-o", place / "m.json"),
            ("segment-tissue", *table),
            ("export-model", self.run, place / "m", "--to", "onnx"),
        ):
            if status := command(*words):
                raise RuntimeError(f"{words[0]} ended with {status}")
        shutil.rmtree(place)
        return [name for name in sys.modules if name != "__main__" and not name.startswith("torture")]


WHOLE = ("--patches.tissue=none", "--patches.size_px=27", "--patches.stride_px=27")


def command(*words: object) -> int:
    """`distill2label …` in this process. Its exit status."""
    from napari_distill2label.exporters import png

    png.SMALLEST = 96  # pictures of tiny slides are enlarged for people: that would be most of the time
    return command_line([str(word) for word in words])


def labelled_sample(run: Path, cohort: Path, path: Path) -> None:
    """A sample of patches, labelled by a person who says that every third is normal and all others are tumour."""
    if command("predict", run, cohort, "-o", path.with_name("maps"), "--format=csv"):
        raise RuntimeError("no slides could be predicted")
    if command("draw-sample", run, "-o", path, "--count=20"):
        raise RuntimeError("no sample could be drawn")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    column = rows[0].index("label")
    for number, row in enumerate(rows[1:]):
        row[column] = "normal" if number % 3 == 0 else "tumour"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


# ---- what is in a folder --------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, str]:
    """Digest of what each file means that is not hidden, by its path in the folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and path.name not in TIMED and not any(part.startswith(".") for part in name.parts):
            found[str(name)] = digest(path)
    return found


def digest(path: Path) -> str:
    """SHA-256 of what a file means: without the time at which it was written."""
    data = path.read_bytes()
    if path.suffix == ".tif":
        with suppress(Exception):
            return _digest_of_tiff(path)
    if path.suffix == ".pt":
        with suppress(Exception):
            return _digest_of_zip(path)
    if (
        path.suffix == ".html"
        or path.name in ("model.json", "README.md", "zarr.json")
        or path.name.endswith(".d2l.json")
    ):
        data = _without_times(data)
    return hashlib.sha256(data).hexdigest()


def _digest_of_tiff(path: Path) -> str:
    import tifffile

    digest = hashlib.sha256()
    with tifffile.TiffFile(path) as tiff:
        for level in tiff.series[0].levels:
            digest.update(f"{level.shape}".encode() + level.asarray().tobytes())
    return digest.hexdigest()


def _digest_of_zip(path: Path) -> str:
    """Of the weights in it. The program that is beside them says where it was made, under a temporary name."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        made = [info for info in archive.infolist() if "/data/" in info.filename or "/constants/" in info.filename]
        members = sorted((info.filename.partition("/")[2], info.CRC) for info in made)
    return hashlib.sha256(repr(members).encode()).hexdigest()


def _without_times(data: bytes) -> bytes:
    import re

    data = re.sub(rb'"cohort_signature": "[^"]*"', b"", data)  # with the time of the table
    return re.sub(rb"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?(\.\d+)?( UTC|[+-]\d\d:?\d\d|Z)?)?", b"", data)


def hidden(folder: Path) -> list[str]:
    """Hidden files and folders that should be gone: all but the record of what was written."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*") if path.name != RECORD)


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Names of the files that are in one alone, or differ."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def copy_tree(source: Path, target: Path) -> None:
    """A copy with the times of the files, which slides are recognised by."""
    shutil.copytree(source, target, symlinks=True, copy_function=shutil.copy2)
