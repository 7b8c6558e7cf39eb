"""Right answers under stress: what must not change a result does not change it, and what is wrong is said.

A slide that is turned gives the turned map; cut in two, the two halves; in another format, the same; on a larger white
canvas, the same with more background. Labels that cannot be learnt, a learning rate that makes everything infinite, and
a leak between the splits are found.
"""

import csv
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .forks import forked
from .verdict import SURVIVED, Verdict, lost
from .world import SMALL, World, command

DOES = "slides turned, cut, moved, in other formats; numbers that are not finite; leaks between splits"
TOLERANCE = 2e-5  # of a logit: sums are taken in another order
SIDE = 27  # px of a patch


def _image(world: World, number: int) -> np.ndarray:
    import tifffile

    return np.asarray(tifffile.imread(sorted((world.cohort.parent / "slides").iterdir())[number]))


def _map(world: World, path: Path, *more: str) -> np.ndarray:
    """(rows, cols): how much a patch speaks for the finding, by itself: its probability is that in its slide."""
    from napari_distill2label.store.maps.patch_map import PatchMap

    shutil.rmtree(world.place / "run" / "predictions", ignore_errors=True)
    if command("predict", world.place / "run", path, "-o", path.with_suffix(""), "--format=csv", "--mpp=0.5", *more):
        raise RuntimeError(f"{path} could not be predicted")
    (found,) = (world.place / "run" / "predictions").glob("*.zarr")
    logit = np.asarray(PatchMap.open(found).logit)
    return logit[..., 1] - logit[..., 0]


def _save(world: World, image: np.ndarray, name: str) -> Path:
    from napari_distill2label.slides.synthetic import write_image

    write_image(world.place / name, np.ascontiguousarray(image))
    return world.place / name


def _tile(world: World, draw: random.Random) -> np.ndarray:
    """A picture of a whole number of patches, of drawn slides side by side."""
    rows = [np.concatenate([_image(world, draw.randrange(6))[:54, :54] for _ in range(2)], 1) for _ in range(2)]
    return np.concatenate(rows, 0)


def _differ(one: np.ndarray, other: np.ndarray, what: str) -> str:
    if one.shape != other.shape:
        return f"{what}: {one.shape} patches in place of {other.shape}"
    if (np.isnan(one) != np.isnan(other)).any():
        return f"{what}: other patches are scored"
    away = float(np.nanmax(np.abs(one - other), initial=0))
    return f"{what}: logits differ by {away:.2g}" if away > TOLERANCE else ""


def _formats(world: World, draw: random.Random) -> str:
    image = _tile(world, draw)
    one = _map(world, _save(world, image, "a.png"))
    return _differ(_map(world, _save(world, image, "b.ome.tif")), one, "OME-TIFF and PNG") or _differ(
        _map(world, _save(world, image, "c.bmp")), one, "BMP and PNG"
    )


def _cut_in_two(world: World, draw: random.Random) -> str:
    image = _tile(world, draw)
    one = _map(world, _save(world, image, "a.png"))
    left, right = _map(world, _save(world, image[:, :54], "l.png")), _map(world, _save(world, image[:, 54:], "r.png"))
    return _differ(np.concatenate([left, right], 1), one, "two halves")


def _larger_canvas(world: World, draw: random.Random) -> str:
    image = _tile(world, draw)
    one = _map(world, _save(world, image, "a.png"))
    canvas = np.full((image.shape[0] + 54, image.shape[1] + 27, 3), 255, np.uint8)
    canvas[27 : 27 + image.shape[0], : image.shape[1]] = image
    return _differ(_map(world, _save(world, canvas, "b.png"))[1:-1, :-1], one, "on a larger canvas")


def _turned(world: World, draw: random.Random) -> str:
    """The turned slide is the slide whose patches are turned where they are, turned."""
    image = _tile(world, draw)
    each = image.copy()
    for y in range(0, image.shape[0], SIDE):
        for x in range(0, image.shape[1], SIDE):
            each[y : y + SIDE, x : x + SIDE] = np.rot90(image[y : y + SIDE, x : x + SIDE])
    turned = _map(world, _save(world, np.rot90(image), "a.png"))
    return _differ(turned, np.rot90(_map(world, _save(world, each, "b.png"))), "turned by 90°")


