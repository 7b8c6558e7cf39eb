"""Does the promise hold? Random halves of negative slides: one half chooses the threshold, the other is called by it.

The slides are those of the cells of `transfer`, whose networks have learnt nothing from them, and drawn ones. The
halves are random, so cases are exchangeable whatever they are: the rate of broken promises must not be above the risk.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from napari_distill2label.core.calibration import sigmoid
from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import Event, Progress, Task
from napari_distill2label.core.paths import PathLike
from napari_distill2label.core.promise import make_promise, patients_needed
from napari_distill2label.store.files.atomic import write_text

from .tables import markdown, short
from .transfer_report import KINDS, SETS, read_cells

SPLITS = 200
SHARES, RISKS = (0.02, 0.05, 0.1), (0.1, 0.2)
SHOWN = 0.05  # share of the tables; the CSV has all
DRAWN = "drawn slides"
DRAWN_CASES, DRAWN_SLIDES, DRAWN_PATCHES = 40, 2, 300
NETWORKS = ("baseline", "student")

Cases = Mapping[str, Sequence[tuple[np.ndarray, float]]]  # negative slides of each: probabilities of patches and slide


@dataclass(frozen=True)
class Held:
    """How often the promise was broken.

    Attributes
    ----------
    cases
        Of which a half, at least as many as the risk needs, chooses the threshold.
    broken, slides_broken
        Share of the other cases with a slide of which more than `share` is called; with a slide at or above the slide's
        threshold. Mean over splits.
    error
        Standard error of `broken`, from the spread between splits.
    refused
        Share of the splits in which no threshold keeps the promise: nothing is promised, and nothing broken.
    called
        Share of a negative slide's patches that is called, mean over cases and splits.
    sensitivity, own_sensitivity
        Share of the positive patches that is called at the promised threshold (mean over splits), and at the network's
        own. None where no ground truth is known.
    """

    data: str
    network: str
    share: float
    risk: float
    cases: int
    splits: int
    broken: float
    error: float
    slides_broken: float
    refused: float
    called: float
    sensitivity: float | None = None
    own_sensitivity: float | None = None


def promise(data: PathLike, out: PathLike, *, quick: bool = False) -> Generator[Event, None, Path]:
    """Measure the promise on random halves.

    Parameters
    ----------
    data
        The folder of a `transfer` experiment: what its networks say of slides that they have not learnt from.
    out
        Gets `promise.csv` and `promise.md`.
    quick
        Ten splits in place of 200.

    Returns the path of `promise.md`.
    """
    splits = 10 if quick else SPLITS
    held: list[Held] = []
    sources = [*_of_cells(Path(data)), (DRAWN, "–", drawn_cases(0), np.empty(0), 0.5)]
    for done, (name, network, cases, positive, threshold) in enumerate(sources):
        yield Progress(Task.RUN_EXPERIMENT, done, len(sources))
        for risk in RISKS:
            if len(cases) <= patients_needed(risk):
                continue  # nobody is left to keep the promise to
            for share in SHARES:
                held.append(measure(name, network, cases, positive, threshold, share, risk, splits))
    return _write(held, Path(out))


def _of_cells(folder: Path) -> Generator[tuple[str, str, Cases, np.ndarray, float], None, None]:
    """Yield for each set and network of `transfer`: what it is, negative slides by image, positive patches, threshold.

    Of networks that were trained on several folds or from several seeds, the first is taken.
    """
    taken = set()
    for own in read_cells(folder):
        about = own.about
        where = "held-out fold" if about["train"] == own.set else f"from {SETS[about['train']]}"
        name = f"{SETS[own.set]} ({where}), {KINDS[about['patches']]}"
        if own.network not in NETWORKS or (name, own.network) in taken:
            continue
        taken.add((name, own.network))
        slides = own.evaluation.slides
        cases = {
            slide.slide_id: [(slide.patch_score, slide.score)]
            for slide in slides
            if not slide.is_positive and len(slide.patch_score)
        }
        positive = np.concatenate([np.empty(0), *(slide.patch_score[slide.truth] for slide in slides)])
        yield name, own.network, cases, positive, own.evaluation.threshold


def drawn_cases(seed: int) -> Cases:
    """Draw cases of two slides each. Cases differ by more than slides, slides by more than patches would explain."""
    random = np.random.default_rng(seed)
    cases = {}
    for case in range(DRAWN_CASES):
        level = random.normal(-3, 1.2)
        slides = [
            sigmoid(level + random.normal(0, 0.5) + random.standard_t(4, DRAWN_PATCHES)) for _ in range(DRAWN_SLIDES)
        ]
        cases[str(case)] = [(own.astype(np.float32), float(np.quantile(own, 0.9))) for own in slides]
    return cases


def measure(
    data: str,
    network: str,
    cases: Cases,
    positive: np.ndarray,
    threshold: float,
    share: float,
    risk: float,
    splits: int,
    seed: int = 0,
) -> Held:
    """Promise on random halves of `cases`, and count what the others break; see `Held`."""
    random, names = np.random.default_rng(seed), sorted(cases)
    n = max(patients_needed(risk), len(names) // 2)
    broken, each, slides_broken, called, sensitivity, refused = [], [], [], [], [], 0
    for _ in range(splits):
        order = random.permutation(names)
        try:
            found = make_promise({name: cases[name] for name in order[:n]}, share, risk)
        except SettingsError:  # no threshold up to 1 keeps it
            refused += 1
            continue
        at = len(broken)
        for name in order[n:]:
            shares = [float((patches >= found.threshold).mean()) for patches, _ in cases[name]]
            broken.append(max(shares) > share)
            slides_broken.append(max(score for _, score in cases[name]) >= found.slide_threshold)
            called.append(float(np.mean(shares)))
        each.append(float(np.mean(broken[at:])))
        if len(positive):
            sensitivity.append(float((positive >= found.threshold).mean()))
    return Held(
        data, network, share, risk, len(names), splits,
        float(np.mean(broken)) if broken else 0.0,
        float(np.std(each) / np.sqrt(len(each))) if each else 0.0,
        float(np.mean(slides_broken)) if slides_broken else 0.0,
        refused / splits,
        float(np.mean(called)) if called else 0.0,
        float(np.mean(sensitivity)) if sensitivity else None,
        float((positive >= threshold).mean()) if len(positive) else None,
    )  # fmt: skip


def _write(held: Sequence[Held], out: Path) -> Path:
    import pandas as pd

    frame = pd.DataFrame([asdict(own) for own in held])
    write_text(out / "promise.csv", frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    rows = [
        [
            f"{own.data}", own.network, f"{own.risk:.0%}", str(own.cases), f"{own.broken:.1%} ± {own.error:.1%}",
            f"{own.slides_broken:.1%}", f"{own.refused:.0%}", f"{own.called:.1%}",
            "–" if own.sensitivity is None else short(own.sensitivity),
            "–" if own.own_sensitivity is None else short(own.own_sensitivity),
        ]
        for own in held
        if own.share == SHOWN
    ]  # fmt: skip
    head = (
        "slides", "network", "risk", "negative cases", "broken", "of slides", "refused", "called",
        "sensitivity", "at its own threshold",
    )  # fmt: skip
    text = (
        f"At most {SHOWN:.0%} of a negative slide is called; {held[0].splits} random halves of the negative images (of "
        "drawn slides: of cases of two). ± is the standard error over the halves.\n\n"
    )
    return write_text(out / "promise.md", text + markdown(head, rows))
