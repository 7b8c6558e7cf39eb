"""Images of other sets and stains, marked by how the training images look."""

import numpy as np
import pandas as pd
import pytest

from experiments.__main__ import main

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
    out = tmp_path / "out"
    assert main(["unlike", "--data", str(sets), "-o", str(out)]) == 0
    frame = pd.read_csv(out / "unlike.csv").set_index(["patches", "set", "stain"])
    for patches in ("nucleus", "grid"):
        assert frame.loc[patches, "colon", "as they are"].marked <= 0.5
        assert frame.loc[patches, "colon", "1.6 times as strong"].marked == 1
        assert frame.loc[patches, "consep", "as they are"].n == 4
        assert frame.loc[patches, "consep", "as they are"].marked == 1
    assert "| consep | 27 px on a grid | as they are | 4 | 100% |" in capsys.readouterr().out
    assert main(["unlike", "--data", str(tmp_path / "empty"), "-o", str(out)]) == 2