def _shuffled(world: World, draw: random.Random) -> str:
    """The order of the patches changes neither the slide's score nor what is said of a patch."""
    import torch

    from napari_distill2label.store.bundle import load_bundle

    image, order = _tile(world, draw), list(range(16))
    draw.shuffle(order)
    patches = image.reshape(4, SIDE, 4, SIDE, 3).transpose(0, 2, 4, 1, 3).reshape(16, 3, SIDE, SIDE)
    for network in ("teacher", "student"):
        model = load_bundle(world.place / "run" / network).model
        with torch.no_grad():
            one, other = (model(torch.from_numpy(np.ascontiguousarray(each))) for each in (patches, patches[order]))
        logits = np.asarray(one.instance_logits)[order], np.asarray(other.instance_logits)
        for found, asked in ((other.bag_logits, one.bag_logits), logits):
            if wrong := _differ(np.asarray(found), np.asarray(asked), f"{network}: shuffled patches"):
                return wrong
    return ""


def _again(world: World, draw: random.Random) -> str:
    """One training twice gives the same bits."""
    from napari_distill2label.store.bundle import load_bundle

    seed, digests = f"--seed={draw.randrange(1000)}", []
    for name in ("one", "two"):
        if command("train", world.cohort, "-o", world.place / name, *SMALL, seed):
            return "a training failed"
        digests.append(load_bundle(world.place / name / "student").config.weights_sha256)
    return "" if digests[0] == digests[1] else "one training twice gives two networks"


def _not_finite(world: World, draw: random.Random) -> str:
    """Steps as large as the settings allow: whatever comes of it is finite, or stops with the last good model kept."""
    from napari_distill2label.store.bundle import load_bundle

    run = world.place / "run"
    before = load_bundle(run / "teacher").config.weights_sha256
    rate = f"--teacher.learning_rate={draw.choice(('1', '0.9', '0.7'))}"
    status = command("train", world.cohort, "-o", run, "--resume", rate, "--teacher.epochs=6")
    for network in ("teacher", "student"):
        bundle = load_bundle(run / network)
        if not all(np.isfinite(tensor.numpy()).all() for tensor in bundle.model.state_dict().values()):
            return f"the {network} has weights that are not finite"
    if status and load_bundle(run / "teacher").config.weights_sha256 != before:
        return "the last good model is gone"
    return ""


def _leak(kind: str) -> Callable[[World, random.Random], str]:
    """Whether a leak between training and test is refused, or said, before anything is trained."""

    def look(world: World, draw: random.Random) -> str:
        import contextlib
        import io

        with world.cohort.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for number, row in enumerate(rows):
            row["path"] = str(world.cohort.parent / row["path"])
            row["split"] = "test" if number >= 4 else "train"
        if kind == "patient":
            rows[4]["case_id"] = rows[0]["case_id"]
        elif kind == "file":
            rows[4]["path"] = str(world.place / "copy.ome.tif")
            shutil.copy(rows[1]["path"], rows[4]["path"])
        else:
            turned = np.rot90(_image(world, 1), draw.randrange(1, 4))
            rows[4]["path"], rows[4]["mpp"] = str(_save(world, turned, "turned.png")), "0.5"
        table = world.place / "leak.csv"
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            status = command("train", table, "-o", world.place / "leaky", *SMALL)
        words = ("same", "copy", "two splits", "copies")
        if status == 0 and not any(word in said.getvalue() for word in words):
            return f"a {kind} in two splits was not said"
        return ""

    return look


TESTS: dict[str, Callable[[World, random.Random], str]] = {
    "another format": _formats,
    "cut in two": _cut_in_two,
    "a larger canvas": _larger_canvas,
    "turned by 90°": _turned,
    "patches shuffled": _shuffled,
    "trained twice": _again,
    "numbers that are not finite": _not_finite,
    "a leak: one patient": _leak("patient"),
    "a leak: one file": _leak("file"),
    "a leak: a turned copy": _leak("picture"),
}
SUBJECTS = tuple(TESTS)
SHORT = tuple(name for name in SUBJECTS if name != "trained twice")


def attempt(world: World, subject: str, seed: int) -> Verdict:
    """Trial number `seed`."""
    place = world.fresh()

    def work() -> dict[str, Any]:
        shutil.copytree(world.run, place / "run")
        return {"wrong": TESTS[subject](world, random.Random(f"{subject} {seed}"))}

    ended = forked(work, patience=180)
    if wrong := ended.verdict():
        return wrong
    return lost(ended.told["wrong"]) if ended.told["wrong"] else SURVIVED
