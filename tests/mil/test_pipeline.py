"""Which networks are trained, in which order, and what each has seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_distill2label.core.bag import Region
from napari_distill2label.core.events import drain
from napari_distill2label.core.notices import Notice
from napari_distill2label.core.presets import build_settings
from napari_distill2label.mil.losses import InheritedLabelLoss
from napari_distill2label.mil.pipeline import (
    Stage,
    TrainingPipeline,
    assign_folds,
    blend_scores,
    calibrate_head,
    class_scores,
    patch_posteriors,
    with_user_knowledge,
)
from napari_distill2label.mil.training import fit, predict_bag
from napari_distill2label.mil.training_bags import TrainingBag

CPU = torch.device("cpu")
QUICK = {
    "architecture": {"hidden_dim": 8, "attention_dim": 4},
    "teacher": {"epochs": 1},
    "student": {"epochs": 1, "precision": "float32"},
}


@pytest.fixture
def bags(make_bag):
    return [make_bag(3 + index, label=index % 2, seed=index) for index in range(8)]


def settings(parts=3, **student):
    student = {**QUICK["student"], **student}
    oof = {"epochs": 1, "folds": parts}
    return build_settings("colon", "paper", {**QUICK, "oof": oof, "student": student})


def run(pipeline, baseline=False):
    """Train every stage; returns (stages, notices)."""
    stages, notices = [], []
    for item in pipeline.stages(baseline):
        if isinstance(item, Stage):
            drain(fit(item.model, item.loss_function, item.training_bags, (), item.settings, item.seed))
            stages.append(item)
        elif isinstance(item, Notice):
            notices.append(str(item))
    return stages, notices


def seen(stage):
    return {training_bag.instances.data_ptr() for training_bag in stage.training_bags}


@pytest.mark.slow
def test_the_papers_three_networks(bags):
    stages, notices = run(TrainingPipeline(bags, (), 2, settings(), CPU), baseline=True)
    assert [stage.network for stage in stages] == ["baseline", "teacher", "student"]
    assert not notices
    teacher, student = stages[1:]
    for training_bag, bag in zip(student.training_bags, bags, strict=True):
        assert torch.equal(
            training_bag.teacher_targets.instance_logits, predict_bag(teacher.model, bag).instance_logits
        )


def test_thinning_large_bags_of_pixels_is_said_once_for_each_network(bags):
    own = settings(
        parts=2, gamma_oof=0.5, max_patches_per_bag=5, pseudo_bag_size=4
    )  # the student's bags are split into pseudo-bags
    own = own.model_copy(update={"teacher": own.teacher.model_copy(update={"max_patches_per_bag": 8, "epochs": 2})})
    stages, notices = run(TrainingPipeline(bags, (), 2, own, CPU))
    (line,) = [notice for notice in notices if "more than 8 patches" in notice]
    assert line.startswith("2 of 8 training slides have more than 8 patches")
    assert len(stages[0].training_bags[7].instances) == 10  # nothing is thrown away


def test_every_network_has_the_same_normalisation(bags):
    stages, _ = run(TrainingPipeline(bags, (), 2, settings(), CPU))
    assert torch.equal(stages[0].model.mean, stages[1].model.mean)
    assert torch.equal(stages[0].model.std, stages[1].model.std)
    assert stages[1].model.mean.min() > 0.1


def test_the_baseline_is_a_teacher_without_its_terms_from_the_same_weights(bags):
    stages = [item for item in TrainingPipeline(bags, (), 2, settings(), CPU).stages(True) if isinstance(item, Stage)]
    mil, teacher, _ = stages  # nothing has been trained
    assert set(mil.loss_function.weights) == {"class"}
    assert set(teacher.loss_function.weights) == {"class", "noise", "perturbation", "entropy"}
    assert all(
        torch.equal(weight, other)
        for weight, other in zip(mil.model.parameters(), teacher.model.parameters(), strict=True)
    )


def test_out_of_fold_classifiers_predict_only_slides_they_were_not_trained_on(bags):
    stages, _ = run(TrainingPipeline(bags, (), 2, settings(gamma_oof=0.5), CPU))
    assert [stage.network for stage in stages] == ["teacher", "oof-1", "oof-2", "oof-3", "student"]
    classifiers, student = stages[1:4], stages[4]
    predicted = 0
    for classifier in classifiers:
        assert {training_bag.target.argmax().item() for training_bag in classifier.training_bags} == {0, 1}
        for training_bag, bag in zip(student.training_bags, bags, strict=True):
            if training_bag.instances.data_ptr() not in seen(classifier):
                own, corrected_own = (
                    logits[:, 1] - logits[:, 0]
                    for logits in (predict_bag(classifier.model, bag).instance_logits, training_bag.oof_targets)
                )
                if bag.label == (0,):
                    assert (torch.sigmoid(corrected_own) < 0.0101).all()
                else:  # probabilities rise with the classifier's scores
                    assert (corrected_own[own.argsort()].diff() >= 0).all()
                predicted += 1
    assert predicted == len(bags)
    assert seen(student) == {torch.from_numpy(bag.instances).data_ptr() for bag in bags}
    teacher = stages[0].model
    assert torch.equal(
        student.training_bags[0].teacher_targets.instance_logits, predict_bag(teacher, bags[0]).instance_logits
    )


def test_too_few_slides_are_reported_and_assigned_to_fewer_folds(bags):
    stages, notices = run(TrainingPipeline(bags[:5], (), 2, settings(parts=4, gamma_oof=0.5), CPU))
    assert [stage.network for stage in stages] == ["teacher", "oof-1", "oof-2", "student"]
    assert notices == ["A class has too few patients for 4 out-of-fold classifiers. There are 2."]
    stages, _ = run(TrainingPipeline(bags[:3], (), 2, settings(parts=4, gamma_oof=0.5), CPU))
    assert [stage.network for stage in stages] == ["teacher", "oof-1", "student"]


def test_out_of_fold_classifiers_predict_only_patients_they_were_not_trained_on(bags):
    cases = ["a", "a", "b", "b", "c", "c", "d", "d"]
    own = [replace(bag, case_id=case) for bag, case in zip(bags, cases, strict=True)]
    pipeline = TrainingPipeline(own, (), 2, settings(gamma_oof=0.5), CPU)
    stages, _ = run(pipeline)
    classifiers = [stage for stage in stages if stage.network.startswith("oof")]
    assert len(classifiers) > 1
    case_of = {torch.from_numpy(bag.instances).data_ptr(): bag.case_id for bag in own}
    learnt = [{case_of[pointer] for pointer in seen(classifier)} for classifier in classifiers]
    for bag, fold in zip(own, pipeline.fold_of, strict=True):
        assert bag.case_id not in learnt[fold]


def test_one_patient_with_all_slides_of_a_class_leaves_one_classifier_and_is_reported(bags):
    own = [replace(bag, case_id="a" if bag.label == (1,) else None) for bag in bags]
    stages, notices = run(TrainingPipeline(own, (), 2, settings(gamma_oof=0.5), CPU))
    assert [stage.network for stage in stages] == ["teacher", "oof-1", "student"]
    assert notices == [
        "All slides of a class are of one patient. One out-of-fold classifier learns from all slides and scores them "
        "too."
    ]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=2, max_size=40), st.integers(1, 5))
def test_folds_hold_whole_patients_and_leave_every_class_to_learn_from(slides, folds):
    labels, cases = [(label,) for label, _ in slides], [case for _, case in slides]
    parts = assign_folds(labels, cases, folds, seed=0)
    assert sorted(index for part in parts for index in part) == list(range(len(slides)))
    assert 1 <= len(parts) <= folds
    for number, part in enumerate(parts):
        others = {cases[i] for other in parts[:number] + parts[number + 1 :] for i in other}
        assert not others & {cases[i] for i in part}
        if len(parts) > 1:
            assert {labels[i] for i in range(len(slides)) if i not in part} == set(labels)


@given(st.lists(st.integers(0, 2), min_size=2, max_size=40), st.integers(2, 5), st.integers(0, 99))
def test_slides_of_different_patients_are_dealt_one_by_one(classes, folds, seed):
    labels = [(label,) for label in classes]
    count = min(folds, *(classes.count(label) for label in set(classes)))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist()
    dealt = sorted(order, key=lambda index: labels[index])
    assert assign_folds(labels, range(len(labels)), folds, seed) == [
        sorted(dealt[fold::count]) for fold in range(count)
    ]


def test_large_patients_are_spread_over_folds():
    labels = [(0,), (1,)] * 20
    cases = ["a"] * 10 + ["b"] * 10 + list(range(20))
    assert [len(part) for part in assign_folds(labels, cases, 2, seed=0)] == [20, 20]


def test_classes_that_are_never_alone_are_assigned_too():
    labels = [(1, 2), (1,), (2,), (1, 2), (2, 3), (1, 3), (3,), (1, 2, 3)]
    assert [len(part) for part in assign_folds(labels, range(8), 3, seed=0)] == [3, 3, 2]


def test_folds_are_stratified_by_label():
    labels = [(0,)] * 7 + [(1,)] * 5
    parts = assign_folds(labels, range(12), 3, seed=1)
    assert sorted(index for part in parts for index in part) == list(range(12))
    positives = [sum(labels[index] == (1,) for index in part) for part in parts]
    assert max(positives) - min(positives) <= 1
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert assign_folds(labels, range(12), 3, seed=1) == parts != assign_folds(labels, range(12), 3, seed=2)


def targets(*labels, classes=2):
    rows = torch.zeros(len(labels), classes)
    for row, label in zip(rows, labels, strict=True):
        row[list(label)] = 1
    return rows


def scores(*values):
    return torch.stack([torch.zeros(len(values)), torch.tensor(values)], 1)


def test_targets_are_probabilities_that_use_the_label_of_the_slide():
    torch.manual_seed(0)
    negative = [scores(*torch.randn(100).tolist()) for _ in range(5)]
    # A third of the patches of positive slides is positive.
    positive = [scores(*torch.randn(66).tolist(), *(4 + torch.randn(34)).tolist()) for _ in range(5)]
    done = patch_posteriors([*negative, *positive], targets(*[(0,)] * 5, *[(1,)] * 5), multi_label=False)
    p = [torch.softmax(each, 1)[:, 1] for each in done]
    assert all((each <= 0.0101).all() for each in p[:5])
    assert sum(each.mean() for each in p[5:]) / 5 == pytest.approx(0.34, abs=0.08)
    assert all(each[66:].mean() > 0.8 and each[:66].mean() < 0.2 for each in p[5:])


def test_a_patch_is_of_no_class_that_its_slide_lacks():
    torch.manual_seed(0)
    labels = targets((0,), (1,), (2,), (0,), (1,), (2,), classes=3)
    scores = [class_scores(2 * torch.randn(50, 3), multi_label=False) for _ in labels]
    for own, target in zip(patch_posteriors(scores, labels, multi_label=False), labels, strict=True):
        absent = (target[1:] == 0).nonzero().flatten() + 1
        assert (torch.softmax(own, 1)[:, absent] < 0.02).all()
    labels = targets((0,), (1, 2), (2,), (0,), (1,), classes=3)
    for own, target in zip(
        patch_posteriors([2 * torch.randn(50, 3) for _ in labels], labels, True), labels, strict=True
    ):
        p = torch.sigmoid(own)
        absent = (target[1:] == 0).nonzero().flatten() + 1
        assert (p[:, absent] < 0.02).all()
        assert torch.allclose(p[:, 0], (1 - p[:, 1:]).prod(1), atol=0.02)


def test_a_class_of_all_slides_or_of_none_is_no_error():
    torch.manual_seed(0)
    logits = list(torch.randn(3, 50, 4))
    labels = targets((1,), (1, 2), (1,), classes=4)
    half = blend_scores(logits, logits, labels, 0.5)
    assert torch.allclose(torch.stack(half)[..., [0, 1, 3]], torch.stack(logits)[..., [0, 1, 3]])
    for scores in (logits, half):
        for own, predicted in zip(patch_posteriors(scores, labels, multi_label=True), logits, strict=True):
            assert torch.allclose(own[:, 1], predicted[:, 1], atol=1e-4)
            assert (torch.sigmoid(own[:, 3]) < 0.0101).all()


def test_scores_are_blended_whatever_their_units():
    torch.manual_seed(0)
    labels = targets((0,), (1,), (1,))
    ours, theirs = ([scores(*torch.randn(20).tolist()) for _ in labels] for _ in range(2))
    louder = [100 * own + 7 for own in theirs]
    for own, loud in zip(blend_scores(ours, theirs, labels, 0.3), blend_scores(ours, louder, labels, 0.3), strict=True):
        assert torch.allclose(own[:, 1], loud[:, 1], atol=1e-4)
    alone = torch.cat(blend_scores(ours, theirs, labels, 0.0))[:, 1]
    assert float(torch.corrcoef(torch.stack([alone, torch.cat(ours)[:, 1]]))[0, 1]) == pytest.approx(1)
    assert float(alone[20:].mean()) == pytest.approx(0, abs=1e-5)  # over the patches of positive slides
    assert float(alone[20:].std()) == pytest.approx(1, abs=1e-5)


def test_the_teacher_has_its_share_in_what_the_student_is_told(bags):
    told = []
    for share in (0.0, 0.5, 1.0):
        chosen = settings(gamma_oof=0.5).model_copy(
            update={"oof": settings().oof.model_copy(update={"teacher_weight": share})}
        )
        stages, _ = run(TrainingPipeline(bags, (), 2, chosen, CPU))
        told.append(
            [
                training_bag.oof_targets[:, 1] - training_bag.oof_targets[:, 0]
                for training_bag in stages[-1].training_bags
            ]
        )
        teacher_targets = [
            class_scores(training_bag.teacher_targets.instance_logits, False)[:, 1]
            for training_bag in stages[-1].training_bags
        ]
    alone, half, teacher = told
    positive = [index for index, bag in enumerate(bags) if bag.label == (1,)]
    assert any(not torch.equal(alone[index], half[index]) for index in positive)
    for index in positive:  # the teacher alone: its order
        assert (teacher[index][teacher_targets[index].argsort()].diff() >= 0).all()


def test_the_student_may_start_as_its_teacher(bags):
    stages = [
        item
        for item in TrainingPipeline(bags, (), 2, settings(initial_weights="teacher"), CPU).stages()
        if isinstance(item, Stage)
    ]
    teacher, student = stages
    assert all(torch.equal(a, b) for a, b in zip(teacher.model.parameters(), student.model.parameters(), strict=True))


@pytest.mark.parametrize("multi_label", [False, True])
def test_calibration_keeps_the_order_and_gives_probabilities(make_bag, multi_label):
    bags = [make_bag(40, label=index % 2, seed=index) for index in range(8)]
    training = {"epochs": 6, "learning_rate": 3e-3}
    network = {"hidden_dim": 32, "dropout": 0, "multi_label": multi_label}
    chosen = build_settings("colon", "paper", {"architecture": network, "oof": training})
    loss_function, training_bags = InheritedLabelLoss(chosen.oof), [TrainingBag.of(bag, 2) for bag in bags]
    stage = TrainingPipeline(bags, (), 2, chosen, CPU).make_stage("oof-1", loss_function, training_bags, chosen.oof, 0)
    teacher = stage.model
    drain(fit(teacher, stage.loss_function, stage.training_bags, (), stage.settings))
    before = [predict_bag(teacher, bag).instance_logits for bag in bags]
    drain(calibrate_head(teacher, bags))
    after = [predict_bag(teacher, bag).instance_logits for bag in bags]

    def score(logits):
        return logits[:, 1] if multi_label else logits[:, 1] - logits[:, 0]

    slopes = [
        float(((score(new)[1:] - score(new)[0]) / (score(old)[1:] - score(old)[0])).median())
        for old, new in zip(before, after, strict=True)
    ]
    assert max(slopes) == pytest.approx(min(slopes), rel=0.05)
    assert min(slopes) > 0
    p = float(torch.cat([teacher.probabilities(logits)[:, 1] for logits in after]).mean())
    assert 0.02 < p < 0.5  # some patches of half of the slides


def test_more_than_two_exclusive_classes_are_said_not_to_be_calibrated(make_bag):
    bags = [make_bag(5, label=index % 3, seed=index) for index in range(6)]
    pipeline = TrainingPipeline(bags, (), 3, build_settings("colon", "paper", {"architecture": {"hidden_dim": 8}}), CPU)
    model = pipeline.make_bag_stage("teacher", pipeline.settings.teacher).model
    weights = model.head.weight.clone()
    assert "not calibrated" in str(next(calibrate_head(model, bags)))
    assert torch.equal(model.head.weight, weights)


@pytest.mark.parametrize("multi_label", [False, True])
def test_targets_keep_to_what_a_user_says_of_a_slide(make_bag, multi_label):
    bag, p = make_bag(6), torch.tensor([0.02, 0.1, 0.3, 0.5, 0.9, 0.98])
    logits = torch.stack([1 - p, p], 1).log() - (torch.log1p(-torch.stack([1 - p, p], 1)) if multi_label else 0)

    def probabilities(**said):
        found = with_user_knowledge(logits, replace(bag, **said), multi_label)
        return (found.sigmoid() if multi_label else found.softmax(1))[:, 1]

    assert with_user_knowledge(logits, bag, multi_label) is logits
    shared = probabilities(share=0.25)
    assert shared.mean().item() == pytest.approx(0.25, abs=1e-3)
    assert (shared.diff() > 0).all()  # the order stays
    regions = (Region(np.array([5]), "none"), Region(np.array([0, 1]), "all", 1), Region(np.array([2]), "some", 1))
    known = probabilities(regions=regions)
    assert known.tolist() == pytest.approx([0.99, 0.99, 0.3, 0.5, 0.9, 0.01], abs=1e-5)
    negative = replace(make_bag(6, label=0), share=0.25)
    assert with_user_knowledge(logits, negative, multi_label) is logits


def test_what_is_said_reaches_the_networks_and_silence_changes_nothing(bags):
    plain, _ = run(TrainingPipeline(bags, (), 2, settings(gamma_oof=1.0), CPU))
    silent = [replace(bag, regions=(), share=None) for bag in bags]
    again, _ = run(TrainingPipeline(silent, (), 2, settings(gamma_oof=1.0), CPU))
    told = [bags[0], replace(bags[1], share=0.9, regions=(Region(np.array([0, 1]), "some", 1),)), *bags[2:]]
    other, _ = run(TrainingPipeline(told, (), 2, settings(gamma_oof=1.0), CPU))
    for one, same, changed in zip(plain, again, other, strict=True):
        weights = [torch.cat([own.flatten() for own in each.model.parameters()]) for each in (one, same, changed)]
        assert torch.equal(weights[0], weights[1])
        assert torch.equal(weights[0], weights[2]) == (one.network != "student")
