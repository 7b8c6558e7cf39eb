"""Corrections in every order, on drawn features whose positive patches are known."""

import csv

import numpy as np
import pandas as pd
import pytest

from experiments.__main__ import main
from experiments.orders import COUNTS, ORDERS, correct
from napari_distill2label.core.bag import UNLABELLED
from napari_distill2label.core.events import drain
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.maps.feature_map import FeatureMap
from napari_distill2label.workflow.live import live, read_features

GRID = PatchGrid.over((10 * 27, 10 * 27), PatchSettings(size_px=27))
N_SLIDES, EVERY, N_FEATURES = 20, 4, 12


@pytest.fixture(scope="module")
def transfer(tmp_path_factory):
    """A folder as `transfer` leaves it: 20 slides of 100 patches, every fourth patch of every other slide positive."""
    root, random = tmp_path_factory.mktemp("transfer"), np.random.default_rng(0)
    data, features = root / "data" / "colon", root / "features" / "colon"
    data.mkdir(parents=True)
    features.mkdir(parents=True)
    slides, points = [["slide_id", "path", "label"]], [["slide_id", "x", "y", "label"]]
    for number in range(N_SLIDES):
        found = FeatureMap.open_or_create(features / f"s{number}.zarr", GRID, N_FEATURES, {"encoder": "e"})
        for block in GRID.blocks(1000):
            values = random.normal(size=(len(block.corners), N_FEATURES)).astype(np.float32)
            if number % 2:
                values[::EVERY, :3] += 2
            found.write(block, values)
        slides.append([f"s{number}", f"s{number}.tif", ("normal", "tumour")[number % 2]])
        marked = GRID.corners[::EVERY] + 13 if number % 2 else []
        points += [[f"s{number}", x, y, "tumour"] for y, x in marked] or [[f"s{number}", "", "", ""]]
    for name, rows in (("cohort.csv", slides), ("truth.csv", points)):
        with (data / name).open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return root


def test_from_the_command_line(transfer, tmp_path, capsys):
    assert main(["orders", "--data", str(transfer), "-o", str(tmp_path), "--quick"]) == 0
    frame = pd.read_csv(tmp_path / "orders.csv")
    assert set(frame.order) == set(ORDERS)
    assert set(frame.corrected) == set(COUNTS[:2])
    none = frame[frame.corrected == 0]
    assert none.auroc.nunique() == none.f1.nunique() == 1  # all orders begin with one training
    assert "| telling first | 5 |" in capsys.readouterr().out
    assert main(["orders", "--data", str(tmp_path / "empty"), "-o", str(tmp_path)]) == 2


@pytest.fixture(scope="module")
def predicted(transfer):
    cohort = Cohort.read(transfer / "data" / "colon" / "cohort.csv").with_classes()
    features = drain(read_features(cohort, transfer / "features" / "colon"))
    maps = drain(live(features, cohort)).maps
    return features, {own.slide_id: own for own in maps}


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_takes_the_highest_ranks_and_nothing_twice(predicted, order):
    features, maps = predicted
    slides = [f"s{number}" for number in range(1, 6, 2)]
    told = {slide_id: np.full(GRID.shape, UNLABELLED, np.int8) for slide_id in slides}
    truth = {slide_id: (np.arange(100) % EVERY == 0).astype(np.int8) for slide_id in slides}
    random = np.random.default_rng(0)
    correct(told, maps, 5, ORDERS[order], features, truth, random)
    first = {slide_id: known.copy() for slide_id, known in told.items()}
    correct(told, maps, 12, ORDERS[order], features, truth, random)
    chosen = np.concatenate([known.ravel() != UNLABELLED for known in told.values()])
    assert chosen.sum() == 12
    for slide_id, known in told.items():
        kept = first[slide_id] != UNLABELLED
        assert (known[kept] == first[slide_id][kept]).all()
        there = known.ravel() != UNLABELLED
        assert (known.ravel()[there] == truth[slide_id][there]).all()
    if (rank := ORDERS[order]) is not None:
        ranks = np.concatenate([rank(maps[slide_id]).ravel() for slide_id in slides])
        assert ranks[chosen].min() >= ranks[~chosen].max()
