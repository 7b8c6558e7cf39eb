"""Everything that writes: commands, and what the window saves. Each has a state before it, and a way to go on."""

import csv
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from napari_distill2label.core.errors import Distill2LabelError
from napari_distill2label.gui.messages import message_of
from napari_distill2label.store.cohort import Cohort

from .world import SMALL, WHOLE, World, command, contents, copy_tree, labelled_sample

SAVED = Path(__file__).parents[1] / "tests" / "saved_formats" / "v0.1.0"
PREDICTED = "csv,ome-tiff,regions"
ALL_FORMATS = "csv,geojson,png,ome-tiff,regions,mask-png,probability,parquet,report"
Step = Callable[[World, Path], None]
Work = Callable[[World, Path], int]


@dataclass(frozen=True)
class Writer:
    """One writer.

    Attributes
    ----------
    prepare
        Lays what is there before into a folder.
    work
        What is disturbed. An exit status.
    again
        What its user does afterwards, to the same end. `work`, unless it says otherwise.
    former
        Names of files of which a crash leaves the former content or the new one, whole: of all others a crash may
        leave one state of several.
    in_place
        Files that fill up in place, without being synchronised: a power cut may lose them, not falsify them.
    """

    name: str
    prepare: Step
    work: Work
    again: Work | None = None
    former: Callable[[str], bool] = lambda name: True
    in_place: Callable[[str], bool] = lambda name: ".zarr/" in name

    def go_on(self, world: World, place: Path) -> int:
        return (self.again or self.work)(world, place)


def _nothing(world: World, place: Path) -> None:
    """Nothing is there."""


def _run_there(world: World, place: Path) -> None:
    copy_tree(world.run, place / "run")
    Cohort.read(world.run / "cohort.csv").write(place / "run" / "cohort.csv")  # its paths are relative to it
    (place / "run" / "cohort.csv.bak").unlink(missing_ok=True)


# ---- commands -------------------------------------------------------------------------------------------------------


def _train(world: World, place: Path) -> int:
    return command("train", world.cohort, "-o", place / "run", "--baseline", *SMALL)


def _resume(world: World, place: Path) -> int:
    if (place / "run" / "settings.json").is_file():
        return command("train", world.cohort, "-o", place / "run", "--resume")
    return _train(world, place)


def _longer(world: World, place: Path) -> int:
    return command("train", world.cohort, "-o", place / "run", "--resume", "--teacher.epochs=3", "--student.epochs=2")


def features(form: str, *more: str) -> Work:
    """Extraction of features in a format, with more options."""

    def extract(world: World, place: Path) -> int:
        words = ["--encoder", world.encoder, "--format", form, *WHOLE, *more]
        return command("extract-features", world.few, "-o", place / "features", *words)

    return extract


def prediction(threshold: float, forms: str, *more: str) -> Work:
    """Prediction of a few slides, with more options."""

    def predict(world: World, place: Path) -> int:
        words = ["-o", place / "out", "--format", forms, f"--threshold={threshold}", *more]
        return command("predict", place / "run", world.few, *words)

    return predict


def _former_prediction(world: World, place: Path) -> None:
    _run_there(world, place)
    _checked(prediction(0.5, "csv,geojson")(world, place))


def _export(threshold: float, forms: str) -> Work:
    def export(world: World, place: Path) -> int:
        return command("export", world.run, "-o", place / "out", "--format", forms, f"--threshold={threshold}")

    return export


def _former_export(world: World, place: Path) -> None:
    _checked(_export(0.5, "csv,regions")(world, place))


def _tissue(world: World, place: Path) -> int:
    return command("segment-tissue", world.few, "-o", place / "tissue")


def _tissue_again(world: World, place: Path) -> int:
    """With one of its files gone: what is there is not made again, and a call that writes nothing clears nothing."""
    (place / "tissue" / "slide_000.geojson").unlink(missing_ok=True)
    return _tissue(world, place)


def _evaluate(world: World, place: Path) -> int:
    words = ["--truth", world.truth, "--split=all", "-o", place / "metrics.json"]
    return command("evaluate", world.run, world.cohort, *words)


def _export_model(kind: str) -> Work:
    return lambda world, place: command("export-model", world.run, place / kind, "--to", kind)


def _run_with_maps(world: World, place: Path) -> None:
    _sampled(world, place)
    (place / "sample.csv").unlink()


