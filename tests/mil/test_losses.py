"""Divergences against values worked out by hand; the losses made of them: terms, values, where gradients flow."""

import math
from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from napari_distill2label.core.bag import Region
from napari_distill2label.core.settings import OutOfFoldSettings, StudentSettings, TeacherSettings
from napari_distill2label.mil.losses import (
    InheritedLabelLoss,
    StudentLoss,
    TeacherLoss,
    conditional_entropy,
    cross_entropy,
    kl_divergence,
    log_probabilities,
    reduce_instances,
    target_probabilities,
)
from napari_distill2label.mil.training import predict_bag
from napari_distill2label.mil.training_bags import BagBatch, TeacherTargets, TrainingBag, is_subsampled

# logits -> softmax (1/4, 3/4), and sigmoids (1/2, 3/4)
TWO = torch.tensor([0.0, log(3)])
# logits -> softmax (1/8, 2/8, 5/8)
THREE = torch.tensor([0.0, log(2), log(5)])


def approx(*values):
    return pytest.approx(list(values) if len(values) > 1 else values[0], abs=1e-6)


def test_log_probabilities_are_softmax():
    assert log_probabilities(TWO).exp().tolist() == approx(0.25, 0.75)
    assert log_probabilities(THREE).exp().tolist() == approx(0.125, 0.25, 0.625)


def test_log_probabilities_of_several_classes_are_absent_and_present_of_each():
    p = log_probabilities(TWO, multi_label=True).exp()
    assert p.shape == (2, 2)
    assert p[0].tolist() == approx(0.5, 0.5)
    assert p[1].tolist() == approx(0.25, 0.75)


def test_temperature_divides_logits():
    # eq. (4): softmax(z / 2) of (0, 2 ln 3) is that of (0, ln 3)
    assert log_probabilities(2 * TWO, temperature=2.0).exp().tolist() == approx(0.25, 0.75)
    assert log_probabilities(2 * TWO, multi_label=True, temperature=2.0)[1].exp().tolist() == approx(0.25, 0.75)
    # softmax((0, ln 3) / 2) = (1, √3) / (1 + √3)
    assert log_probabilities(TWO, temperature=2.0).exp().tolist() == approx(0.3660254, 0.6339746)


def test_cross_entropy_of_a_label():
    assert cross_entropy(torch.tensor([0.0, 1.0]), log_probabilities(TWO)).item() == approx(0.2876821)  # ln 4/3
    assert cross_entropy(torch.tensor([0.0, 0.0, 1.0]), log_probabilities(THREE)).item() == approx(0.4700036)  # ln 8/5


def test_cross_entropy_of_a_soft_target():
    # ½ ln 8 + ¼ ln 4 + ¼ ln 8/5
    assert cross_entropy(torch.tensor([0.5, 0.25, 0.25]), log_probabilities(THREE)).item() == approx(1.5037953)


def test_cross_entropy_of_several_classes():
    target = target_probabilities(torch.tensor([0.0, 1.0]), multi_label=True)
    assert target.tolist() == [[1, 0], [0, 1]]
    # class 0 absent: ln 2; class 1 present: ln 4/3
    assert cross_entropy(target, log_probabilities(TWO, multi_label=True)).tolist() == approx(0.6931472, 0.2876821)
    both = target_probabilities(torch.tensor([1.0, 1.0]), multi_label=True)
    assert cross_entropy(both, log_probabilities(TWO, multi_label=True)).tolist() == approx(0.6931472, 0.2876821)


def test_target_of_one_class_is_left_alone():
    target = torch.tensor([0.0, 1.0, 0.0])
    assert torch.equal(target_probabilities(target), target)


def test_kl_divergence_is_equation_6_for_two_classes():
    p, q = torch.tensor([0.2, 0.8]).log(), torch.tensor([0.4, 0.6]).log()
    assert kl_divergence(p, q).item() == approx(0.0915162)  # 0.8 ln 8/6 + 0.2 ln 2/4
    assert kl_divergence(q, p).item() == approx(0.1046496)  # 0.6 ln 6/8 + 0.4 ln 4/2: not symmetric


