"""`evaluate`: compare every network of a run with the ground truth. The run is not changed."""

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...core.bag import UNLABELLED
from ...core.errors import BundleError, CohortError, SettingsError, SlideError
from ...core.evaluation import LEVELS, Evaluation, SlideResult
from ...core.events import Event, ItemFailed, Progress, Task
from ...core.geometry import PatchGrid
from ...core.inputs import Compute, Inputs
from ...core.messages import Remedy
from ...core.metrics import positive_score
from ...core.notices import Notice, NoticeCode, trained_on
from ...core.paths import PathLike
from ...store.cohort import Cohort, CohortSlide
from ...store.cohort_edits import with_case_labels
from ...store.learnt import LearntSlides
from ...store.maps.hdf5_places import is_places
from ...store.maps.patch_map import PatchMap
from ...store.run import Run
from ..cases import score_cases
from ..corrections import coverage_of
from ..ground_truth import TruePatches, read_truth
from .predict import find_model, predict


def evaluate(
    run: Run | PathLike,
    cohort: Cohort,
    truth: PathLike,
    *,
    split: str = "test",
    missing_truth: str = "negative",
    inputs: Inputs = Inputs(),
    compute: Compute = Compute(),
) -> Generator[Event, None, dict[str, dict[str, Any]]]:
    """Return what every network of a run is worth: `{network: {level: {metric: value}}}`.

    Slides are called at 0.5, patches at the threshold that the network ships with. If a label is of a case, the level
    "slide" counts cases, each with the score of its highest slide; a notice names a case that lacks the prediction of
    a slide, which is no case of that level. Beside the levels (`core.evaluation.LEVELS`) a network has its
    `threshold`, and `intervals` (a bootstrap over patients), `reliability`, `operating_points` and `slides`, see
    `core.evaluation.Evaluation`; `left_out` counts slides that are left out.

    Parameters
    ----------
    cohort
        Slides with their labels.
    truth
        CSV `slide_id,x,y,label`, or QuPath's GeoJSON (points and areas), or a folder of mask images named by slide, see
        `workflow.ground_truth.MaskTruth`. Grid: a patch is positive if a point of a finding falls inside its box, or
        findings cover it. Centres: the label of the truth point at the centre (within 1 px), else of the area there.
        Slides without ground truth are unknown. So are patches with a mark that is of no class of the model, unless
        another mark gives them a class. Notices report both.
    split
        "test": slides of the run's test split, and slides that the run has never seen: their files and patients are
        compared with those of its training (`store.learnt`). "all": every labelled slide.
    missing_truth
        Patches of a grid on which nothing is marked: "negative", or "ignore". (Centres without a truth point and
        unknown pixels of a mask are always ignored.)
    inputs, compute
        As for `predict`. `label_map` and `coverage` are of the ground truth.
    """
    found, left_out = yield from evaluate_networks(
        run,
        cohort,
        truth,
        split=split,
        missing_truth=missing_truth,
        inputs=inputs,
        compute=compute,
    )
    reports = {}
    for done, (network, own) in enumerate(found.items()):
        yield Progress(Task.COMPARE, done, len(found))
        reports[network] = own.report() | ({"left_out": {"n": left_out}} if left_out else {})
    return reports


def evaluate_networks(
    run: Run | PathLike,
    cohort: Cohort,
    truth: PathLike,
    *,
    split: str = "test",
    missing_truth: str = "negative",
    inputs: Inputs = Inputs(),
    compute: Compute = Compute(),
) -> Generator[Event, None, tuple[dict[str, Evaluation], int]]:
    """Return the predictions of every network against the ground truth, and how many slides are left out.

    Parameters and errors are those of `evaluate`.
    """
    if split not in ("test", "all") or missing_truth not in ("negative", "ignore"):
        raise SettingsError("evaluate: split is 'test' or 'all', missing_truth is 'negative' or 'ignore'")
    run = run if isinstance(run, Run) else Run.open(run)
    if not run.models:
        raise BundleError("The run has no trained model yet.", file=run.folder, remedy=Remedy("resume"))
    yield from cohort.notices
    of_cases = run.config.settings.bag == "case"
    if of_cases:
        cohort = with_case_labels(cohort.with_classes(run.config.classes))
    rows = yield from _rows(run, cohort, split)
    known = read_truth(truth, inputs.label_map, coverage_of(inputs))
    left_out = len(cohort.labelled) - len(rows)
    cohort = Cohort(tuple(rows), run.config.classes)
    for row in rows:
        cohort.indices(row)  # raises for an unknown label before any work is done
    on_points = inputs.centres is not None and not is_places(inputs.centres)
    complete = not on_points and missing_truth == "negative"
    patches = TruePatches(known, truth, cohort.classes, complete, inputs.label_map)
    yield from patches.check([row.slide_id for row in rows], "slides to evaluate")
    found: dict[str, Evaluation] = {}
    to_predict = replace(inputs, label_map={}, coverage=None)  # these are of the ground truth
    for network in run.models:
        bundle = find_model(run, network, compute.device)
        work = predict(bundle, Cohort(tuple(rows)), inputs=to_predict, compute=compute)
        maps = yield from _without_repeats(work, first=network == run.models[0])
        if not maps:
            raise SlideError("none of the slides could be evaluated")
        results = []
        for done, patch_map in enumerate(maps):
            yield Progress(Task.COMPARE, done, len(maps))
            results.append(_result_of(patch_map, patches.of(patch_map), cohort))
        yield from patches.report()
        scored = score_cases(rows, {own.slide_id: own for own in maps}) if of_cases else []
        lacking = [case for case in scored if case.missing]
        for case in lacking if network == run.models[0] else ():
            n = len(case.missing)
            yield Notice(NoticeCode.CASE_NOT_SCORED, {"case": case.case_id, "n": n, "total": n + len(case.slides)})
        incomplete = frozenset(case.case_id for case in lacking)
        found[network] = Evaluation(results, bundle.threshold, of_cases, incomplete)
    return found, left_out