def _sampled(world: World, place: Path) -> None:
    _run_there(world, place)
    labelled_sample(place / "run", world.cohort, place / "sample.csv")


def _sample(world: World, place: Path) -> int:
    return command("draw-sample", place / "run", "-o", place / "sample.csv", "--count=20")


def _recalibrate(world: World, place: Path) -> int:
    if (place / "calibrated").exists():  # which is never replaced unasked
        return 0
    return command("recalibrate", place / "run", place / "sample.csv", "-o", place / "calibrated")


def _dataset_of_colon(world: World, place: Path) -> None:
    import numpy as np
    from PIL import Image
    from scipy.io import savemat

    folder = place / "CRC" / "Classification" / "img1"
    folder.mkdir(parents=True)
    Image.fromarray(np.full((500, 500, 3), 200, np.uint8)).save(folder / "img1.bmp")
    points = np.random.default_rng(0).uniform(1, 499, (30, 2))
    for kind in ("epithelial", "fibroblast", "inflammatory", "others"):
        savemat(folder / f"img1_{kind}.mat", {"detection": points})


def _dataset(world: World, place: Path) -> int:
    return command("prepare-dataset", "colon", place / "CRC", "-o", place / "tables")


def _patches_there(world: World, place: Path) -> None:
    """Patches as QuPath would give them."""
    _checked(_export(0.5, "geojson")(world, place))


def _convert(form: str) -> Work:
    def convert(world: World, place: Path) -> int:
        words = ["--to", form, "--slide", world.cohort.parent / "slides", "--allow-loss"]
        return command("convert", *sorted((place / "out").glob("*.geojson")), "-o", place / "new", *words)

    return convert


def _older_files(world: World, place: Path) -> None:
    """A folder of the first version: a run, its predictions and labels, tables, a project, corrections."""
    for path in SAVED.iterdir():
        (copy_tree if path.is_dir() else shutil.copy2)(path, place / path.name)


def _use_older_files(world: World, place: Path) -> int:
    """Predict with the run at another threshold; save table, project and corrections anew."""
    slide = next((place / "slides").iterdir())
    words = [place / "run", slide, "-o", place / "labels", "--format", "csv,geojson,ome-tiff", "--threshold=0.501"]
    if status := command("predict", *words):
        return status
    return _in_window(_save_all)(world, place)


def _save_all(world: World, place: Path) -> None:
    from napari_distill2label.store.project_file import project_file_of, read_project_file, write_project_file

    _save_cohort(world, place)
    own = project_file_of(place / "cohort.csv")
    saved = read_project_file(own)
    assert saved is not None
    write_project_file(own, saved.model_copy(update={"threshold": 0.25}))
    save_corrections(place, "normal")


# ---- what the window saves ------------------------------------------------------------------------------------------


