"""The training loop: repeatable, resumable to the bit, and it learns."""

import math

import pytest
import torch

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import Progress, Task, drain
from napari_distill2label.core.notices import Notice
from napari_distill2label.core.settings import StudentSettings, TeacherSettings
from napari_distill2label.mil import training
from napari_distill2label.mil.chance import MAX_RESTARTS
from napari_distill2label.mil.losses import StudentLoss, TeacherLoss
from napari_distill2label.mil.training import (
    RngState,
    TrainingState,
    bag_loss_and_score,
    compute_teacher_targets,
    fit,
    predict_bag,
)
from napari_distill2label.mil.training_bags import TrainingBag
from napari_distill2label.store.checkpoint import load_checkpoint, save_checkpoint

VALIDATING = Progress(Task.VALIDATE)
QUICK = {"epochs": 4, "learning_rate": 3e-3}


@pytest.fixture
def bags(make_bag):
    return [make_bag(3 + k, label=k % 2, seed=k) for k in range(5)]


@pytest.fixture
def start(make_model, bags):
    """Begin (or resume) a training: `start(kind, precision, state, **settings)` -> (generator, model)."""

    def begin(kind="teacher", precision="float32", state=None, valid=True, train=None, weights=0, **settings):
        model = make_model(seed=weights, dropout=0.5)
        model.dtype = getattr(torch, precision)
        if kind == "teacher":
            chosen = TeacherSettings(**QUICK | settings)
            loss_function = TeacherLoss(chosen)
            training_bags = [TrainingBag.of(bag, 2) for bag in train or bags]
        else:
            chosen = StudentSettings(**QUICK | settings)
            loss_function = StudentLoss(chosen)
            teacher = make_model(seed=11)
            training_bags = [TrainingBag.of(bag, 2, predict_bag(teacher, bag)) for bag in train or bags]
        return fit(model, loss_function, training_bags, bags[:2] if valid else [], chosen, seed=5, state=state), model

    return begin


def loss_of(model, bag):
    return bag_loss_and_score(model, bag, predict_bag(model, bag).bag_logits)[0]


def finish(work):
    """Run a training to its end: (all states it yielded, its result)."""
    states = []
    while True:
        try:
            item = next(work)
        except StopIteration as stop:
            return states, stop.value
        if isinstance(item, TrainingState):
            states.append(item)


def assert_equal_states(one: TrainingState, other: TrainingState):
    assert (one.epoch, one.best_epoch, one.history) == (other.epoch, other.best_epoch, other.history)
    for group in ("weights", "best_weights", "random"):
        mine, others = getattr(one, group), getattr(other, group)
        assert mine.keys() == others.keys()
        assert all(torch.equal(mine[name], others[name]) for name in mine), group
    assert one.optimiser.keys() == other.optimiser.keys()
    for index, slots in one.optimiser.items():
        assert all(torch.equal(value, other.optimiser[index][name]) for name, value in slots.items())


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_seeds_make_runs_repeatable(start, kind):
    first, again = (finish(start(kind)[0])[1] for _ in range(2))
    assert_equal_states(first, again)


