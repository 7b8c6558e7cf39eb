"""How the share of positives is estimated: drawn cohorts of digits, and the rule that chooses."""

import numpy as np
import pandas as pd
import pytest

from experiments import prior as experiment
from experiments.__main__ import main
from experiments.mnist_data import FILES, Digits
from experiments.prior import KEPT, PATCHES, Design, choose, draw_cohort, errors, share_between
from tests.experiments.test_mnist import patterns, write_digits


@pytest.fixture(scope="module")
def digits() -> Digits:
    return patterns(12_000, 0)


def test_a_cohort_has_the_share_it_is_said_to_have_and_no_image_twice(digits):
    bags, share = draw_cohort(digits, Design(9, 0.3, 1.0, 0.0, 24, 0))
    assert [bag.label for bag in bags] == [(0,), (1,)] * 12
    assert {len(bag) for bag in bags} == {PATCHES}
    assert share == pytest.approx(0.3, abs=0.1)
    every = np.concatenate([bag.instances for bag in bags])
    assert len(np.unique(every, axis=0)) == len(every)
    bright = every[:, 21:28].mean(1) > 0.5  # the bar that only nines have lies in rows 10 to 18
    of_bag = bright.reshape(len(bags), PATCHES)
    assert not of_bag[::2].any()
    assert of_bag[1::2].any(1).all()
    assert of_bag[1::2].mean() == pytest.approx(share, abs=0.02)


def test_the_variance_between_groups_is_that_of_their_means():
    random = np.random.default_rng(0)
    assert share_between([random.normal(random.normal(), 1, 500) for _ in range(400)]) == pytest.approx(0.5, abs=0.06)
    assert share_between([random.normal(0, 1, 500) for _ in range(50)]) < 0.01


def found(gains, n=20):
    """Errors in which each (quantile, cut) of `gains` is better than what is kept, by so much in the mean."""
    random = np.random.default_rng(0)
    base = random.uniform(0.1, 0.2, n)
    columns = {(quantile, -1.0 if cut is None else cut): base - gain for (quantile, cut), gain in gains.items()}
    return pd.DataFrame({(KEPT[0], -1.0): base, **columns})


def test_what_is_kept_is_left_only_for_what_is_better_by_two_standard_errors():
    noise = np.random.default_rng(1).normal(0, 0.1, 20)
    assert choose(found({})) == KEPT
    assert choose(found({(0.8, None): noise + 0.01, (0.9, 0.25): -0.05})) == KEPT
    assert choose(found({(0.8, None): noise * 0.01 + 0.02, (0.9, 0.25): noise * 0.01 + 0.05})) == (0.9, 0.25)


def test_it_runs_from_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(experiment, "PATCHES", 20)
    digits = patterns(12_000, 0)
    for part in FILES:
        write_digits(tmp_path / "mnist", part, digits.images, digits.labels)
    assert main(["prior", "--data", str(tmp_path), "-o", str(tmp_path / "out"), "--quick"]) == 0
    frame = pd.read_csv(tmp_path / "out" / "prior.csv")
    assert len(frame) == 2 * len(experiment.QUANTILES) * len(experiment.CUTS)
    assert (frame.estimated - frame.true).abs().mean() < 0.4
    assert len(errors(frame)) == 2
    assert "By the rule:" in capsys.readouterr().out
