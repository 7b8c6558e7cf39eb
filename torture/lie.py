"""Files that are damaged, lie or mean harm, for every reader.

A trial is a batch of altered files in one child that may take a gigabyte more than it has. Each is read, or refused by
one line that names it and holds nothing for a terminal. What carries a digest and is accepted must read as what was
written. Tables are also written anew in the manners of spreadsheets, and have to read as what was meant.
"""

import csv
import hashlib
import io
import mmap
import os
import random
import resource
import shutil
import signal
import struct
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_distill2label.core.errors import Distill2LabelError, SettingsError
from napari_distill2label.core.events import drain

from . import hostile, samples
from .forks import forked
from .mutations import alter
from .verdict import Verdict
from .world import World

DOES = "altered, truncated and hostile files, each read, or refused in one line that names it"
BATCH = 60
FEW = 10  # of what takes a command
PATIENCE = 240.0  # s for a batch
LONGEST = 20.0  # s of the processor for one file
SILENCE = 60  # s for one file, if it waits for something
MORE_BYTES = 1 << 30


def _digest(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return digest.hexdigest()


def _read_cohort(path: Path) -> None:
    from napari_distill2label.store.cohort import Cohort

    cohort = Cohort.read(path).with_classes()
    for slide in cohort:
        cohort.indices(slide) if slide.label else None


def _read_truth(path: Path) -> None:
    from napari_distill2label.workflow.ground_truth import read_truth

    read_truth(path)


def _read_points(path: Path) -> None:
    from napari_distill2label.slides.regions import read_regions
    from napari_distill2label.store.tables.points import read_points

    read_points(path)
    read_regions(path, (64, 64))


def _read_corrections(path: Path) -> None:
    from napari_distill2label.store import corrections

    corrections.read(path)


def _read_project(path: Path) -> None:
    from napari_distill2label.store.project_file import read_project_file

    saved = read_project_file(path)
    if saved is not None:
        saved.cohort(path.parent)
        with suppress(SettingsError):  # of a part alone: whoever asks for it says of which file
            saved.choices(path.parent)
        saved.files(path.parent)


def _read_run(path: Path) -> str:
    from napari_distill2label.store.run import Run
    from napari_distill2label.store.run_summary import read_curves, summarise

    with suppress(FileNotFoundError, NotADirectoryError):  # no run any more, as it says
        summarise(path)
    read_curves(path)
    run = Run.open(path)
    rows = [(slide.slide_id, slide.label, slide.case_id, slide.split) for slide in run.cohort]
    return _digest(run.config.model_dump_json(), rows)


def _read_checkpoint(path: Path) -> str:
    from napari_distill2label.store.checkpoint import load_checkpoint

    state = load_checkpoint(path)
    weights = [tensor.numpy() for _, tensor in sorted(state.weights.items())]
    return _digest(state.epoch, state.best_epoch, state.history, *weights)


def _read_bundle(path: Path) -> str:
    from napari_distill2label.store.bundle import load_bundle

    bundle = load_bundle(path)
    weights = [tensor.numpy() for _, tensor in sorted(bundle.model.state_dict().items())]
    return _digest(bundle.config.model_dump_json(), *weights)


def _read_encoder(path: Path) -> None:
    from napari_distill2label.inference.encoder import FrozenEncoder

    encoder = FrozenEncoder(path / "encoder.onnx", "cpu")
    if encoder.description.patch_px <= 64:
        encoder(np.zeros((1, 3, encoder.description.patch_px, encoder.description.patch_px), np.uint8))


def _read_map(path: Path) -> str:
    from napari_distill2label.store.maps.patch_map import PatchMap

    patch_map = PatchMap.open(path)
    patch_map.table()
    return _digest(
        patch_map.to_labels(), patch_map.bag_probability, patch_map.damaged_regions, patch_map.slide.mpp,
        patch_map.probability, patch_map.logit, patch_map.classes, patch_map.is_complete,
    )  # fmt: skip


def _read_features(path: Path) -> str:
    from napari_distill2label.store.maps.feature_map import FeatureMap

    features = FeatureMap.open(path)
    return _digest(np.asarray(features.instances()), features.signature, features.identity)


def _read_h5(path: Path) -> None:
    from napari_distill2label.store.maps.hdf5 import import_hdf5, read_hdf5
    from napari_distill2label.store.maps.hdf5_geometry import Frame

    for frame in (Frame(), Frame((100, 120), mpp=(0.5, 0.5))):
        drain(import_hdf5(read_hdf5(path, frame), path.parent / f"cache{frame.shape}.zarr"))


def read_slide(path: Path) -> None:
    """What a user does with a slide: patches of its corner, its far end, its coarsest level, the images beside it."""
    from napari_distill2label.slides import open_slide
    from napari_distill2label.slides.cutting import cut

    path = next(path.glob("*.mrxs"), path)  # whose folder lies beside it
    with open_slide(path, allow_non_brightfield=True) as slide:
        height, width = slide.shape
        slide.read(0, 0, 0, min(height, 300), min(width, 300))
        slide.read(0, height - 1, width - 1, 1, 1)
        last = len(slide.levels) - 1
        slide.read(last, 0, 0, *(min(size, 100) for size in slide.levels[last].shape[:2]))
        cut(slide, np.array([(0, 0)]), 32, 16)
        for image in slide.associated.values():
            image()


def _read_mask(path: Path) -> None:
    from napari_distill2label.slides.label_mask import is_label_image, read_label_mask

    if is_label_image(path):
        read_label_mask(path)


def _read_record(path: Path) -> None:
    """Whatever a record says: what this program did not write as it stands stays as it is."""
    from napari_distill2label.store.files.outputs import Outputs

    own = path / "slide_000.csv"
    if not own.exists():
        return
    own.write_text("somebody's own\n")
    with Outputs() as outputs:
        outputs.claim([own])
        with outputs.writing(own) as temporary:
            temporary.write_text("ours")
    raise AssertionError("a file of somebody else was replaced")


@dataclass(frozen=True)
class Reader:
    """`sealed`: it returns a digest of what it read, which must be that of the whole file."""

    read: Callable[[Path], Any]
    sealed: bool = False
    names_file: bool = True


READERS = {
    "cohort": Reader(_read_cohort),
    "truth": Reader(_read_truth),
    "annotations": Reader(_read_points),
    "corrections": Reader(_read_corrections),
    "project": Reader(_read_project),
    "run": Reader(_read_run, sealed=True),
    "checkpoint": Reader(_read_checkpoint, sealed=True),
    "bundle": Reader(_read_bundle, sealed=True),
    "encoder": Reader(_read_encoder),
    "maps": Reader(_read_map, sealed=True),
    "features": Reader(_read_features, sealed=True),
    "hdf5": Reader(_read_h5),
    "slides": Reader(read_slide),
    "mask": Reader(_read_mask),
    "record": Reader(_read_record),
}
WRITTEN_ANEW, NAMES, THINGS, BOMBS = "tables of spreadsheets", "ids", "links", "bombs"
SUBJECTS = (*READERS, WRITTEN_ANEW, NAMES, THINGS, BOMBS)
SHORT = SUBJECTS[:-1]


def attempt(world: World, subject: str, seed: int) -> Verdict | None:
    """Batch number `seed`. Of bombs there is one."""
    if subject == BOMBS:
        return None if seed else _every_bomb(world)
    folder = world.folder / "samples"

    def make() -> None:
        ended = forked(lambda: samples.make(world, folder))
        if wrong := ended.verdict():
            raise RuntimeError(wrong.evidence)

    world.once("samples", make)
    place, progress = world.fresh(), mmap.mmap(-1, 8)

    def work() -> list[list[str]]:
        signal.signal(signal.SIGALRM, _too_long)
        if subject in READERS:
            return _altered_files(subject, folder / subject, place, seed, progress)
        if subject == WRITTEN_ANEW:
            return _spreadsheets(subject, folder, place, seed, progress)
        if subject == NAMES:
            return _ids(world, place, seed, progress)
        return _things(folder, place, seed, progress)

    ended = forked(work, patience=PATIENCE, limits=_limit)
    done = struct.unpack("<q", progress[:8])[0]
    if ended.told is None:
        how = "hang" if ended.hung else "lost"
        return Verdict(
            how, f"number {done} of the batch ended the process ({ended.status}): {ended.said[-600:]}", done + 1
        )
    wrong, tried = ended.told, done + 1
    if not wrong:
        return Verdict("survived", tried=tried)
    return Verdict(wrong[0][0], f"{len(wrong)} of {tried}: {wrong[0][1]}", tried, len(wrong))


def _limit() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MORE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _altered_files(subject: str, folder: Path, place: Path, seed: int, progress: mmap.mmap) -> list[list[str]]:
    warnings.simplefilter("ignore")
    reader, wrong = READERS[subject], []
    wholes = sorted(folder.iterdir())
    expected = {}
    if reader.sealed:
        for whole in wholes:
            _put(whole, place / whole.name)
            expected[whole] = reader.read(place / whole.name)
    for number in range(BATCH):
        draw = random.Random(f"{subject} {seed} {number}")
        progress[:8] = struct.pack("<q", number)
        whole = draw.choice(wholes)
        path = place / whole.name
        _put(whole, path)
        alter(path, draw)
        if found := _outcome(reader, path, expected.get(whole)):
            wrong.append([found[0], f"number {number} ({whole.name}): {found[1]}"])
    return wrong


def _things(folder: Path, place: Path, seed: int, progress: mmap.mmap) -> list[list[str]]:
    """Something that is no file, in place of one that a reader reads."""
    warnings.simplefilter("ignore")
    wrong = []
    for number in range(BATCH):
        progress[:8] = struct.pack("<q", number)
        draw = random.Random(f"{THINGS} {seed} {number}")
        subject = draw.choice([name for name in READERS if name != "record"])
        whole = draw.choice(sorted((folder / subject).iterdir()))
        path = place / whole.name
        hostile.put_thing(whole, path, draw)
        if found := _outcome(READERS[subject], path, None):
            what = sorted(f"{file.relative_to(place)}" for file in place.rglob("*") if not file.is_file())
            wrong.append([found[0], f"number {number} ({subject}, {', '.join(what[:3])}): {found[1]}"])
    return wrong


def _bombs_of(world: World) -> Path:
    folder = world.folder / "bombs"
    if wrong := forked(lambda: hostile.write_bombs(folder)).verdict():
        raise RuntimeError(wrong.evidence)
    return folder


def _every_bomb(world: World) -> Verdict:
    """Every bomb once, each in a process of its own."""
    folder, wrong = world.once("bombs", lambda: _bombs_of(world)), []
    bombs = sorted(folder.glob("*/*"))
    for whole in bombs:
        path = world.fresh() / whole.name

        def read(whole: Path = whole, path: Path = path) -> dict[str, tuple[str, str] | None]:
            signal.signal(signal.SIGALRM, _too_long)
            warnings.simplefilter("ignore")
            _put(whole, path)
            return {"wrong": _outcome(READERS[whole.parent.name], path, None)}

        ended = forked(read, patience=PATIENCE, limits=_limit)
        found = ended.told["wrong"] if ended.told else ("lost", f"ended the process ({ended.status}): {ended.said}")
        if found:
            wrong.append((found[0], f"{whole.relative_to(folder)}: {found[1]}"))
    if not wrong:
        return Verdict("survived", tried=len(bombs))
    return Verdict(wrong[0][0], f"{len(wrong)} of {len(bombs)}: {wrong[0][1]}", len(bombs), len(wrong))


def _ids(world: World, place: Path, seed: int, progress: mmap.mmap) -> list[list[str]]:
    """Tables whose ids mean harm, or look alike, given to a command that writes files under these ids."""
    wrong = []
    for number in range(FEW):
        progress[:8] = struct.pack("<q", number)
        for left in place.iterdir():
            shutil.rmtree(left)
        if found := hostile.names(world, place, random.Random(f"{NAMES} {seed} {number}")):
            wrong.append(["lost", f"number {number}: {found}"])
    return wrong


def _put(whole: Path, path: Path) -> None:
    """A whole file, and nothing else, in its folder."""
    for old in path.parent.iterdir():
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    (shutil.copytree if whole.is_dir() else shutil.copyfile)(whole, path)


class SilenceError(Exception):
    """Something waits, and will for ever."""


def _too_long(number: int, frame: object) -> None:
    raise SilenceError


def _outcome(reader: Reader, path: Path, expected: str | None) -> tuple[str, str] | None:
    began = time.process_time()
    signal.alarm(SILENCE)
    try:
        found = reader.read(path)
    except SilenceError:
        return "hang", f"waits for {SILENCE} s"
    except Distill2LabelError as error:
        text = str(error)
        if "\n" in text or "\x1b" in text or (reader.names_file and str(path.parent) not in text):
            return "lost", f"is refused by {text!r}"
    except MemoryError:
        return "lost", "took more memory than a gigabyte"
    except Exception as error:  # noqa: BLE001 · what must not come
        import traceback

        return "traceback", f"{type(error).__name__}: {error} at {traceback.format_exc()[-700:]}"
    else:
        if expected is not None and found != expected:
            return "lost", "was accepted, and reads as something else"
    finally:
        signal.alarm(0)
    if (seconds := time.process_time() - began) > LONGEST:
        return "hang", f"took {seconds:.0f} s"
    return None


# ---- tables as spreadsheets write them ------------------------------------------------------------------------------

IDS = ("slide", "Fall Ä", "A1", "日本", "x-1", "S_2", "001", "1e5", "NA", "a b", "=1+1", "+x", "-3", "@y")


def _spreadsheets(subject: str, folder: Path, place: Path, seed: int, progress: mmap.mmap) -> list[list[str]]:
    """A cohort in a random dialect reads as what was meant, and saved again still does, with its other columns."""
    from napari_distill2label.store.cohort import Cohort

    wrong = []
    for number in range(BATCH):
        progress[:8] = struct.pack("<q", number)
        draw = random.Random(f"{subject} {seed} {number}")
        rows = [
            {
                "slide_id": f"{draw.choice(IDS)}{n}", "path": f"s/{n}.png", "case_id": f"p{n // 2}",
                "label": draw.choice(("normal", "tumour", "")), "mpp": draw.choice(("0.5", "0.25", "")),
                "note": draw.choice(("x", 'a "q"', "1,5")),
            }
            for n in range(draw.randrange(2, 7))
        ]  # fmt: skip
        columns = list(rows[0])
        draw.shuffle(columns)
        text = io.StringIO()
        delimiter = draw.choice(",;\t")
        writer = csv.DictWriter(text, columns, delimiter=delimiter, lineterminator=draw.choice(("\n", "\r\n")))
        writer.writeheader()
        writer.writerows(rows)
        data = draw.choice(("", "\ufeff")) + text.getvalue()
        path = place / "cohort.csv"
        path.write_bytes(data.encode(draw.choice(("utf-8", "utf-8", "utf-16"))))
        meant = [(r["slide_id"], r["label"] or None, r["case_id"], float(r["mpp"]) if r["mpp"] else None) for r in rows]
        try:
            cohort = Cohort.read(path)
            if (found := _meaning(cohort)) != meant:
                wrong.append(["lost", f"number {number}: {meant} reads as {found}"])
                continue
            cohort.write(place / "again.csv")
            again = Cohort.read(place / "again.csv")
            if _meaning(again) != meant:
                wrong.append(["lost", f"number {number}: {meant} reads as {_meaning(again)} once it is saved"])
        except Distill2LabelError as error:
            wrong.append(["lost", f"number {number}: refused: {error}"])
        for left in place.iterdir():
            os.unlink(left)
    return wrong


def _meaning(cohort: Any) -> list[tuple[Any, ...]]:
    return [(slide.slide_id, slide.label, slide.case_id, slide.mpp) for slide in cohort]
