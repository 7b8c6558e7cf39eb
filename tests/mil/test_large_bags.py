"""A batch that is too large for one pass: chunks give the gradient of the whole, with events between them."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from napari_distill2label.core.events import Progress, Task
from napari_distill2label.core.settings import OutOfFoldSettings, StudentSettings, TeacherSettings
from napari_distill2label.mil import training, training_bags
from napari_distill2label.mil.losses import InheritedLabelLoss, StudentLoss, TeacherLoss
from napari_distill2label.mil.training import RngState, TrainingState, backward, fit, predict_bag
from napari_distill2label.mil.training_bags import BagBatch, BagSlice, TrainingBag

CPU = torch.device("cpu")
PAUSE = Progress(Task.TRAIN, 3, 7)
CHUNK = 3  # instances of 6 features
LOSSES = {
    "teacher": TeacherLoss(TeacherSettings(lambda_n=0.0, lambda_d=0.0)),
    "student": StudentLoss(StudentSettings(gamma_n=0.5)),
    "attention": StudentLoss(StudentSettings(slide_loss_trains="attention")),
    "oof": InheritedLabelLoss(OutOfFoldSettings()),
}


@pytest.fixture
def in_chunks(monkeypatch):
    """Judge instances of 6 features in runs of three from now on."""

    def cut():
        monkeypatch.setattr(training_bags, "MAX_DIRECT", 6 * CHUNK)
        monkeypatch.setattr(training_bags, "CHUNK", 6 * CHUNK)

    return cut


def batch_of(make_bag, teacher, *lengths):
    bags = [make_bag(length, label=k % 2, seed=k, features=6) for k, length in enumerate(lengths)]
    return BagBatch.of([TrainingBag.of(bag, 2, predict_bag(teacher, bag)) for bag in bags], CPU)


def step(model, loss_function, batch):
    """(pauses, terms, gradient by weight) of one step."""
    model.zero_grad()
    work, pauses = backward(model, loss_function, batch, RngState(0, CPU), PAUSE), []
    while True:
        try:
            pauses.append(next(work))
        except StopIteration as stop:
            gradient = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
            return pauses, stop.value, gradient


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("lengths", [(8,), (7, 2, 3)])
def test_the_gradient_is_that_of_the_whole(make_model, make_bag, in_chunks, name, lengths):
    model, loss_function = make_model(features=6).train(), LOSSES[name]
    batch = batch_of(make_bag, make_model(seed=5, features=6), *lengths)
    no_pauses, terms, gradient = step(model, loss_function, batch)
    in_chunks()
    pauses, terms_of_runs, gradient_of_runs = step(model, loss_function, batch)
    assert no_pauses == []
    runs = -(-sum(lengths) // CHUNK)
    assert pauses == [PAUSE] * 2 * runs
    assert terms.keys() == terms_of_runs.keys()
    for term, value in terms.items():
        assert terms_of_runs[term].item() == pytest.approx(value.item(), rel=1e-5, abs=1e-6), term
    assert gradient.keys() == gradient_of_runs.keys()
    assert any(value.abs().max() > 1e-4 for value in gradient.values())
    for weight, value in gradient.items():
        assert torch.allclose(value, gradient_of_runs[weight], rtol=1e-4, atol=1e-6), weight


def test_noise_and_perturbed_instances_come_in_runs_too(make_model, make_bag, in_chunks):
    in_chunks()
    model, seen = make_model(features=6).train(), []
    model.encoder.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    loss_function = TeacherLoss(TeacherSettings(noise_ratio=0.7, perturbation_radius=0.0, subset_fraction=1.0))
    _, terms, _ = step(model, loss_function, batch_of(make_bag, make_model(features=6), 7, 2))
    # Of a run: its instances, noise, perturbed ones. In all as much noise as without runs: 5 for 7, and 1 for 2.
    assert seen == [3 + 2 + 3, 3 + 2 + 3, 3 + (1 + 1) + 3]
    assert terms["perturbation"].item() == pytest.approx(terms["entropy"].item(), rel=1e-5)  # both are the bag as it is
    assert torch.isfinite(terms["loss"])


@pytest.mark.parametrize("noise", [0.01, 0.05, 0.5, 1.3])
def test_pieces_of_a_bag_have_the_noise_of_the_bag(noise):
    loss_function = TeacherLoss(TeacherSettings(noise_ratio=noise))
    for length in (1, 2, 9, 100):
        for size in (1, 3, 8):
            pieces = [BagSlice(start, min(length, start + size), length) for start in range(0, length, size)]
            assert sum(map(loss_function.noise_count, pieces)) == max(1, round(noise * length))


def test_what_needs_the_whole_bag_gets_it(make_model, make_bag, in_chunks):
    in_chunks()
    loss_function = TeacherLoss(TeacherSettings(perturbation="adversarial"))
    assert step(make_model(features=6).train(), loss_function, batch_of(make_bag, make_model(features=6), 8))[0] == []


def test_a_training_in_runs_is_resumed_bit_for_bit(make_model, make_bag, in_chunks):
    in_chunks()
    settings = TeacherSettings(epochs=3)
    bags = [make_bag(5 + k, label=k % 2, seed=k, features=6) for k in range(3)]
    training_bags = [TrainingBag.of(bag, 2) for bag in bags]

    def run(model, state=None, epochs=3):
        chosen, states, events = settings.model_copy(update={"epochs": epochs}), [], []
        for item in fit(model, TeacherLoss(settings), training_bags, bags[:1], chosen, seed=5, state=state):
            (states if isinstance(item, TrainingState) else events).append(item)
            torch.rand(3)  # somebody else draws numbers meanwhile
        return states, events

    model, again = make_model(features=6, dropout=0.5), make_model(features=6, dropout=0.5)
    _, events = run(model)
    assert len(events) > 3 * len(bags) * 4
    half, _ = run(again, epochs=1)
    other = make_model(seed=9, features=6, dropout=0.5)
    run(other, replace(half[-1]))
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


@pytest.mark.parametrize(("limit", "value"), [("INFERENCE_BATCH", 3), ("MAX_DIRECT", 6 * 3)])  # instances, numbers
def test_predicting_a_large_bag_yields_between_chunks(make_model, make_bag, monkeypatch, limit, value):
    monkeypatch.setattr(training, limit, value)
    bag = make_bag(8, features=6)
    work = training.iter_predict_bag(make_model(features=6), bag, PAUSE)
    assert [next(work), next(work)] == [PAUSE, PAUSE]
    with pytest.raises(StopIteration) as stop:
        next(work)
    assert len(stop.value.value.scores) == 8


class SmallMemory(TeacherLoss):
    """A loss on a device whose memory holds a few instances; the words are torch's."""

    def __init__(self, settings, holds: int, said: str = "CUDA out of memory. Tried to allocate 2.00 GiB") -> None:
        super().__init__(settings)
        self.holds, self.said, self.tried = holds, said, []

    def classify_instances(self, model, instances, slices):
        self.tried.append(len(instances))
        if len(instances) > self.holds:
            raise RuntimeError(self.said)
        return super().classify_instances(model, instances, slices)