@pytest.mark.parametrize(
    ("kind", "precision", "settings"),
    [
        ("teacher", "float32", {}),
        ("teacher", "bfloat16", {}),
        ("student", "float32", {}),
        ("student", "bfloat16", {}),
        ("teacher", "float32", {"optimiser": "rmsprop"}),
        ("teacher", "float32", {"batch_size": 2, "n_subsets": 3, "subset_size": "uniform"}),
        ("teacher", "float32", {"perturbation": "adversarial", "keep_epoch": "last"}),
        ("teacher", "float32", {"max_patches_per_bag": 3}),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(start, tmp_path, kind, precision, settings):
    work, whole_model = start(kind, precision, **settings)
    _, whole = finish(work)

    work, _ = start(kind, precision, **settings)
    epochs = 0
    for item in work:  # closed in the middle of the third epoch
        if isinstance(item, TrainingState):
            save_checkpoint(tmp_path / "checkpoint.safetensors", item)
            epochs += 1
        elif epochs == 2 and item.step == 2 and item.task is not Task.VALIDATE:
            break
    work.close()
    state = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert state.epoch == 2

    work, model = start(kind, precision, state=state, weights=99, **settings)  # other first weights: the state decides
    states, resumed = finish(work)
    assert [item.epoch for item in states] == [3, 4]
    assert_equal_states(resumed, whole)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, whole_model.state_dict()[name]), name


def test_a_state_can_be_resumed_from_twice(start):
    states, _ = finish(start(epochs=2)[0])
    first, second = (finish(start(state=states[-1], weights=3)[0])[1] for _ in range(2))
    assert_equal_states(first, second)
    assert states[-1].epoch == 2


def test_a_finished_state_gives_the_selected_weights_at_once(start):
    _, state = finish(start()[0])
    work, model = start(state=state, weights=99)
    states, result = finish(work)
    assert states == []
    assert result.epoch == 4
    assert all(torch.equal(tensor, state.best_weights[name]) for name, tensor in model.state_dict().items())
    assert not model.training


def test_more_epochs_can_be_asked_for(start):
    _, longer = finish(start(epochs=6)[0])
    _, shorter = finish(start(epochs=4)[0])
    _, continued = finish(start(epochs=6, state=shorter, weights=99)[0])
    assert_equal_states(continued, longer)


def test_random_numbers_of_the_caller_are_untouched(start):
    work, _ = start()
    torch.manual_seed(123)
    expected = torch.rand(6)
    torch.manual_seed(123)
    drawn = [torch.rand(1)]
    for _ in range(5):
        next(work)
        drawn.append(torch.rand(1))
    assert torch.equal(torch.cat(drawn), expected)


def test_what_the_caller_draws_in_between_changes_nothing(start):
    _, alone = finish(start()[0])
    work, _ = start()
    state = None
    for item in work:
        torch.manual_seed(0)
        torch.rand(17)
        state = item if isinstance(item, TrainingState) else state
    assert_equal_states(state, alone)


def test_random_state_of_one_seed_is_that_of_torch():
    state = RngState(42, torch.device("cpu"))
    with state.active():
        drawn = torch.rand(3)
    with state.active():
        drawn = torch.cat([drawn, torch.rand(3)])
    assert torch.equal(drawn, torch.rand(6, generator=torch.Generator().manual_seed(42)))


def test_best_epoch_has_the_lowest_validation_loss(start):
    states, result = finish(start(epochs=5, learning_rate=0.03, keep_epoch="best")[0])
    losses = [row["valid_loss"] for row in result.history]
    assert result.best_epoch == 1 + losses.index(min(losses))
    assert len({*losses}) > 1
    best = states[result.best_epoch - 1].weights
    assert all(torch.equal(tensor, best[name]) for name, tensor in result.best_weights.items())


def test_validation_loss_that_only_rises_keeps_the_first_epoch(start, make_model, make_bag, bags):
    wrong = [make_bag(6, label=0, seed=1), make_bag(6, label=1, seed=2)]
    wrong[0].instances[:2] += 90  # looks positive, and the other way round
    wrong[1].instances[:2] -= 90
    model = make_model()
    settings = TeacherSettings(epochs=8, learning_rate=3e-3, lambda_n=0, lambda_d=0, lambda_e=0)
    work = fit(model, TeacherLoss(settings), [TrainingBag.of(bag, 2) for bag in bags], wrong, settings, seed=1)
    _, result = finish(work)
    losses = [row["valid_loss"] for row in result.history]
    assert losses[-1] > losses[0]
    assert result.best_epoch == 1 + losses.index(min(losses)) < 8
    assert sum(loss_of(model, bag) for bag in wrong) / 2 == pytest.approx(min(losses))
    assert not model.training


def test_last_epoch_can_be_selected_instead(start):
    work, model = start(keep_epoch="last", learning_rate=0.03)
    states, result = finish(work)
    assert result.best_epoch == 4
    assert [state.best_epoch for state in states] == [1, 2, 3, 4]
    assert all(torch.equal(tensor, result.weights[name]) for name, tensor in model.state_dict().items())


def test_without_validation_bags_the_last_epoch_is_taken(start):
    _, result = finish(start(valid=False)[0])
    assert [row["valid_loss"] for row in result.history] == [None] * 4
    assert result.best_epoch == 4


@pytest.mark.parametrize("optimiser", ["adam", "rmsprop"])
def test_training_learns(make_model, bags, optimiser):
    model = make_model()
    settings = TeacherSettings(
        epochs=40, learning_rate=3e-3, optimiser=optimiser, lambda_n=0, lambda_d=0, lambda_e=0, weight_decay=0
    )
    _, result = finish(fit(model, TeacherLoss(settings), [TrainingBag.of(bag, 2) for bag in bags], bags, settings))
    assert result.history[-1]["loss"] < 0.5 * result.history[0]["loss"]
    assert all(predict_bag(model, bag).bag_logits.argmax() == bag.label[0] for bag in bags)


def test_small_bags_are_trained_on_one_thread(start):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        work, _ = start()
        assert {torch.get_num_threads() for _ in work} == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 5), (2, 3), (8, 1)])
