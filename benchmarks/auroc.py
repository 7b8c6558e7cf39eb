"""Does what is faster learn the same? Plain MIL and the textbook's on the colon nuclei: AUROC of the test split."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from napari_distill2label.core.bag import Bag
from napari_distill2label.core.events import drain
from napari_distill2label.core.inputs import Inputs
from napari_distill2label.core.metrics import binary_metrics
from napari_distill2label.core.presets import build_settings
from napari_distill2label.mil.training import predict_bag
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.splits import with_splits
from napari_distill2label.store.tables.points import read_points
from napari_distill2label.workflow.commands.prepare_dataset import COLON_POSITIVE, prepare_dataset
from napari_distill2label.workflow.slide_reader import SlideReader

from .epochs import first_model, our_epochs, plain_settings
from .textbook import Textbook

Scores = list[tuple[float, np.ndarray]]  # of every bag: its own, and those of its instances (K,)


def _read(data: Path, seed: int) -> tuple[list[Bag], list[Bag], list[np.ndarray]]:
    """Training bags, test bags, and which patches of the latter are positive."""
    with tempfile.TemporaryDirectory() as folder:
        table = drain(prepare_dataset("colon", data, folder))
        settings = build_settings("colon", "paper")
        cohort = with_splits(Cohort.read(table).with_classes(), settings.split, seed)
        reader = SlideReader(settings.patches, Inputs(centres=Path(folder) / "centres.csv"))
        bags = {
            split: list(drain(reader.read_all(cohort.in_split(split), cohort)).values()) for split in ("train", "test")
        }
        points = read_points(Path(folder) / "truth.csv", labelled=True)
    return bags["train"], bags["test"], [points[bag.slide_id].labels == COLON_POSITIVE for bag in bags["test"]]


def _line(name: str, test: list[Bag], truth: list[np.ndarray], scores: Scores) -> str:
    instance = binary_metrics(np.concatenate(truth), np.concatenate([single for _, single in scores]))
    bag = binary_metrics([bag.label != (0,) for bag in test], [whole for whole, _ in scores])
    return f"{name}: AUROC of instances {instance['auroc']:.3f}, of bags {bag['auroc']:.3f}"


def compare(data: Path, epochs: int, seeds: int) -> Iterator[str]:
    """Yield a line for each of both and each seed, which also deals the images to the splits."""
    for seed in range(seeds):
        train, test, truth = _read(data, seed)
        model, settings = first_model(train, seed), plain_settings(epochs=epochs, keep_epoch="last")
        textbook = Textbook(model, settings)  # before ours changes the weights
        epoch = our_epochs(train, model, settings, seed)
        for _ in range(epochs):
            epoch()
        answers = [predict_bag(model, bag) for bag in test]
        ours = [(a.bag_logits.softmax(0)[1].item(), a.instance_logits.softmax(1)[:, 1].numpy()) for a in answers]
        yield _line(f"seed {seed}, {epochs} epochs, ours", test, truth, ours)
        torch.manual_seed(seed)
        for _ in range(epochs):
            textbook.epoch(train)
        yield _line(f"seed {seed}, {epochs} epochs, textbook", test, truth, [textbook.probabilities(b) for b in test])
