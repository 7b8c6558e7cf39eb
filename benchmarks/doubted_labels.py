"""Labels that a training doubts, on the real images of `D2L_DATA`: false alarms, and labels turned round on purpose.

`python -m benchmarks.doubted_labels`: each set is trained on features of a frozen network, by the method `recommended`,
with its right labels and with one to three labels of training slides turned round, in several draws of slides and
splits. Named slides whose label is right are false alarms; a turned label is found if its slide is named. Only the
out-of-fold classifiers decide, so teacher and student train for one epoch.
"""

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from napari_distill2label.core.errors import Distill2LabelError
from napari_distill2label.core.events import Event, drain
from napari_distill2label.core.inputs import Encoder, Inputs
from napari_distill2label.core.notices import Notice, NoticeCode
from napari_distill2label.core.presets import build_settings
from napari_distill2label.core.settings import PatchSettings, SplitSettings
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.splits import with_splits
from napari_distill2label.workflow.commands.extract_features import extract_features
from napari_distill2label.workflow.commands.prepare_dataset import prepare_dataset
from napari_distill2label.workflow.commands.train import train

from .pyramids import DATA

SETS = {"colon": 0.55, "consep": 0.5, "glas": 0.62, "breast": 0.5}  # and µm/px, where the files do not say it
ENCODER = "encoders/mobilenet_v2_imagenet.onnx"
GRID = PatchSettings(size_px=64, border="drop")
MOST = 3  # labels turned round
VALID = 0.1  # of the slides


@dataclass(frozen=True)
class Doubted:
    """One training: of `slides` judged, `turned` had a wrong label, of which `found` were named, and `alarms` more."""

    slides: int
    turned: int
    found: int
    alarms: int


def prepared(name: str, folder: Path) -> tuple[Cohort, Path]:
    """The tables of a set and the folder of its features, made where they are not there yet."""
    table, features = folder / name / "cohort.csv", folder / name / "features"
    if not table.exists():
        drain(prepare_dataset(name, DATA / name, table.parent, mpp=SETS[name]))
    cohort = Cohort.read(table).with_classes()
    drain(extract_features(cohort, features, GRID, inputs=Inputs(encoder=Encoder(DATA / ENCODER))))
    return cohort, features


def trained(cohort: Cohort, features: Path, turned: int, seed: int) -> Doubted:
    """Turn labels of training slides round, train, and compare the slides that are named with those."""
    draw = random.Random(seed)
    split = with_splits(cohort, SplitSettings(test=0, valid=VALID), seed)
    judged = [row.slide_id for row in split.in_split("train")]
    wrong = set(draw.sample(judged, turned))
    negative, positive = cohort.classes
    other = {negative: positive, positive: negative}
    changed = split.with_slides(
        replace(row, label=other[row.label]) if row.slide_id in wrong and row.label else row for row in split
    )
    layers = {
        "seed": seed, "patches": GRID.model_dump(), "device": "cpu", "teacher": {"epochs": 1}, "student": {"epochs": 1},
    }  # fmt: skip
    named: set[str] = set()

    def listen(event: Event) -> None:
        if isinstance(event, Notice) and event.code is NoticeCode.LABELS_DOUBTED:
            named.update(event.values["names"])

    with TemporaryDirectory(prefix="doubted-") as folder:
        settings = build_settings("wsi", "recommended", layers)
        drain(train(changed, Path(folder) / "run", settings, inputs=Inputs(features=features)), listen)
    return Doubted(len(judged), turned, len(named & wrong), len(named - wrong))


def line(name: str, found: list[Doubted]) -> str:
    """What came of trainings with one number of turned labels."""
    turned, slides = found[0].turned, sum(each.slides for each in found) / len(found)
    alarms = [each.alarms for each in found]
    text = f"{name}, {turned} labels turned, {len(found)} trainings of {slides:.0f} slides: "
    if turned:
        text += f"{sum(each.found for each in found)} of {turned * len(found)} found, "
    return f"{text}{sum(alarms)} others named, at most {max(alarms)} in a training"


def measure(names: list[str], folder: Path, draws: int) -> Iterator[str]:
    """A line for each set and number of turned labels."""
    for name in names:
        if not (DATA / name).is_dir():
            yield f"{name}: not measured, {DATA} has none"
            continue
        cohort, features = prepared(name, folder)
        for turned in range(MOST + 1):
            found = []
            for seed in range(draws):
                try:
                    found.append(trained(cohort, features, turned, seed))
                except Distill2LabelError as error:
                    yield f"{name}, {turned} labels turned, draw {seed}: {error}"
            if found:
                yield line(name, found)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.doubted_labels", description=__doc__)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--draws", type=int, default=4, help="trainings for each number of turned labels")
    parser.add_argument("--work", type=Path, help="keep tables and features here")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="doubted-") as scratch:
        for each in measure(options.sets, options.work or Path(scratch), options.draws):
            print(each, flush=True)


if __name__ == "__main__":
    main()