def test_progress_and_history(start, batch_size, steps):
    work, _ = start(batch_size=batch_size, epochs=2)
    items = list(work)
    progress = [item for item in items if isinstance(item, Progress) and item.task is not Task.VALIDATE]
    assert [(item.step, item.total) for item in progress] == [(step + 1, steps) for step in range(steps)] * 2
    assert {(item.task, item.item, item.epoch, item.epochs) for item in progress} == {
        (Task.TRAIN, "teacher", 1, 2), (Task.TRAIN, "teacher", 2, 2),
    }  # fmt: skip
    validation = [item for item in items if isinstance(item, Progress) and item.task is Task.VALIDATE]
    assert [(item.step, item.total) for item in validation] == [(1, 2), (2, 2)] * 2
    row = items[-1].history[-1]
    terms = {"loss", "loss_class", "loss_noise", "loss_perturbation", "loss_entropy"}
    assert set(row) == {"epoch", "valid_loss", "valid_auroc"} | terms
    weighed = 1.0 * row["loss_class"] + 0.5 * row["loss_noise"] + 0.3 * (row["loss_perturbation"] + row["loss_entropy"])
    assert row["loss"] == pytest.approx(weighed, rel=1e-5)


def test_a_batch_of_all_bags_takes_the_mean_gradient(make_model, bags):
    """One step on five bags is one step on the mean of their losses, whatever their order."""
    settings = TeacherSettings(epochs=1, batch_size=5, optimiser="rmsprop", lambda_n=0, lambda_d=0, lambda_e=0)
    model, by_hand = make_model(), make_model()
    training_bags = [TrainingBag.of(bag, 2) for bag in bags]
    finish(fit(model, TeacherLoss(settings), training_bags, [], settings))
    optimiser = training.make_optimiser(by_hand, settings)
    torch.stack(
        [
            torch.nn.functional.cross_entropy(by_hand(training_bag.instances).bag_logits, training_bag.target[None])
            for training_bag in training_bags
        ]
    ).mean().backward()
    optimiser.step()
    for name, tensor in by_hand.state_dict().items():
        assert torch.allclose(tensor, model.state_dict()[name], atol=1e-5), name


def test_a_loss_that_is_no_number_ends_in_one_plain_line(make_model, make_bag):
    model = make_model(features=6)
    bag = make_bag(3, features=6)
    bag.instances[:] = float("inf")
    settings = TeacherSettings(epochs=2)
    work = fit(model, TeacherLoss(settings), [TrainingBag.of(bag, 2)], [], settings)
    with pytest.raises(SettingsError, match=r"loss of epoch 1 is (nan|inf).*learning_rate"):
        list(work)


def test_large_bags_are_predicted_in_chunks(make_model, make_bag, monkeypatch):
    model, bag = make_model(dropout=0.5), make_bag(11)
    whole = predict_bag(model, bag)
    monkeypatch.setattr(training, "INFERENCE_BATCH", 4)
    chunks = predict_bag(model, bag)
    assert torch.allclose(whole.bag_logits, chunks.bag_logits, atol=1e-5)
    assert torch.allclose(whole.instance_logits, chunks.instance_logits, atol=1e-5)
    direct = model.eval()(torch.from_numpy(bag.instances))
    assert torch.allclose(direct.bag_logits[0], whole.bag_logits, atol=1e-5)


def test_validation_auroc_is_that_of_the_bag_scores(start, make_model, make_bag, bags, monkeypatch):
    model = make_model()
    valid = [make_bag(4, label=k % 2, seed=40 + k) for k in range(6)]
    score = [float(predict_bag(model, bag).bag_logits.softmax(0)[1]) for bag in valid]
    pairs = [one > other for one in score[1::2] for other in score[::2]]  # positive above negative
    assert finish(training.validate(model, valid, VALIDATING))[1][1] == pytest.approx(sum(pairs) / len(pairs))
    assert finish(training.validate(model, valid[::2], VALIDATING))[1][1] is None
    assert finish(training.validate(model, [], VALIDATING))[1] == (None, None)


def test_bag_loss_by_hand(make_model, make_bag):
    model, bag = make_model(multi_label=True, n_classes=3), make_bag(4, label=(0, 2))
    p = predict_bag(model, bag).bag_logits.sigmoid().tolist()
    expected = -(math.log(p[0]) + math.log(1 - p[1]) + math.log(p[2])) / 3
    assert loss_of(model, bag) == pytest.approx(expected, abs=1e-6)


