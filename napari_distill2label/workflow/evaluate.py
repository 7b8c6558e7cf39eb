"""`evaluate`: every model of a run against the truth. The only verb that reads truth; it changes nothing."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..core.bag import UNKNOWN
from ..core.errors import BundleError, CohortError, SettingsError, SlideError
from ..core.events import Event, Failed, Notice
from ..core.metrics import Metrics, binary_metrics, mean_metrics, positive_score
from ..store.cohort import Cohort, CohortSlide
from ..store.patchmap import PatchMap
from ..store.run import Run
from .bags import PathLike
from .predict import find_model, predict
from .truth import Truth, read_truth


@dataclass
class _Answers:
    """What one model said of the slides, and what is true: bags, and instances slide by slide."""

    bag_truth: list[bool] = field(default_factory=list)
    bag_score: list[float] = field(default_factory=list)
    truth: list[np.ndarray] = field(default_factory=list)
    score: list[np.ndarray] = field(default_factory=list)

    def add(self, patch_map: PatchMap, truth: Truth, cohort: Cohort, empty_is_negative: bool) -> None:
        patches, several = patch_map.patches, patch_map.several
        true_class = truth.of(patch_map.slide_id, patches, cohort.classes)
        if empty_is_negative:
            true_class[true_class == UNKNOWN] = 0
        known = (true_class != UNKNOWN) & patch_map.done[patches.scored]  # parts of a damaged slide have no answer
        score = positive_score(patch_map.probability[patches.scored], several)
        self.bag_truth.append(cohort.indices(cohort[patch_map.slide_id]) != (0,))
        self.bag_score.append(float(positive_score(np.array(patch_map.bag_probability), several)))
        self.truth.append(true_class[known] > 0)
        self.score.append(score[known])

    def metrics(self) -> dict[str, Metrics]:
        """By level: slides; all patches; those of positive slides; and the mean over slides that hold patches."""
        pairs = list(zip(self.bag_truth, self.truth, self.score, strict=True))

        def pooled(chosen: Sequence[tuple[bool, np.ndarray, np.ndarray]]) -> Metrics:
            empty = [np.empty(0)]
            return binary_metrics(
                np.concatenate([truth for _, truth, _ in chosen] or empty),
                np.concatenate([score for _, _, score in chosen] or empty),
            )

        return {
            "bag": binary_metrics(np.array(self.bag_truth), np.array(self.bag_score)),
            "instance": pooled(pairs),
            "instance_positive_slides": pooled([pair for pair in pairs if pair[0]]),
            "instance_per_slide": mean_metrics(binary_metrics(truth, score) for _, truth, score in pairs if len(truth)),
        }


def evaluate(
    run: Run | PathLike,
    cohort: Cohort,
    truth: PathLike,
    *,
    centres: PathLike | None = None,
    split: str = "test",
    empty: str = "negative",
    device: str = "auto",
    encoder: PathLike | None = None,
    features: PathLike | None = None,
    trust: bool = False,
) -> Generator[Event, None, dict[str, dict[str, Metrics]]]:
    """Metrics of every model of a run: `{model: {level: {metric: value}}}` at threshold 0.5.

    Parameters
    ----------
    cohort
        Slides with their labels.
    truth
        CSV `slide_id,x,y,label`. Grid: a patch is positive if a point of a positive class falls inside its box.
        Centres: the label of the truth point at the centre (within 1 px). A label that is no class is negative.
        Or a folder of mask images named by slide, see `workflow.truth.MaskTruth`.
    split
        "test": slides of the run's test split, and slides the run has never seen; "all": every labelled slide.
    empty
        Grid patches without any point: "negative", or "ignore". (Centres without a truth point are ignored.)
    encoder, features, trust
        As for `predict`.
    """
    if split not in ("test", "all") or empty not in ("negative", "ignore"):
        raise SettingsError("evaluate: split is 'test' or 'all', empty is 'negative' or 'ignore'")
    run = run if isinstance(run, Run) else Run.open(run)
    if not run.models:
        raise BundleError(f"{run.folder}: has no trained model yet; finish the run with --resume")
    rows = _rows(run, cohort, split)
    yield from (Notice(line) for line in cohort.notices)
    known = read_truth(truth)
    if not any(row.slide_id in known for row in rows):
        raise CohortError(
            f"{truth}: says nothing of any of the {len(rows)} slides to evaluate: are the slide ids the same?"
        )
    cohort = Cohort(tuple(rows), run.config.classes)
    for row in rows:
        cohort.indices(row)  # an unknown label is an error before any work is done
    metrics = {}
    for role in run.models:
        work = predict(
            find_model(run, role, device),
            Cohort(tuple(rows)),
            centres=centres,
            device=device,
            encoder=encoder,
            features=features,
            trust=trust,
        )
        maps = yield from _without_repeats(work, first=role == run.models[0])
        if not maps:
            raise SlideError("none of the slides could be evaluated")
        answers = _Answers()
        for patch_map in maps:
            answers.add(patch_map, known, cohort, empty_is_negative=centres is None and empty == "negative")
        metrics[role] = answers.metrics()
    return metrics


def _rows(run: Run, cohort: Cohort, split: str) -> list[CohortSlide]:
    seen = {slide.slide_id: slide.split for slide in run.cohort.labelled}
    rows = [row for row in cohort.labelled if split == "all" or seen.get(row.slide_id, "test") == "test"]
    if not rows:
        raise CohortError("no labelled slide of the cohort is in the run's test split: add --split all")
    return rows


def _without_repeats(
    work: Generator[Event, None, list[PatchMap]], first: bool
) -> Generator[Event, None, list[PatchMap]]:
    """Pass events on, notices and failures only the first time round: every model meets the same slides."""
    while True:
        try:
            event = next(work)
        except StopIteration as stop:
            return stop.value
        if first or not isinstance(event, (Notice, Failed)):
            yield event


def metrics_table(metrics: dict[str, dict[str, Metrics]]) -> str:
    """Metrics of models and levels as aligned text, for people; the JSON has every digit."""
    columns = ("accuracy", "f1", "auroc", "auprc", "prevalence", "ece", "n")
    lines = [f"{'model':<8} {'level':<25}" + "".join(f"{column:>11}" for column in columns)]
    for model, levels in metrics.items():
        for level, row in levels.items():
            cells = ("-" if row[c] is None else f"{row[c]:.3f}" if c != "n" else str(row[c]) for c in columns)
            lines.append(f"{model:<8} {level:<25}" + "".join(f"{cell:>11}" for cell in cells))
    return "\n".join(lines)
