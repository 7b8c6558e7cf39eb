"""How long a training will take, told before it starts, from what was measured: a run before it, or a trial. No Qt."""

from collections.abc import Iterable
from dataclasses import dataclass

from ...core.settings import Settings
from ...store.run_summary import RunSummary
from ...store.timing import Timing
from ..runner.times import about


@dataclass(frozen=True)
class TimingSample:
    """What was measured with which settings, and how one knows; `is_trial`: it may lack a network for want of time."""

    timing: Timing
    settings: Settings
    source: str
    is_trial: bool = False


@dataclass(frozen=True)
class Estimate:
    """Seconds a training will take, about; with `at_least` that is what is known of, and there is more."""

    seconds: float
    source: str
    at_least: bool = False

    @property
    def text(self) -> str:
        if self.at_least:
            return f"Will take more than {about(self.seconds)} ({self.source}, which was too short for all networks)."
        return f"Will take {about(self.seconds)} ({self.source})."


def estimate(measured: Iterable[TimingSample], settings: Settings, n_slides: int, baseline: bool) -> Estimate | None:
    """From the first of these that was measured with settings that take the same time per slide; None if none was.

    `n_slides` are those trained and validated on: times grow with them.
    """
    for known in measured:
        if same_speed(known.settings, settings) and n_slides:
            seconds, is_all = known_part(known.timing, settings, n_slides, baseline)
            if is_all or known.is_trial:
                return Estimate(seconds, known.source, not is_all)
    return None


def same_speed(one: Settings, other: Settings) -> bool:
    """Would a slide take as long with these as with those? Epochs, seed and splits do not count."""
    return _of_speed(one) == _of_speed(other)


def _of_speed(settings: Settings) -> dict[str, object]:
    kept = settings.model_dump(include={"device", "patches", "architecture", "teacher", "oof", "student"})
    for part in ("teacher", "oof", "student"):
        for name in ("epochs", "keep_epoch", "learning_rate", "schedule", "weight_decay"):
            del kept[part][name]
    kept["oof_classifiers"] = bool(settings.student.gamma_oof)
    del kept["oof"]["folds"]
    return kept


def total(timing: Timing, settings: Settings, n_slides: int, baseline: bool = False) -> float | None:
    """Seconds of a training of `n_slides` by `timing`; None if a network it needs was not measured."""
    seconds, is_all = known_part(timing, settings, n_slides, baseline)
    return seconds if is_all else None


def known_part(timing: Timing, settings: Settings, n_slides: int, baseline: bool = False) -> tuple[float, bool]:
    """Seconds of a training of `n_slides` as far as `timing` knows, and whether that is all of it."""
    seconds, is_all = timing.reading + timing.between, True
    wanted = {"teacher": settings.teacher.epochs, "student": settings.student.epochs}
    if baseline:
        wanted["baseline"] = settings.teacher.epochs
    for network, epochs in wanted.items():
        # Plain MIL takes at most as long as the teacher.
        rate = timing.epoch.get(network, timing.epoch.get("teacher") if network == "baseline" else None)
        seconds += epochs * (rate or 0)
        is_all &= rate is not None
    if settings.student.gamma_oof:
        own = [rate for network, rate in timing.epoch.items() if network.startswith("oof")]
        is_all &= bool(own)
        if own:
            # Each of k out-of-fold classifiers sees (k − 1) / k of the slides (one alone sees all).
            seen = [(count - 1) / count if count > 1 else 1 for count in (len(own), settings.oof.folds)]
            seconds += settings.oof.epochs * settings.oof.folds * sum(own) / len(own) * seen[1] / seen[0]
    return n_slides / timing.n_slides * seconds, is_all


def of_runs(runs: Iterable[RunSummary]) -> list[TimingSample]:
    """What finished runs measured, in their order."""
    return [TimingSample(run.timing, run.settings, f"measured in the run ‘{run.name}’") for run in runs if run.timing]
