"""What the card of a model says to the person who finds it."""

import pytest

from napari_distill2label.core.settings import ArchitectureSettings, PatchSettings, StudentSettings
from napari_distill2label.store.bundle_card import bundle_card
from napari_distill2label.store.bundle_config import BundleConfig


def card_of(metrics=None, **changes):
    about = {
        "network": "student",
        "classes": ("normal", "tumour"),
        "architecture": ArchitectureSettings(encoder="colon"),
        "patches": PatchSettings(size_px=12),
        "training": StudentSettings(epochs=3),
        "instance_shape": (3, 12, 12),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.3, 0.3, 0.3),
        "mpp": 0.5,
        "weights_sha256": "0" * 64,
    }
    return bundle_card(BundleConfig(**about | changes).model_dump(), metrics or {})


def test_it_says_for_research_use_only_and_what_it_is_of():
    card = card_of({"auroc": 0.9, "accuracy": None, "n": 2}, n_train=10, n_valid=2, epoch=2)
    assert "For research use only" in card
    assert "normal, tumour (normal is the negative one)" in card
    assert "12 px at 0.5 µm/px" in card
    assert "| auroc | 0.900 |" in card
    assert "| Trained on | 10 slides; epoch 2, 2 slides to choose it |" in card
    assert "no patch label was used in training" in card


@pytest.mark.parametrize(
    ("calibrate", "classes", "words"),
    [
        (False, ("normal", "tumour"), "not calibrated"),
        (True, ("normal", "tumour"), "calibrated by the labels of the training slides"),
        (True, ("normal", "tumour", "stroma"), "not calibrated"),  # of which a slide has one
    ],
)
def test_it_says_whether_probabilities_are_calibrated(calibrate, classes, words):
    card = card_of(training=StudentSettings(epochs=3, calibrate=calibrate), classes=classes)
    assert f"| Probabilities of patches | {words}" in card


def test_it_says_where_numbers_rest_on_a_user():
    card = card_of(n_mpp_from_user=2, n_corrections=5, n_regions=3, n_shares=1, restarts=2, is_at_chance=True)
    assert "(assumed for 2 slides: a user gave it, not their file)" in card
    assert "| Patches corrected by a user | 5 |" in card
    assert "| Regions labelled by a user | 3 |" in card
    assert "| Shares estimated by a user | of 1 slide |" in card
    assert "| Restarted | 2 times, stuck at chance before |" in card
    assert "no better than chance" in card
