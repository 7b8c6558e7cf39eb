"""Figure 2 of the paper: attention MIL with and without VAT on bags of MNIST digits, by the number of training bags."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_distill2label.core.bag import Bag
from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import Event, Progress, Task
from napari_distill2label.core.metrics import binary_metrics, positive_score
from napari_distill2label.core.presets import build_settings
from napari_distill2label.core.settings import ArchitectureSettings, TeacherSettings
from napari_distill2label.mil.losses import TeacherLoss
from napari_distill2label.mil.model import MILModel
from napari_distill2label.mil.training import RngState, TrainingState, fit
from napari_distill2label.mil.training_bags import TrainingBag
from napari_distill2label.store.files.atomic import write_text

from .figures import COLOURS, new_figure, save
from .mnist_data import Digits, draw_bags, find_digits, read_digits
from .results import Key, Results, Row, rows_of
from .runner import Trial, run_trials
from .tables import markdown, mean_interval, short, spread
from .times import run_time

if TYPE_CHECKING:
    import pandas as pd

NAME = "mnist"
# LeNet-5 as Ilse 2018, Table 7: no dropout.
NETWORK = ArchitectureSettings(encoder="lenet5", hidden_dim=500, dropout=0.0)
# The paper gives RMSprop; learning rate and weight decay are those of Ilse's code for MNIST bags. It gives no λ for
# MNIST: those of its colon set. float32 means the same on every processor.
TRAINING = {
    "optimiser": "rmsprop",
    "learning_rate": 5e-4,
    "weight_decay": 1e-4,
    "keep_epoch": "last",
    "precision": "float32",
}
SINGLE_TERMS = {"vat_noise": "lambda_n", "vat_ball": "lambda_d", "vat_entropy": "lambda_e"}
LABELS = {"mil": "MIL", "vat": "MIL with VAT", "vat_noise": "noise", "vat_ball": "norm ball", "vat_entropy": "entropy"}
TEST_SEED = 1_000_003  # of the test bags: theirs alone, whatever seeds the runs have
BAGS_AT_ONCE = 50  # in evaluation
FEW = 100  # bags up to which an experiment has all its seeds and epochs; half of both above


@dataclass(frozen=True)
class Protocol:
    """What is trained: every `mean_sizes` (K) × `bag_counts` (N); single terms at K = `term_size`, N in `term_counts`.

    `epochs` and `seeds` hold for N ≤ 100 and are halved above. 16 epochs bring the training loss of 50 bags to zero;
    they were set by that and on held-out *training* digits. The test bags select nothing.
    """

    mean_sizes: tuple[int, ...] = (10, 20)
    bag_counts: tuple[int, ...] = (50, 75, 100, 200, 500)
    term_size: int = 10
    term_counts: tuple[int, ...] = (50, 100)
    test_bags: int = 1000
    epochs: int = 16
    seeds: int = 10

    def models(self, mean_size: int, count: int) -> tuple[str, ...]:
        """Names of the models trained on `count` bags of about `mean_size` instances."""
        terms = mean_size == self.term_size and count in self.term_counts
        return ("mil", "vat", *SINGLE_TERMS) if terms else ("mil", "vat")

    def epochs_for(self, count: int) -> int:
        return self.epochs if count <= FEW else max(1, self.epochs // 2)


PAPER = Protocol()
QUICK = Protocol((10,), (50,), 10, (50,), test_bags=200, epochs=8, seeds=2)


def mnist(
    data: Path | str,
    out: Path | str,
    *,
    seeds: int | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    quick: bool = False,
) -> Generator[Event, None, Path]:
    """Train with and without VAT on 50 to 500 bags of digits; bag AUROC on 1000 bags of the test digits.

    Parameters
    ----------
    data
        The folder that holds the four MNIST files, or a parent of it. `CohortError` if one is missing or damaged.
    out
        Gets `results.csv`, `times.csv`, `figure2.png` and `mnist.md`. A folder with results of the same experiment
        is gone on with.
    seeds
        Runs per K and N up to 100 bags, half as many above. A seed decides the bags, the first weights and the
        perturbations, so the models of one seed are pairs. None: 10 (quick: 2).
    workers, scheduler
        As `run_trials`.
    quick
        K = 10, N = 50, 8 epochs and 200 test bags: does it run? Its numbers say little.

    Returns the path of `mnist.md`.
    """
    protocol, out = QUICK if quick else PAPER, Path(out)
    yield Progress(Task.PREPARE_DATASET, 0, 1)
    folder = find_digits(Path(data)).absolute()
    for part in ("train", "test"):
        _digits(folder, part)  # a file that cannot be used is said once, now, not by every trial
    yield Progress(Task.PREPARE_DATASET, 1, 1)
    results = Results(out, _about(protocol))
    trials = _tasks(folder, protocol, protocol.seeds if seeds is None else seeds)
    yield from run_trials(trials, results, workers, scheduler)
    if not results.rows:
        raise SettingsError(f"{data}: no training could be done, for the reasons given: there is nothing to show")
    auroc = bag_auroc(results.frame())
    draw_figure(auroc, protocol, out / "figure2.png")
    return write_text(out / "mnist.md", "\n".join(filter(None, (report(auroc, protocol), run_time(out)))))


def teacher_settings(model: str, epochs: int) -> TeacherSettings:
    """Settings of `mil` (only λc), `vat` (all terms) or one of `SINGLE_TERMS` (λc and that term's λ)."""
    settings = build_settings("colon", "paper", {"teacher": {**TRAINING, "epochs": epochs}}).teacher
    keeps = set(SINGLE_TERMS.values()) if model == "vat" else {SINGLE_TERMS.get(model)}
    return settings.model_copy(update={name: 0.0 for name in SINGLE_TERMS.values() if name not in keeps})


def _about(protocol: Protocol) -> dict[str, object]:
    """What results must share to stand in one file. Seeds are not in it: more of them may be asked for later."""
    asked = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(protocol).items()}
    del asked["seeds"]
    settings = teacher_settings("vat", protocol.epochs).model_dump(mode="json")
    return {"experiment": NAME, **asked, "network": NETWORK.model_dump(mode="json"), "vat": settings}