def test_every_bag_gets_the_teachers_targets_once(make_model, bags):
    teacher = make_model(dropout=0.5)
    calls = []
    teacher.encoder.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    work = compute_teacher_targets(teacher, bags)
    events = []
    while True:
        try:
            events.append(next(work))
        except StopIteration as stop:
            targets = stop.value
            break
    assert [(event.step, event.total) for event in events] == [(k, 5) for k in range(1, 6)]
    assert calls == [len(bag) for bag in bags]
    for bag, own in zip(bags, targets, strict=True):
        assert torch.equal(own.instance_logits, predict_bag(teacher, bag).instance_logits)


def test_checkpointed_training_on_cuda_nears_that_on_the_cpu(cuda_device, make_model, bags, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    settings = TeacherSettings(**QUICK, lambda_n=0, lambda_d=0, lambda_e=0)
    histories = []
    for device in ("cpu", cuda_device):
        model = make_model().to(device)
        training_bags = [TrainingBag.of(bag, 2) for bag in bags]
        states, result = finish(fit(model, TeacherLoss(settings), training_bags, bags[:2], settings))
        save_checkpoint(tmp_path / "checkpoint.safetensors", states[1])
        again = make_model(seed=9).to(device)
        state = load_checkpoint(tmp_path / "checkpoint.safetensors")
        _, resumed = finish(fit(again, TeacherLoss(settings), training_bags, bags[:2], settings, state=state))
        assert resumed.history[-1]["loss"] == pytest.approx(result.history[-1]["loss"], rel=1e-3)
        histories.append([row["loss"] for row in result.history])
    assert histories[0] == pytest.approx(histories[1], rel=1e-3)


def test_targets_of_a_rotating_student_are_the_mean_over_all_orientations(make_model, bags):
    teacher = make_model()
    targets = drain(compute_teacher_targets(teacher, bags, True))
    answers = [predict_bag(teacher, bags[1], turn).instance_logits for turn in range(8)]
    assert not torch.equal(answers[0], answers[1])
    assert torch.allclose(targets[1].instance_logits, torch.stack(answers).mean(0))


def test_turns_change_what_is_learnt_and_resume_bit_for_bit(start):
    states, end = finish(start("student", rotate_flip=True, epochs=3)[0])
    _, again = finish(start("student", rotate_flip=True, epochs=3, state=states[0])[0])
    assert_equal_states(end, again)
    _, straight = finish(start("student", rotate_flip=False, epochs=3)[0])
    assert straight.history[-1]["loss"] != end.history[-1]["loss"]


# ---- a teacher that is stuck at chance -----------------------------------------------------------------------------


def attempts(work):
    """The notices and states of a training."""
    found = list(work)
    return [str(item) for item in found if isinstance(item, Notice)], [
        item for item in found if isinstance(item, TrainingState)
    ]


def test_a_teacher_that_is_stuck_starts_again_with_other_weights_and_smaller_steps(start):
    work, model = start(epochs=8, learning_rate=1e-8, valid=False)
    notices, states = attempts(work)
    assert len(notices) == MAX_RESTARTS
    assert "learning rate of 5e-09" in notices[0]
    assert "learning rate of 2.5e-09" in notices[1]
    assert [state.epoch for state in states] == [*range(1, 6), *range(1, 6), *range(1, 9)]
    assert [state.restarts for state in states] == [0] * 5 + [1] * 5 + [2] * 8
    first, second = states[0].weights, states[5].weights
    assert not torch.allclose(first["head.weight"], second["head.weight"])
    assert torch.equal(first["mean"], second["mean"])
    assert torch.equal(model.state_dict()["head.weight"], states[-1].weights["head.weight"])


def test_one_that_learns_is_left_alone(start, make_bag):
    train = [make_bag(6, label=k % 2, seed=k) for k in range(6)]
    for bag in train:
        bag.instances[:] = 40 + 160 * (bag.label == (1,))
    notices, states = attempts(start(epochs=8, train=train, valid=False)[0])
    assert not notices
    assert states[-1].history[-1]["loss_class"] < 0.5


def test_a_restart_that_was_stopped_goes_on_as_if_it_had_not_been(start, tmp_path):
    _, whole = attempts(start(epochs=6, learning_rate=1e-8, valid=False)[0])
    for at in (4, 6):  # the state at which it was found stuck, and one of the next attempt
        kept = tmp_path / f"{at}.safetensors"
        save_checkpoint(kept, whole[at])
        _, rest = attempts(start(epochs=6, learning_rate=1e-8, valid=False, state=load_checkpoint(kept))[0])
        assert len(rest) == len(whole) - at - 1
        assert_equal_states(rest[-1], whole[-1])
        assert rest[-1].restarts == 2


def test_a_student_is_never_stuck(start):
    notices, states = attempts(start("student", epochs=7, learning_rate=1e-8, valid=False)[0])
    assert not notices
    assert len(states) == 7