def test_kl_divergence_of_three_classes():
    uniform = torch.zeros(3)
    # ln 3 − H(p), H(p) = 0.9002561
    assert kl_divergence(log_probabilities(THREE), log_probabilities(uniform)).item() == approx(0.1983562)


def test_kl_divergence_of_several_classes():
    even = log_probabilities(torch.zeros(2), multi_label=True)
    # class 0: even against even; class 1: ¼ ln ½ + ¾ ln 3/2
    assert kl_divergence(log_probabilities(TWO, multi_label=True), even).tolist() == approx(0.0, 0.1308120)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 80.0])
def test_kl_divergence_of_equals_is_zero(multi_label, scale):
    log_p = log_probabilities(scale * torch.randn(20, 3, generator=torch.manual_seed(0)), multi_label)
    assert kl_divergence(log_p, log_p).abs().max() == 0


def test_kl_divergence_is_never_negative():
    p, q = (log_probabilities(torch.randn(500, 4, generator=torch.manual_seed(seed))) for seed in (1, 2))
    assert kl_divergence(p, q).min() >= 0


def test_conditional_entropy():
    assert conditional_entropy(log_probabilities(TWO)).item() == approx(0.5623351)  # ¼ ln 4 + ¾ ln 4/3
    assert conditional_entropy(log_probabilities(THREE)).item() == approx(0.9002561)
    assert conditional_entropy(log_probabilities(torch.zeros(3))).item() == approx(1.0986123)  # ln 3, its maximum
    assert conditional_entropy(log_probabilities(TWO, multi_label=True)).tolist() == approx(0.6931472, 0.5623351)


def test_conditional_entropy_of_a_confident_prediction_is_zero_and_has_a_gradient():
    logits = torch.tensor([0.0, 200.0], requires_grad=True)
    entropy = conditional_entropy(log_probabilities(logits))
    entropy.backward()
    assert entropy.item() == 0
    assert logits.grad.isfinite().all()


def test_reduce_instances():
    values = torch.tensor([1.0, 2.0, 3.0, 10.0, 20.0])
    assert reduce_instances(values, [3, 2], "mean").item() == approx(8.5)  # (2 + 15) / 2
    assert reduce_instances(values, [3, 2], "sum").item() == approx(18.0)  # (6 + 30) / 2


def test_reduce_instances_takes_the_mean_over_classes():
    values = torch.tensor([[1.0, 3.0], [3.0, 5.0], [10.0, 10.0]])
    assert reduce_instances(values, [2, 1], "mean").item() == approx(6.5)  # (3 + 10) / 2
    assert reduce_instances(values, [2, 1], "sum").item() == approx(8.0)  # (6 + 10) / 2


CPU = torch.device("cpu")
OFF = {"lambda_n": 0.0, "lambda_d": 0.0, "lambda_e": 0.0}


def batch_of(*bags, n_classes=2, teacher=None):
    return BagBatch.of([TrainingBag.of(bag, n_classes, teacher and predict_bag(teacher, bag)) for bag in bags], CPU)


def gradients(model, loss):
    """Gradient of `loss` for every parameter, zeros where none arrives."""
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)
    pairs = zip(model.named_parameters(), found, strict=True)
    return {name: torch.zeros_like(p) if grad is None else grad for (name, p), grad in pairs}


def reached(model, loss):
    """Parts of the network that `loss` has a gradient in."""
    return {name.split(".")[0] for name, grad in gradients(model, loss).items() if grad.abs().max() > 0}


def assert_same(model, loss, other):
    assert loss.item() == pytest.approx(other.item(), rel=1e-5, abs=1e-6)
    mine, others = gradients(model, loss), gradients(model, other)
    for name, grad in mine.items():
        assert torch.allclose(grad, others[name], rtol=1e-3, atol=1e-5), name


class Counter:
    """Counts what passes through an encoder."""

    def __init__(self, model):
        self.calls, self.instances = 0, 0
        model.encoder.register_forward_hook(self)

    def __call__(self, module, inputs, output):
        self.calls += 1
        self.instances += len(output)


# --- teacher, eq. (3) ---


