"""WSInfer's own program on our exported network: are its probabilities ours, patch by patch?

    D2L_WSINFER=/path/to/python make check-wsinfer

`D2L_WSINFER` is the Python of an environment of its own with wsinfer 0.6.1. The slide is a real one (`D2L_DATA`), or
the one that is named. WSInfer looks for tissue by rules of its own and places its patches; ours are centred on them.
"""

import argparse
import csv
import os
import tempfile
from pathlib import Path

import numpy as np

import napari_distill2label as d2l
from napari_distill2label.core.calibration import Calibration, FindingCalibration, Line
from napari_distill2label.core.inputs import Inputs
from napari_distill2label.store.bundle import load_bundle

from .predicting import ROOT, bundle_of, colon_model, run

LIMIT = 1e-4  # of a probability
SLIDE = "slides/CMU-1-Small-Region.svs"
CALIBRATION = Calibration(findings=(FindingCalibration(prior=0.3, patch=Line(slope=1.25, offset=-0.3), slide=Line()),))


def largest_difference(python: str, slide: Path, folder: Path) -> tuple[float, int]:
    """Return the largest difference of a probability, and the number of patches.

    Patches that reach over the border are left out: WSInfer fills them up with black, and we with a reflection.
    """
    bundle = load_bundle(bundle_of(colon_model(), folder / "bundle", calibration=CALIBRATION))
    exported = d2l.export_model(bundle, folder / "exported", "wsinfer")
    network, config = exported.files[:2]
    (folder / "slides").mkdir()
    (folder / "slides" / slide.name).symlink_to(slide.absolute())
    command = [python, ROOT / "benchmarks" / "wsinfer_offline.py", "run", "-i", folder / "slides", "-o", folder / "w"]
    run([*command, "-c", config, "-p", network, "-b", 128, "-n", 1], CUDA_VISIBLE_DEVICES="")
    with next((folder / "w").glob("model-outputs-csv/*.csv")).open() as table:
        theirs = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(table)]
    side = int(theirs[0]["width"])
    with (folder / "centres.csv").open("w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(("slide_id", "x", "y"))
        writer.writerows((slide.stem, row["minx"] + side // 2, row["miny"] + side // 2) for row in theirs)
    (ours,) = d2l.predict(bundle, [slide], inputs=Inputs(centres=folder / "centres.csv"))
    if ours.patches.side != side:
        raise SystemExit(f"WSInfer's patches are {side} px, ours {ours.patches.side}")
    alone = CALIBRATION.patches_alone(ours.logit, multi_label=False)
    found = np.array([[row["prob_normal"], row["prob_tumour"]] for row in theirs])
    inside = ((ours.patches.corners + side) <= ours.patches.slide_shape).all(1)
    differences = np.abs(alone - found).max(1)
    return float(differences[inside].max()), int(inside.sum())


def main() -> None:
    """Run WSInfer and compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check_wsinfer", description=__doc__)
    default = Path(os.environ.get("D2L_DATA", ROOT.parent / "shared" / "data")) / SLIDE
    parser.add_argument("slide", type=Path, nargs="?", default=default)
    options = parser.parse_args()
    python = os.environ.get("D2L_WSINFER")
    if not python or not options.slide.is_file():
        raise SystemExit(
            "NOT checked: set D2L_WSINFER to the Python of an environment with wsinfer 0.6.1, and D2L_DATA"
        )
    with tempfile.TemporaryDirectory() as name:
        difference, n = largest_difference(python, options.slide, Path(name))
    print(f"{options.slide.name}: {n} patches, the largest difference of a probability is {difference:.1e}")
    if difference > LIMIT:
        raise SystemExit(f"more than {LIMIT:g}: WSInfer does not give our probabilities")


if __name__ == "__main__":
    main()