def _tasks(folder: Path, protocol: Protocol, seeds: int) -> list[Trial]:
    """One trial per K, N and seed, the longest first, so that no worker is left with one at the end."""
    trials = []
    for count, mean_size in sorted(((n, k) for n in protocol.bag_counts for k in protocol.mean_sizes), reverse=True):
        models = protocol.models(mean_size, count)
        for seed in range(seeds if count <= FEW else max(1, seeds // 2)):
            keys = tuple(Key(NAME, model, _patches(mean_size, count), 0, seed) for model in models)
            work = partial(_run, folder, protocol, mean_size, count, keys)
            trials.append(Trial(f"K = {mean_size}, N = {count}, seed {seed}", keys, work))
    return trials


def _patches(mean_size: int, count: int) -> str:
    """The column `patches` of results.csv: which bags."""
    return f"K{mean_size}-N{count}"


@lru_cache(maxsize=2)
def _digits(folder: Path, part: str) -> Digits:
    return read_digits(folder, part)


@lru_cache(maxsize=2)
def _test_bags(folder: Path, mean_size: int, count: int) -> list[Bag]:
    return draw_bags(_digits(folder, "test"), count, mean_size, (TEST_SEED, mean_size))


def _run(
    folder: Path, protocol: Protocol, mean_size: int, count: int, keys: Sequence[Key]
) -> Generator[Event, None, list[Row]]:
    """Train the models of `keys`, which share a seed, on the same bags from the same weights; their bag metrics."""
    seed = keys[0].seed
    bags = draw_bags(_digits(folder, "train"), count, mean_size, (seed, mean_size, count))
    test = _test_bags(folder, mean_size, protocol.test_bags)
    truth = np.array([bag.label != (0,) for bag in test])
    rows = []
    for key in keys:
        settings = teacher_settings(key.model, protocol.epochs_for(count))
        model = yield from train_model(bags, settings, seed, f"{key.model}, {key.patches}, seed {seed}")
        score = yield from bag_scores(model, test)
        rows += rows_of(key, "slide", binary_metrics(truth, score))
    return rows


def train_model(
    bags: Sequence[Bag], settings: TeacherSettings, seed: int, network: str
) -> Generator[Event, None, MILModel]:
    """A network with first weights from `seed`, trained on `bags` for a fixed number of epochs."""
    # On the CPU: steps of ten small digits are shorter than what it takes to start them on a GPU.
    with RngState(seed, torch.device("cpu")).active():
        model = MILModel(NETWORK, 2, bags[0].instances.shape[1:])
    model.fit_normalisation(bags)
    training_bags = [TrainingBag.of(bag, 2) for bag in bags]
    for item in fit(model, TeacherLoss(settings), training_bags, (), settings, seed, network=network):
        if not isinstance(item, TrainingState):
            yield item
    return model


def bag_scores(model: MILModel, bags: Sequence[Bag]) -> Generator[Event, None, np.ndarray]:
    """(n,) probability that a bag is positive; many bags at once."""
    model.eval()
    logits = []
    for start in range(0, len(bags), BAGS_AT_ONCE):
        some = bags[start : start + BAGS_AT_ONCE]
        instances = torch.from_numpy(np.concatenate([bag.instances for bag in some]))
        with torch.no_grad():
            logits.append(model(instances, [len(bag) for bag in some]).bag_logits)
        yield Progress(Task.PREDICT_BAGS, start + len(some), len(bags))
    return positive_score(model.probabilities(torch.cat(logits)).numpy())


def bag_auroc(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Tidy results -> bag AUROC with a row per (patches, seed) and a column per model."""
    chosen = frame[(frame.level == "slide") & (frame.metric == "auroc")]
    return chosen.pivot(index=["patches", "seed"], columns="model", values="value")


def _values(auroc: "pd.DataFrame", patches: str, models: Sequence[str]) -> "pd.DataFrame":
    """The seeds of one kind of bags for which all `models` are there; no rows where there are none."""
    here = auroc[auroc.index.get_level_values("patches") == patches]
    return here.reindex(columns=list(models)).dropna()


def draw_figure(auroc: "pd.DataFrame", protocol: Protocol, path: Path) -> Path:
    """The paper's Figure 2: bag AUROC against the number of training bags, one panel per K, mean and 95 % interval."""
    figure, axes = new_figure(columns=len(protocol.mean_sizes))
    for axis, mean_size in zip(axes, protocol.mean_sizes, strict=True):
        if axis is not axes[0]:
            axis.sharey(axes[0])
        for model, colour, shift in (("mil", COLOURS[1], 0.985), ("vat", COLOURS[0], 1.015)):  # side by side
            of_count = {n: _values(auroc, _patches(mean_size, n), ("mil", "vat"))[model] for n in protocol.bag_counts}
            points = [(n * shift, *mean_interval(values)) for n, values in of_count.items() if len(values)]
            if points:
                axis.errorbar(*zip(*points, strict=True), color=colour, marker="o", capsize=3, label=LABELS[model])
        axis.set_xscale("log")
        axis.set_xticks(protocol.bag_counts, [str(n) for n in protocol.bag_counts])
        axis.minorticks_off()
        axis.set_title(f"{mean_size} instances per bag on average")
        axis.set_xlabel("training bags N")
        axis.set_ylabel(f"AUROC of {protocol.test_bags} test bags")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="lower right", frameon=False)
    return save(figure, path)


def report(auroc: "pd.DataFrame", protocol: Protocol) -> str:
    """`mnist.md`: with and without VAT for every K and N, then every term alone."""
    epochs = sorted({protocol.epochs_for(n) for n in protocol.bag_counts}, reverse=True)
    few_many = f"{epochs[0]} epochs" + (f" ({epochs[1]} above {FEW} bags)" if len(epochs) > 1 else "")
    comparisons = [
        [str(k), str(n), *_compared(auroc, _patches(k, n), "vat")]
        for k in protocol.mean_sizes
        for n in protocol.bag_counts
    ]
    alone = [
        [
            str(n),
            "all three" if term == "vat" else LABELS[term],
            *_compared(auroc, _patches(protocol.term_size, n), term),
        ]
        for n in protocol.term_counts
        for term in ("vat", *SINGLE_TERMS)
    ]
    return "\n".join(
        [
            f"AUROC of {protocol.test_bags} bags of test digits, the same for every run: mean ± standard deviation "
            "over seeds, and the mean difference of the two models of a seed (same training bags, same first weights) "
            f"with its 95 % t interval. {_described(teacher_settings('vat', 1))}, {few_many}, the last one taken.\n",
            markdown(("K", "N", LABELS["mil"], LABELS["vat"], "difference", "seeds"), comparisons),
            f"Each term of VAT alone, K = {protocol.term_size}:\n",
            markdown(("N", "term", LABELS["mil"], "with the term", "difference", "seeds"), alone),
        ]
    )


def _described(settings: TeacherSettings) -> str:
    """The settings a reader needs to repeat it."""
    lambdas: Mapping[str, float] = {
        "λc": settings.lambda_c,
        "λn": settings.lambda_n,
        "λδ": settings.lambda_d,
        "λe": settings.lambda_e,
    }
    weights = ", ".join(f"{name} = {value:g}" for name, value in lambdas.items())
    return (
        f"LeNet-5, RMSprop with learning rate {settings.learning_rate:g} and weight decay {settings.weight_decay:g}, "
        f"one bag per step, {weights}, noise instances {settings.noise_ratio:g} · K, "
        f"δ = {settings.perturbation_radius:g}, "
        f"subsets of {settings.subset_fraction:g} · K"
    )


def _compared(auroc: "pd.DataFrame", patches: str, model: str) -> list[str]:
    """Cells: AUROC without and with, their difference over paired seeds, the number of seeds."""
    values = _values(auroc, patches, ("mil", model))
    if not len(values):
        return ["–", "–", "–", "0"]
    mean, half = mean_interval(values[model] - values["mil"])
    interval = "" if np.isnan(half) else f" [{short(mean - half)}, {short(mean + half)}]"
    return [spread(values["mil"]), spread(values[model]), f"{short(mean)}{interval}", str(len(values))]