@pytest.mark.parametrize(
    ("name", "term"), [("lambda_n", "noise"), ("lambda_d", "perturbation"), ("lambda_e", "entropy")]
)
def test_a_term_whose_weight_is_zero_is_left_out(make_model, make_bag, name, term):
    every = {"class", "noise", "perturbation", "entropy"}
    loss_function = TeacherLoss(TeacherSettings(**{name: 0.0}))
    assert set(loss_function.weights) == every - {term}
    assert set(loss_function(make_model(), batch_of(make_bag(4)))) == every - {term}


def test_weights_are_the_lambdas(make_model):
    settings = TeacherSettings(lambda_c=0.8, lambda_n=0.7, lambda_d=0.2, lambda_e=0.1)
    assert TeacherLoss(settings).weights == {"class": 0.8, "noise": 0.7, "perturbation": 0.2, "entropy": 0.1}
    assert TeacherLoss(TeacherSettings(**OFF)).weights == {"class": 1.0}  # plain MIL


@pytest.mark.parametrize("active", ["noise", "perturbation", "entropy", "all"])
def test_everything_is_encoded_in_one_pass_and_clean_features_are_reused(make_model, make_bag, active):
    names = {"noise": "lambda_n", "perturbation": "lambda_d", "entropy": "lambda_e"}
    settings = (
        TeacherSettings(noise_ratio=0.5)
        if active == "all"
        else TeacherSettings(**{**OFF, names[active]: 1.0}, noise_ratio=0.5)
    )
    model = make_model()
    counter = Counter(model)
    TeacherLoss(settings)(model, batch_of(make_bag(6)))
    assert counter.calls == 1
    assert counter.instances == {"noise": 6 + 3, "perturbation": 6 + 6, "entropy": 6, "all": 6 + 3 + 6}[active]


@pytest.mark.parametrize(("noise", "k", "expected"), [(1.0, 5, 5), (0.1, 3, 1), (0.01, 1, 1), (0.5, 7, 4), (2.0, 3, 6)])
def test_number_of_noise_instances_is_max_of_1_and_the_rounded_fraction(make_model, make_bag, noise, k, expected):
    model = make_model()
    counter = Counter(model)
    TeacherLoss(TeacherSettings(**OFF | {"lambda_n": 1.0}, noise_ratio=noise))(model, batch_of(make_bag(k)))
    assert counter.instances == k + expected


def test_class_term_is_the_cross_entropy_of_the_label(make_model, make_bag):
    model, bag = make_model(n_classes=3), make_bag(5, label=2)
    term = TeacherLoss(TeacherSettings(**OFF))(model, batch_of(bag, n_classes=3))["class"]
    logits = model(torch.from_numpy(bag.instances)).bag_logits
    assert_same(model, term, F.cross_entropy(logits, torch.tensor([2])))


def test_class_term_with_several_classes_is_the_mean_binary_cross_entropy(make_model, make_bag):
    model, bag = make_model(n_classes=3, multi_label=True), make_bag(5, label=(1, 2))
    term = TeacherLoss(TeacherSettings(**OFF))(model, batch_of(bag, n_classes=3))["class"]
    logits = model(torch.from_numpy(bag.instances)).bag_logits
    assert_same(model, term, F.binary_cross_entropy_with_logits(logits, torch.tensor([[0.0, 1.0, 1.0]])))


def test_noise_term_takes_its_gradient_from_the_noisy_bag_alone(make_model, make_bag):
    model, bag = make_model(), make_bag(4)
    torch.manual_seed(7)
    term = TeacherLoss(TeacherSettings(**OFF | {"lambda_n": 1.0, "noise_ratio": 1.0}))(model, batch_of(bag))["noise"]
    torch.manual_seed(7)
    clean = torch.from_numpy(bag.instances).float() / 255
    noise = torch.rand(4, *clean.shape[1:])
    features = model.encode(torch.cat([clean, noise]))
    target = model.classify(features[:4], [4]).bag_logits.softmax(1)
    output = model.classify(features, [8]).bag_logits.log_softmax(1)
    assert_same(model, term, -(target.detach() * output).sum())
    # the test would notice: with the gradient of T(X) the result is another
    other = gradients(model, -(target * output).sum())
    assert not torch.allclose(other["head.weight"], gradients(model, term)["head.weight"], atol=1e-6)
    assert reached(model, term) == {"encoder", "pooling", "head"}


