"""Numbers as the tables print them."""

import math

import numpy as np
import pytest

from experiments.tables import compared, markdown, mean_interval, short, spread


@pytest.mark.parametrize(
    ("value", "text"), [(0.9123, ".912"), (-0.0126, "−.013"), (1.0, "1.000"), (10.5, "10.500"), (0.0, ".000")]
)
def test_numbers_without_a_leading_zero(value, text):
    assert short(value) == text


def test_interval_is_students():
    mean, half = mean_interval([1, 2, 3, 4, 5])
    assert mean == 3
    assert half == pytest.approx(2.776445 * np.sqrt(2.5 / 5), rel=1e-5)  # t for 4 degrees of freedom
    assert math.isnan(mean_interval([1.0])[1])


def test_spread_and_compared():
    assert spread([0.8, 0.9]) == ".850 ± .071"
    assert spread([0.8]) == ".800"
    assert spread([]) == "–"
    text, (low, high) = compared([0.01, 0.02, 0.03])
    assert text == "+.020 [−.005, .045]"
    assert low < 0 < high
    assert compared([])[0] == "–"


def test_markdown():
    assert markdown(["row", "x"], [["a", "1"]]) == "| row | x |\n|---|---:|\n| a | 1 |\n"
