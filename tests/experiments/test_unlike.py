"""Slides of other sets and stains, marked by a run of `transfer`."""

import numpy as np
import pandas as pd
import pytest

from experiments.__main__ import main
from napari_distill2label.core.events import drain
from napari_distill2label.core.inputs import Inputs
from napari_distill2label.core.presets import build_settings
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.workflow.commands.prepare_dataset import prepare_dataset
from napari_distill2label.workflow.commands.train import train

SIDE = 108


@pytest.fixture(scope="module")
def sets(publish, tmp_path_factory):
    """`colon`, bright and pink, and `consep`, darker and blue: images of 108 px with ten nuclei."""
    random, root = np.random.default_rng(0), tmp_path_factory.mktemp("sets")
    for name, first, tone, count in (("colon", 1, (230, 180, 210), 16), ("consep", 101, (120, 110, 190), 4)):
        for number in range(first, first + count):
            pixels = np.clip(random.normal(tone, 12, (SIDE, SIDE, 3)) + random.normal(0, 4, 3), 0, 255).astype(np.uint8)
            nuclei = {"fibroblast": random.uniform(14, SIDE - 14, (10, 2))}
            if number % 2:
                nuclei["epithelial"] = random.uniform(14, SIDE - 14, (5, 2))
            publish(root / name, number, pixels, nuclei)
    return root


def test_another_set_and_another_stain_are_marked(sets, tmp_path, capsys):
    folder, out = tmp_path / "out" / "data" / "colon", tmp_path / "out"
    drain(prepare_dataset("colon", sets / "colon", folder))
    few = {"epochs": 1}
    settings = build_settings(
        "colon", "paper", {"teacher": few, "student": few, "split": {"valid": 0.0, "test": 0.25}, "device": "cpu"}
    )
    inputs = Inputs(centres=folder / "centres.csv")
    name = "colon-nucleus-fold0-seed0"
    drain(train(Cohort.read(folder / "cohort.csv"), out / "runs" / name, settings, inputs=inputs))
    assert main(["unlike", "--data", str(sets), "-o", str(out)]) == 0
    frame = pd.read_csv(out / "unlike.csv").set_index(["set", "stain"])
    assert frame.loc["colon", "as they are"].n == 4
    assert frame.loc["colon", "as they are"].marked <= 0.5
    assert frame.loc["colon", "1.6 times as strong"].marked == 1
    assert frame.loc["consep", "as they are"].marked == 1
    assert "| colon-nucleus → consep | as they are | 1 | 4 | 100% |" in capsys.readouterr().out
    assert main(["unlike", "--data", str(sets), "-o", str(tmp_path / "empty")]) == 2