def test_perturbation_term_takes_its_gradient_from_the_perturbed_bag_alone(make_model, make_bag):
    model, bag = make_model(), make_bag(4)
    torch.manual_seed(7)
    term = TeacherLoss(TeacherSettings(**OFF | {"lambda_d": 1.0}, perturbation_radius=3.0))(model, batch_of(bag))[
        "perturbation"
    ]
    torch.manual_seed(7)
    clean = torch.from_numpy(bag.instances).contiguous(memory_format=torch.channels_last).float() / 255
    direction = torch.randn(4, 12, 12, 3).permute(0, 3, 1, 2)
    direction = direction / direction.flatten(1).norm(dim=1).view(4, 1, 1, 1)
    radius = 3.0 * torch.rand(4) ** (1 / clean[0].numel())
    perturbed = clean + direction * radius.view(4, 1, 1, 1)
    target = model.classify(model.encode(clean), [4]).bag_logits.softmax(1)
    output = model.classify(model.encode(perturbed), [4]).bag_logits.log_softmax(1)
    assert_same(model, term, -(target.detach() * output).sum())
    other = gradients(model, -(target * output).sum())
    assert not torch.allclose(other["head.weight"], gradients(model, term)["head.weight"], atol=1e-6)


def test_perturbation_of_radius_0_leaves_the_entropy_of_the_output(make_model, make_bag):
    model, bag = make_model(), make_bag(4)
    term = TeacherLoss(TeacherSettings(**OFF | {"lambda_d": 1.0}, perturbation_radius=0.0))(model, batch_of(bag))[
        "perturbation"
    ]
    p = model(torch.from_numpy(bag.instances)).bag_logits.softmax(1)
    assert term.item() == pytest.approx(-(p * p.log()).sum().item(), abs=1e-6)


def test_entropy_term_is_the_mean_over_realizations_of_subsets(make_model, make_bag):
    model, bag = make_model(), make_bag(8)
    settings = TeacherSettings(**OFF | {"lambda_e": 1.0}, subset_fraction=0.4, n_subsets=5)
    torch.manual_seed(3)
    term = TeacherLoss(settings)(model, batch_of(bag))["entropy"]
    torch.manual_seed(3)
    entropies = []
    for _ in range(5):
        subset = torch.from_numpy(bag.instances)[torch.randperm(8)[:3]]  # round(0.4 · 8)
        p = model(subset).bag_logits.softmax(1)
        entropies.append(-(p * p.log()).sum())
    assert_same(model, term, torch.stack(entropies).mean())
    assert reached(model, term) == {"encoder", "pooling", "head"}


def test_entropy_term_of_the_whole_bag(make_model, make_bag):
    model, bag = make_model(multi_label=True), make_bag(6)
    term = TeacherLoss(TeacherSettings(**OFF | {"lambda_e": 1.0}, subset_fraction=1.0))(model, batch_of(bag))["entropy"]
    p = model(torch.from_numpy(bag.instances)).bag_logits.sigmoid()
    expected = -(p * p.log() + (1 - p) * (1 - p).log()).mean()
    assert term.item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_bag_of_one_instance_has_every_term(make_model, make_bag):
    terms = TeacherLoss(TeacherSettings(subset_fraction=0.01, noise_ratio=0.01))(make_model(), batch_of(make_bag(1)))
    assert all(math.isfinite(term.item()) for term in terms.values())


@pytest.mark.parametrize("multi_label", [False, True])
def test_features_have_every_term(make_model, make_bag, multi_label):
    model = make_model(features=6, multi_label=multi_label)
    terms = TeacherLoss(TeacherSettings())(model, batch_of(make_bag(5, features=6), make_bag(2, 0, 1, features=6)))
    assert set(terms) == {"class", "noise", "perturbation", "entropy"}
    assert all(math.isfinite(term.item()) for term in terms.values())


