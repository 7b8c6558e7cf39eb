"""A threshold with a promise: how much of a new negative slide is called, at most.

Every patch of a negative slide is negative, so slides alone show how much is called wrongly. For each patient let T be
the lowest threshold at which at most a share α of the patches of each of its negative slides is called. If patients are
exchangeable, and the network has learnt nothing from them, the threshold t that is the ⌈(n + 1)(1 − δ)⌉-th smallest of
n such T keeps the promise: for a new patient P(T ≤ t) ≥ 1 − δ. That is split conformal prediction (Vovk 2005;
Angelopoulos & Bates 2023, theorem D.1), or conformal risk control of the loss "more than α is called". The unit is the
patient: patches of one slide, and slides of one patient, are no independent evidence.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import SettingsError
from .messages import Remedy


@dataclass(frozen=True)
class Promise:
    """With probability 1 − `risk` at most `share` of a new negative slide's patches is called from `threshold` on.

    `slide_threshold`: a new negative slide has a probability below it, with probability 1 − `risk`.
    """

    share: float
    risk: float
    threshold: float
    slide_threshold: float
    n_patients: int
    n_slides: int

    def __str__(self) -> str:
        text = (
            f"Threshold {self.threshold:.3f}: on a new negative slide at most {100 * self.share:g}% of the patches is "
            f"called, with probability {1 - self.risk:.0%}. That rests on {self.n_slides} negative slides of "
            f"{self.n_patients} patients."
        )
        if self.slide_threshold >= 1:
            return text
        return f"{text} The probability of such a slide is below {self.slide_threshold:.3f}, as surely."


def patients_needed(risk: float) -> int:
    """Return the smallest number of patients that can promise anything: n with ⌈(n + 1)(1 − δ)⌉ ≤ n."""
    return max(1, math.ceil(1 / risk - 1 - 1e-9))


def lowest_threshold(probability: np.ndarray, share: float) -> float:
    """Return the lowest threshold at which at most `share` of the patches (n,), n ≥ 1, is called (p ≥ threshold).

    It is just above the ⌊share · n⌋ + 1-th largest probability, as float32. Above 1: no threshold does.
    """
    allowed = math.floor(share * len(probability) + 1e-9)
    if allowed >= len(probability):
        return 0.0
    beyond = np.float32(np.partition(probability, len(probability) - allowed - 1)[len(probability) - allowed - 1])
    return float(np.nextafter(beyond, np.float32(2)))


def conformal_quantile(values: Sequence[float], risk: float) -> float:
    """Return the ⌈(n + 1)(1 − δ)⌉-th smallest of n values: a new one is above it with probability ≤ δ."""
    rank = math.ceil((len(values) + 1) * (1 - risk) - 1e-9)
    return float(sorted(values)[rank - 1])


def make_promise(
    slides: Mapping[str, Sequence[tuple[np.ndarray, float]]], share: float = 0.05, risk: float = 0.1
) -> Promise:
    """Return the promise that negative slides allow.

    Parameters
    ----------
    slides
        For each patient its negative slides: probabilities of a finding in the patches (n,) and in the slide.
    share, risk
        α and δ.

    Raises
    ------
    SettingsError
        Too few patients for this risk, or no threshold up to 1 keeps the promise.
    """
    for name, value in (("promise", share), ("risk", risk)):
        if not 0 < value < 1:
            raise SettingsError(f"The {name} is a share between 0 and 1, not {value:g}.", field=name)
    needed = patients_needed(risk)
    if len(slides) < needed:
        raise SettingsError(
            f"A promise at a risk of {risk:g} needs negative slides of {needed} patients that the model has learnt "
            f"nothing from. There are {len(slides)}.",
            remedy=Remedy("set", "negatives", alternative=Remedy("set", "risk")),
        )
    threshold = conformal_quantile([max(lowest_threshold(p, share) for p, _ in own) for own in slides.values()], risk)
    of_slides = [max(float(np.nextafter(np.float32(p), np.float32(2))) for _, p in own) for own in slides.values()]
    if threshold > 1:
        raise SettingsError(
            f"No threshold keeps the promise: more than {share:g} of the patches of a negative slide is certain to be "
            "a finding. Allow a larger share or risk, or look at the negative slides"
        )
    n_slides = sum(len(own) for own in slides.values())
    return Promise(share, risk, threshold, min(1.0, conformal_quantile(of_slides, risk)), len(slides), n_slides)