def _own_table(world: World, place: Path) -> None:
    """A cohort with a column of its user's own."""
    with world.cohort.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    path = header.index("path")
    for row in rows:
        row[path] = str(world.cohort.parent / row[path])
    with (place / "cohort.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[*header, "age"], *([*row, 50 + n] for n, row in enumerate(rows))])


def _in_window(save: Step) -> Work:
    """As the window saves: it shows what the system or the program refuses."""

    def work(world: World, place: Path) -> int:
        try:
            save(world, place)
        except (OSError, MemoryError, Distill2LabelError) as error:
            print(message_of(error) or "out of memory", file=sys.stderr)
            return 2
        return 0

    return work


def _save_cohort(world: World, place: Path) -> None:
    """Another label for the first slide, saved."""
    from dataclasses import replace

    cohort = Cohort.read(place / "cohort.csv").with_classes()
    first, *others = cohort.slides
    if first.label != "tumour":
        cohort.with_slides([replace(first, label="tumour"), *others]).save()


def save_project(world: World, place: Path, threshold: float) -> None:
    """What was set in the window, and the slides."""
    from napari_distill2label.store.project_file import (
        SavedChoices,
        project_file_of,
        to_project_file,
        write_project_file,
    )

    cohort = Cohort.read(world.cohort).with_classes()
    saved = to_project_file(
        place, classes=cohort.classes, slides=cohort.slides, colours={"tumour": (200, 0, 0)}, threshold=threshold,
        signature="1-2", corrections=place / "c.csv", tissue={}, use_tissue=False,
        choices=SavedChoices("colon", "recommended", {"seed": 3}), model=world.run, network="student",
    )  # fmt: skip
    write_project_file(project_file_of(place / "cohort.csv"), saved)


def save_corrections(place: Path, label: str) -> None:
    """Nine corrections of one slide."""
    from napari_distill2label.store import corrections

    own = corrections.SlideCorrections()
    own.add([(20.0 + n, 30.0, label) for n in range(9)])
    corrections.write(place / "corrections.csv", {"slide_000": own})


def _project(threshold: float) -> Step:
    return lambda world, place: save_project(world, place, threshold)


def _corrections(label: str) -> Step:
    return lambda world, place: save_corrections(place, label)


def _checked(status: int) -> None:
    if status:
        raise RuntimeError(f"the state before could not be made: status {status}")


def _none(name: str) -> bool:
    return False


def _no_map(name: str) -> bool:
    return ".zarr/" not in name


WRITERS = {
    writer.name: writer
    for writer in (
        Writer("training", _nothing, _train, _resume, former=_none),
        Writer("longer training", _run_there, _longer, former=_none),
        Writer("features, zarr", _nothing, features("zarr"), former=_none),
        Writer("features, HDF5", _nothing, features("h5"), former=_no_map),
        Writer("prediction", _run_there, prediction(0.5, PREDICTED), former=_no_map),
        Writer("prediction, again", _former_prediction, prediction(0.501, "csv,geojson"), former=_no_map),
        Writer("export", _nothing, _export(0.5, ALL_FORMATS)),
        Writer("export, again", _former_export, _export(0.501, "csv,regions")),
        Writer("tissue", _nothing, _tissue, _tissue_again),
        Writer("evaluation", _nothing, _evaluate),
        Writer("model for ONNX", _nothing, _export_model("onnx")),
        Writer("model for WSInfer", _nothing, _export_model("wsinfer"), former=_none),
        Writer("sample", _run_with_maps, _sample),
        Writer("calibration", _sampled, _recalibrate),
        Writer("tables of a data set", _dataset_of_colon, _dataset),
        Writer("conversion", _patches_there, _convert("csv")),
        Writer("older files", _older_files, _use_older_files, former=_no_map),
        Writer("cohort", _own_table, _in_window(_save_cohort)),
        Writer("project", _project(0.5), _in_window(_project(0.4))),
        Writer("corrections", _corrections("tumour"), _in_window(_corrections("normal"))),
    )
}


@dataclass(frozen=True)
class Whole:
    """A writer that nothing happened to: what was there before, what is there afterwards, the steps it took."""

    before: dict[str, str]
    after: dict[str, str]
    steps: tuple[str, ...]
    seconds: float


def whole(world: World, writer: Writer) -> Whole:
    """Disturb nothing, once. The state before is then in the folder `before` of the world."""
    from .disk import watched
    from .forks import forked

    def find() -> Whole:
        place, template = world.fresh(), template_of(world, writer)

        def prepare() -> dict[str, str]:
            writer.prepare(world, place)
            return contents(place)

        before = forked(prepare)
        if wrong := before.verdict():
            raise RuntimeError(f"{writer.name}: {wrong.evidence}")
        copy_tree(place, template)

        def work() -> list[object]:
            with watched() as taken:
                status = writer.work(world, place)
            if status:
                raise RuntimeError(f"status {status}")
            return [contents(place), taken]

        ended = forked(work)
        if wrong := ended.verdict():
            raise RuntimeError(f"{writer.name}: {wrong.evidence}")
        after, steps = ended.told
        copy_tree(place, after_of(world, writer))
        return Whole(before.told, after, tuple(steps), ended.seconds)

    found: Whole = world.once(("whole", writer.name), find)
    return found


def template_of(world: World, writer: Writer) -> Path:
    """Where the state before lies."""
    return world.folder / f"before {writer.name}".replace(",", "")


def after_of(world: World, writer: Writer) -> Path:
    """Where the state after it lies, once it has been disturbed by nothing."""
    return world.folder / f"after {writer.name}".replace(",", "")


def lay_out(world: World, writer: Writer) -> Path:
    """The state before, in the folder of a trial."""
    place = world.fresh()
    place.rmdir()
    copy_tree(template_of(world, writer), place)
    return place