def _result_of(patch_map: PatchMap, true_class: np.ndarray, cohort: Cohort) -> SlideResult:
    patches, multi_label = patch_map.patches, patch_map.multi_label
    # Patches of a damaged region have no score.
    known = (true_class != UNLABELLED) & patch_map.scored[patches.scored]
    row = cohort[patch_map.slide_id]
    cell_mm2 = None
    if isinstance(patches, PatchGrid) and patch_map.slide.mpp is not None:
        (height, width), _ = patches.placement(patch_map.slide.mpp)
        cell_mm2 = height * width / 1e6
    return SlideResult(
        row.slide_id,
        row.case_id,
        cohort.indices(row) != (0,),
        float(positive_score(np.array(patch_map.bag_probability), multi_label)),
        true_class[known] > 0,
        positive_score(patch_map.probability[patches.scored][known], multi_label),
        cell_mm2,
        patch_map.unlikeness,
    )


def _rows(run: Run, cohort: Cohort, split: str) -> Generator[Event, None, list[CohortSlide]]:
    """Return the slides to evaluate. Notices report slides that are left out, or that the run was trained on."""
    learnt, reasons = LearntSlides.of(run), {}
    for done, row in enumerate(cohort.labelled):
        yield Progress(Task.COMPARE_WITH_TRAINING, done, len(cohort.labelled))
        reasons[row.slide_id] = learnt.reason(row)
    seen = [slide_id for slide_id, why in reasons.items() if why]
    rows = [row for row in cohort.labelled if split == "all" or not reasons[row.slide_id]]
    why = {
        why: [slide_id for slide_id, own in reasons.items() if own == why] for why in ("own", "file", "patient", "id")
    }
    if not rows:
        raise CohortError(
            f"No labelled slide of the cohort is new to the run: all {len(seen)} are training or validation slides of "
            f"it ({trained_on(why)}).",
            remedy=Remedy("set", "split", "all"),
        )
    if seen:
        code = NoticeCode.TRAINED_ON if split == "all" else NoticeCode.TRAINED_ON_LEFT_OUT
        yield Notice(code, {"n": len(seen), "total": len(reasons), "reasons": why})
    if same := [row.slide_id for row in rows if row.slide_id in learnt.rows and not reasons[row.slide_id]]:
        yield Notice(NoticeCode.SAME_ID_OTHER_PATIENT, {"slides": same})
    if learnt.n_unsigned:
        yield Notice(NoticeCode.TRAINING_UNSIGNED, {"n": learnt.n_unsigned, "total": len(learnt.rows)})
    return rows


def _without_repeats(
    work: Generator[Event, None, list[PatchMap]], first: bool
) -> Generator[Event, None, list[PatchMap]]:
    """Pass events on, but notices and failures only for the first network: all see the same slides."""
    while True:
        try:
            event = next(work)
        except StopIteration as stop:
            maps: list[PatchMap] = stop.value
            return maps
        if first or not isinstance(event, (Notice, ItemFailed)):
            yield event


def metrics_table(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the metrics as an aligned table of text. The JSON has every digit."""
    columns = ("accuracy", "f1", "auroc", "auprc", "prevalence", "ece", "called", "error", "bias", "n")
    lines = [f"{'model':<8} {'level':<25}" + "".join(f"{column:>11}" for column in columns)]
    for model, levels in metrics.items():
        for level in (name for name in (*LEVELS, "left_out") if name in levels):
            values = [levels[level].get(column) for column in columns]
            cells = ("-" if v is None else f"{v:.3f}" if isinstance(v, float) else str(v) for v in values)
            lines.append(f"{model:<8} {level:<25}" + "".join(f"{cell:>11}" for cell in cells))
    return "\n".join(lines)