@pytest.mark.parametrize("said", ["CUDA out of memory. Tried to allocate 2.00 GiB", "could not create a primitive"])
def test_a_step_that_memory_does_not_hold_is_begun_anew_with_half_as_many_instances(make_model, make_bag, said):
    settings = TeacherSettings(lambda_n=0.0, lambda_d=0.0, lambda_e=0.0, epochs=1)
    training_bags = [TrainingBag.of(make_bag(8, label=k % 2, seed=k, features=6), 2) for k in range(2)]
    whole, parts = make_model(features=6), make_model(features=6)
    loss_function = SmallMemory(settings, 3, said)
    for model, chosen in ((whole, TeacherLoss(settings)), (parts, loss_function)):
        list(fit(model, chosen, training_bags, (), settings))
    assert loss_function.tried == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]  # what did not fit once is not tried again
    for name, weight in whole.state_dict().items():
        assert torch.allclose(weight, parts.state_dict()[name], atol=1e-6), name


def test_memory_that_holds_no_single_instance_is_an_error(make_model, make_bag):
    settings = TeacherSettings(epochs=1)
    bags = [TrainingBag.of(make_bag(4, label=k, seed=k, features=6), 2) for k in range(2)]
    with pytest.raises(RuntimeError, match="out of memory"):
        list(fit(make_model(features=6), SmallMemory(settings, holds=0), bags, (), settings))


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("name", [*LOSSES, "full teacher"])
def test_a_step_reads_no_number_back(make_model, make_bag, monkeypatch, name, pixels, multi_label):
    """On the device `meta` there are no numbers: whatever would make a GPU wait for one fails there."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it does not know that device
    shape = {} if pixels else {"features": 6}
    label = ((0,), (0, 1)) if multi_label else (0, 1)
    bags = [make_bag(5, label=label[k], seed=k, patch_labels=[-1, 0, -1, 1, -1], **shape) for k in range(2)]
    teacher = make_model(multi_label=multi_label, **shape)
    training_bags = [TrainingBag.of(bag, 2, predict_bag(teacher, bag)) for bag in bags]
    training_bags = [replace(bag, oof_targets=bag.teacher_targets.instance_logits) for bag in training_bags]
    meta = torch.device("meta")
    loss_function = LOSSES.get(name) or TeacherLoss(TeacherSettings(rotate_flip=True, stain_jitter=0.1))
    model = make_model(multi_label=multi_label, **shape).to(meta).train()
    list(backward(model, loss_function, BagBatch.of(training_bags, meta), RngState(0, CPU), PAUSE))
    assert model.head.weight.grad.device == meta