def test_ragged_bags_are_the_mean_of_single_ones(make_model, make_bag):
    model = make_model(dropout=0.5).eval()
    # without randomness: a ball of radius 0 and the whole bag as its subset
    loss_function = TeacherLoss(TeacherSettings(lambda_n=0.0, perturbation_radius=0.0, subset_fraction=1.0))
    bags = [make_bag(k, label=k % 2, seed=k) for k in (1, 6, 3)]
    together = loss_function(model, batch_of(*bags))
    alone = [loss_function(model, batch_of(bag)) for bag in bags]
    for name, term in together.items():
        assert_same(model, term, torch.stack([terms[name] for terms in alone]).mean())


def test_noise_joins_the_bag_it_was_drawn_for(make_model):
    model = make_model()
    features, noise = torch.randn(7, 8), torch.randn(4, 8)
    together = TeacherLoss.with_noise(
        model, model.classify_instances(features), model.classify_instances(noise), [5, 2], [3, 1]
    ).bag_logits
    first = model.classify(torch.cat([features[:5], noise[:3]]), [8]).bag_logits
    second = model.classify(torch.cat([features[5:], noise[3:]]), [3]).bag_logits
    assert torch.allclose(together, torch.cat([first, second]), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adversarial_perturbation_has_radius_delta_and_changes_more_than_a_random_one(make_model, make_bag, dtype):
    model, bag = make_model(dropout=0.5).train(), make_bag(5)
    model.dtype = dtype
    clean = model.to_unit_range(torch.from_numpy(bag.instances))
    torch.manual_seed(0)
    loss_functions = [
        TeacherLoss(TeacherSettings(perturbation=ball, perturbation_radius=0.5)) for ball in ("adversarial", "random")
    ]
    worst, random = (loss_function.perturbation(model, clean, [5]) for loss_function in loss_functions)
    assert worst.flatten(1).norm(dim=1).tolist() == pytest.approx([0.5] * 5, abs=1e-4)
    assert model.training
    assert model.dtype == dtype
    assert all(parameter.grad is None for parameter in model.parameters())
    model.eval()
    model.dtype = torch.float32
    with torch.no_grad():
        outputs = [
            log_probabilities(model.classify(model.encode(x), [5]).bag_logits)
            for x in (clean, clean + worst, clean + random)
        ]
    assert kl_divergence(outputs[0], outputs[1]).item() > 5 * kl_divergence(outputs[0], outputs[2]).item()


def test_adversarial_ball_is_a_term_like_the_random_one(make_model, make_bag):
    model = make_model()
    term = TeacherLoss(TeacherSettings(**OFF | {"lambda_d": 1.0}, perturbation="adversarial"))(
        model, batch_of(make_bag(4))
    )
    assert reached(model, term["perturbation"]) == {"encoder", "pooling", "head"}


# --- student, eq. (5) ---


@pytest.mark.parametrize("tau", [1.0, 2.0])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_student_terms_are_equation_5(make_model, make_bag, tau, reduction):
    student, teacher, bag = make_model(seed=1), make_model(seed=2).eval(), make_bag(4)
    loss_function = StudentLoss(StudentSettings(temperature=tau, instance_reduction=reduction))
    terms = loss_function(student, batch_of(bag, teacher=teacher))
    raw = torch.from_numpy(bag.instances)
    mine = student(raw)
    with torch.no_grad():
        theirs = teacher(raw)

    def eq6(z_t, z_s):  # two classes: p and 1 − p
        p, q = torch.softmax(z_t / tau, -1)[..., 1], torch.softmax(z_s / tau, -1)[..., 1]
        return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()

    single = mine.instance_logits.softmax(1)
    over = torch.mean if reduction == "mean" else torch.sum
    expected = {
        "class": F.cross_entropy(mine.bag_logits, torch.tensor([1])),
        "bag": eq6(theirs.bag_logits, mine.bag_logits).mean(),
        "instance": over(eq6(theirs.instance_logits, mine.instance_logits)),
        "entropy": over(-(single * single.log()).sum(1)),  # not softened
    }
    assert set(terms) == set(expected)
    for name, term in terms.items():
        assert_same(student, term, expected[name])


def test_student_weights_are_the_gammas():
    settings = StudentSettings(
        gamma_c=0.1, gamma_b=0.2, gamma_i=0.3, gamma_e=0.4, gamma_corrections=0.5, gamma_n=0.6, gamma_oof=0.7,
        gamma_regions=0.8, gamma_share=0.9,
    )  # fmt: skip
    weights = {
        "class": 0.1,
        "bag": 0.2,
        "instance": 0.3,
        "entropy": 0.4,
        "corrections": 0.5,
        "negative": 0.6,
        "oof": 0.7,
        "regions": 0.8,
        "share": 0.9,
    }
    assert StudentLoss(settings).weights == weights
    assert StudentSettings().gamma_n == StudentSettings().gamma_oof == 0  # beyond the paper


def test_negative_term_is_the_cross_entropy_of_the_instances_of_negative_bags(make_model, make_bag):
    student, teacher = make_model(seed=1, n_classes=3), make_model(seed=2, n_classes=3)
    negative, positive = make_bag(2, label=0), make_bag(3, label=2, seed=1)
    loss_function = StudentLoss(StudentSettings(gamma_n=1.0))
    term = loss_function(student, batch_of(positive, negative, n_classes=3, teacher=teacher))["negative"]
    logits = student(torch.from_numpy(negative.instances)).instance_logits
    assert_same(student, term, F.cross_entropy(logits, torch.tensor([0, 0])) / 2)  # two bags, one of them negative
    assert reached(student, term) == {"encoder", "head"}
    assert loss_function(student, batch_of(positive, n_classes=3, teacher=teacher))["negative"].item() == 0


def test_a_bag_with_a_finding_is_not_negative_whatever_else_it_holds(make_model, make_bag):
    student, teacher = (make_model(seed=seed, n_classes=3, multi_label=True) for seed in (1, 2))
    loss_function = StudentLoss(StudentSettings(gamma_n=1.0))
    both = make_bag(3, label=(0, 2))
    assert loss_function(student, batch_of(both, n_classes=3, teacher=teacher))["negative"].item() == 0
    clean = make_bag(3, label=(0,))
    term = loss_function(student, batch_of(clean, n_classes=3, teacher=teacher))["negative"]
    logits = student(torch.from_numpy(clean.instances)).instance_logits
    assert_same(student, term, F.binary_cross_entropy_with_logits(logits, torch.tensor([[1.0, 0.0, 0.0]] * 3)))


def test_student_gradients(make_model, make_bag):
    student, teacher = make_model(seed=1), make_model(seed=2)
    counter = Counter(student)
    terms = StudentLoss(StudentSettings())(
        student, batch_of(make_bag(5, patch_labels=[-1, 1, 0, -1, -1]), teacher=teacher)
    )
    assert (counter.calls, counter.instances) == (1, 5)
    for name in ("class", "bag"):
        assert reached(student, terms[name]) == {"encoder", "pooling", "head"}, name
    for name in ("instance", "entropy", "corrections"):  # a bag of one: attention is inert
        assert reached(student, terms[name]) == {"encoder", "head"}, name
    sum(terms.values()).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_teacher_targets_are_constants(make_model, make_bag):
    teacher_targets = predict_bag(make_model(dropout=0.5).train(), make_bag(3))
    assert not teacher_targets.bag_logits.requires_grad
    assert not teacher_targets.instance_logits.requires_grad
    assert teacher_targets.bag_logits.shape == (2,)
    assert teacher_targets.instance_logits.shape == (3, 2)


def test_distillation_from_itself_is_zero(make_model, make_bag):
    model = make_model(n_classes=3, multi_label=True).eval()
    terms = StudentLoss(StudentSettings())(model, batch_of(make_bag(6, label=2), n_classes=3, teacher=model))
    assert terms["bag"].item() == pytest.approx(0, abs=1e-6)
    assert terms["instance"].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_student_of_ragged_bags_is_the_mean_of_single_ones(make_model, make_bag, reduction, multi_label):
    student = make_model(seed=1, multi_label=multi_label, dropout=0.5).eval()
    teacher = make_model(seed=2, multi_label=multi_label)
    loss_function = StudentLoss(StudentSettings(instance_reduction=reduction))
    bags = [make_bag(k, label=k % 2, seed=k) for k in (1, 6, 3)]
    together = loss_function(student, batch_of(*bags, teacher=teacher))
    alone = [loss_function(student, batch_of(bag, teacher=teacher)) for bag in bags]
    for name, term in together.items():
        assert_same(student, term, torch.stack([terms[name] for terms in alone]).mean())


def test_known_patches_count_by_their_corrected_class(make_model, make_bag):
    student = make_model(seed=1, n_classes=3)
    corrected, other = make_bag(4, patch_labels=[-1, 2, 0, -1]), make_bag(2, label=0, seed=1)
    batch = batch_of(other, corrected, n_classes=3, teacher=make_model(seed=2, n_classes=3))
    assert batch.patch_labels.tolist() == [-1, -1, -1, 2, 0, -1]
    term = StudentLoss(StudentSettings())(student, batch)["corrections"]
    logits = student(torch.from_numpy(corrected.instances)).instance_logits
    assert_same(student, term, F.cross_entropy(logits[1:3], torch.tensor([2, 0])))


def test_known_patches_with_several_classes_are_of_one_class_only(make_model, make_bag):
    student = make_model(seed=1, n_classes=3, multi_label=True)
    bag = make_bag(3, patch_labels=[-1, 2, -1])
    batch = batch_of(bag, n_classes=3, teacher=make_model(seed=2, n_classes=3, multi_label=True))
    term = StudentLoss(StudentSettings())(student, batch)["corrections"]
    logits = student(torch.from_numpy(bag.instances)).instance_logits[1]
    assert_same(student, term, F.binary_cross_entropy_with_logits(logits, torch.tensor([0.0, 0.0, 1.0])))


def test_known_term_is_zero_where_nothing_was_corrected_and_absent_without_corrections(make_model, make_bag):
    student, teacher = make_model(seed=1), make_model(seed=2)
    loss_function = StudentLoss(StudentSettings())
    assert (
        loss_function(student, batch_of(make_bag(3, patch_labels=[-1, -1, -1]), teacher=teacher))["corrections"].item()
        == 0
    )
    assert "corrections" not in loss_function(student, batch_of(make_bag(3), teacher=teacher))


def test_batch_keeps_bags_apart(make_bag):
    teacher_targets = [TeacherTargets(torch.tensor([float(k), 0.0]), torch.full((k, 2), float(k))) for k in (2, 3)]
    training_bags = [TrainingBag.of(make_bag(k, label=k % 2, seed=k), 2, teacher_targets[k - 2]) for k in (2, 3)]
    batch = BagBatch.of(training_bags, CPU)
    assert batch.lengths == [2, 3]
    assert batch.target.tolist() == [[1, 0], [0, 1]]
    assert torch.equal(batch.instances, torch.cat([training_bag.instances for training_bag in training_bags]))
    assert batch.teacher_targets.bag_logits.tolist() == [[2, 0], [3, 0]]
    assert batch.teacher_targets.instance_logits[:, 0].tolist() == [2, 2, 3, 3, 3]
    assert batch.patch_labels is None


def test_a_batch_has_the_targets_of_all_its_bags_or_of_none(make_bag):
    targets = TeacherTargets(torch.zeros(2), torch.zeros(2, 2))
    taught, plain = TrainingBag.of(make_bag(2), 2, targets), TrainingBag.of(make_bag(2), 2)
    with pytest.raises(ValueError, match="some bags of a batch have targets and others have none"):
        BagBatch.of([plain, taught], CPU)
    assert BagBatch.of([plain, plain], CPU).teacher_targets is None


def test_a_student_refuses_bags_without_a_teacher(make_model, make_bag):
    batch = BagBatch.of([TrainingBag.of(make_bag(2), 2)], CPU)
    with pytest.raises(ValueError, match="a student needs the teacher's predictions"):
        StudentLoss(StudentSettings())(make_model(), batch)


def test_a_large_bag_of_pixels_is_subsampled_again_every_time_and_one_of_features_is_not(make_bag):
    settings = TeacherSettings(max_patches_per_bag=7)
    large, small, features = make_bag(30), make_bag(7), make_bag(30, features=5)
    torch.manual_seed(0)
    training_bag = TrainingBag.of(large, 2)
    drawn = []
    for _ in range(20):
        (part,) = training_bag.pseudo_bags(settings)
        assert len(part().instances) == 7
        drawn.append({patch.numpy().tobytes() for patch in part().instances})
    assert all(len(patches) == 7 for patches in drawn)  # without replacement
    assert len({frozenset(patches) for patches in drawn}) == 20
    assert set.union(*drawn) == {patch.tobytes() for patch in large.instances}  # none is left out for good
    for bag in (small, features):
        (whole,) = TrainingBag.of(bag, 2).pseudo_bags(settings)
        assert len(whole().instances) == len(bag)
    pseudo_bags = training_bag.pseudo_bags(TeacherSettings(max_patches_per_bag=7, pseudo_bag_size=10))
    assert sum(len(part().instances) for part in pseudo_bags) == 30  # no step has them all
    assert is_subsampled(large.instances, settings)
    assert not is_subsampled(features.instances, settings)


@pytest.mark.parametrize("multi_label", [False, True])
def test_what_is_said_of_regions_is_a_cross_entropy_of_their_patches(make_model, make_bag, multi_label):
    student, teacher = (make_model(seed=seed, multi_label=multi_label) for seed in (1, 2))
    with torch.no_grad():  # probabilities of exactly 0 and 1 show nothing
        student.head.weight /= 10
    bag = make_bag(6)
    logits = student(torch.from_numpy(bag.instances)).instance_logits.double()
    single = F.logsigmoid(logits[:, 1]) if multi_label else F.log_softmax(logits, 1)[:, 1]
    absent = F.logsigmoid(-logits[:, 1]) if multi_label else F.log_softmax(logits, 1)[:, 0]
    inside = np.array([0, 2, 5])
    expected = {
        "none": -absent[inside].mean(),
        "all": -single[inside].mean(),
        "some": -torch.log1p(-absent[inside].sum().exp()),
    }
    for says, value in expected.items():
        regions = (Region(inside, says, 0 if says == "none" else 1),)
        terms = StudentLoss(StudentSettings())(student, batch_of(replace(bag, regions=regions), teacher=teacher))
        assert_same(student, terms["regions"], value)
        assert reached(student, terms["regions"]) == {"encoder", "head"}
    both = tuple(Region(inside, says, 1) for says in ("some", "all"))
    terms = StudentLoss(StudentSettings())(student, batch_of(replace(bag, regions=both), teacher=teacher))
    assert_same(student, terms["regions"], (expected["some"] + expected["all"]) / 2)


def test_a_share_is_compared_with_the_mean_probability_of_a_finding(make_model, make_bag):
    student, teacher = make_model(seed=1, n_classes=3), make_model(seed=2, n_classes=3)
    bag, other = make_bag(6), make_bag(3, seed=1)
    p = 1 - student.probabilities(student(torch.from_numpy(bag.instances)).instance_logits)[:, 0].mean()
    loss_function = StudentLoss(StudentSettings(gamma_share=2))
    terms = loss_function(student, batch_of(replace(bag, share=0.3), other, n_classes=3, teacher=teacher))
    divergence = 0.3 * (0.3 / p).log() + 0.7 * (0.7 / (1 - p)).log()
    assert_same(student, terms["share"], divergence / 2)  # two bags, one with a share
    assert loss_function.weights["share"] == 2
    equal = loss_function(student, batch_of(replace(bag, share=p.item()), n_classes=3, teacher=teacher))
    assert equal["share"].item() == pytest.approx(0, abs=1e-6)


def test_nothing_said_adds_no_term(make_model, make_bag):
    student, teacher = make_model(seed=1), make_model(seed=2)
    terms = StudentLoss(StudentSettings())(student, batch_of(make_bag(3), teacher=teacher))
    assert not {"regions", "share"} & set(terms)


def test_inherited_labels_give_way_to_what_is_known(make_model, make_bag):
    model, bag = make_model(seed=1), make_bag(5)
    regions = (Region(np.array([0, 1]), "none"), Region(np.array([3]), "some", 1))
    term = InheritedLabelLoss(OutOfFoldSettings())(model, batch_of(replace(bag, regions=regions)))["inherited_label"]
    logits = model(torch.from_numpy(bag.instances)).instance_logits
    assert_same(model, term, F.cross_entropy(logits, torch.tensor([0, 0, 1, 1, 1])))
