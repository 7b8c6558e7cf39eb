"""How long a training will take, told before it starts, from what was measured: a run before it, or a trial. No Qt."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...core.settings import Settings
from ...store.timing import Timing
from ..runner.jobs import Job, Work
from ..runner.times import about

if TYPE_CHECKING:
    from ...store.run_summary import RunSummary
    from ..session import Session

TRIAL = "estimate"  # the kind of job that measures


@dataclass(frozen=True)
class Measured:
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


def estimate(measured: Iterable[Measured], settings: Settings, n_slides: int, baseline: bool) -> Estimate | None:
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


def call_off(session: "Session") -> None:
    """A training begins: nobody waits for a trial any more."""
    if (trial := session.jobs.of_kind(TRIAL)) is not None:
        session.jobs.cancel(trial)


def of_runs(runs: "Iterable[RunSummary]") -> list[Measured]:
    """What finished runs measured, in their order."""
    return [Measured(run.timing, run.settings, f"measured in the run ‘{run.name}’") for run in runs if run.timing]


def measure(session: "Session", baseline: bool = False) -> Job:
    """Start a trial on a few slides, for some ten seconds beside the window; its `Job` results in a `Measured`."""
    cohort, classes, settings = session.cohort, session.classes, session.settings
    on_features = settings.architecture.encoder == "features"
    encoder = session.encoder if on_features else None
    features = session.feature_folder if on_features else None
    trust = encoder is not None and encoder == session.trusted
    tissue = session.tissue.in_use()

    def work() -> Work:
        from ...workflow.estimate import estimate as trial

        timing = yield from trial(
            cohort,
            settings,
            classes=classes,
            baseline=baseline,
            encoder=encoder,
            features=features,
            trust=trust,
            tissue=tissue,
        )
        return Measured(timing, settings, "measured just now on a few slides", is_trial=True)

    def done(measured: Measured) -> None:
        session.runs.measured.insert(0, measured)

    return session.jobs.start(TRIAL, "Measuring how long training takes", work, done)
