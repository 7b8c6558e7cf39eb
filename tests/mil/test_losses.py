"""Each loss against values worked out by hand."""

from math import log

import pytest
import torch

from napari_distill2label.mil.losses import (
    conditional_entropy,
    cross_entropy,
    kl_divergence,
    log_probabilities,
    reduce_instances,
    target_probabilities,
)

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
    p = log_probabilities(TWO, several=True).exp()
    assert p.shape == (2, 2)
    assert p[0].tolist() == approx(0.5, 0.5)
    assert p[1].tolist() == approx(0.25, 0.75)


def test_temperature_divides_logits():
    # eq. (4): softmax(z / 2) of (0, 2 ln 3) is that of (0, ln 3)
    assert log_probabilities(2 * TWO, temperature=2.0).exp().tolist() == approx(0.25, 0.75)
    assert log_probabilities(2 * TWO, several=True, temperature=2.0)[1].exp().tolist() == approx(0.25, 0.75)
    # softmax((0, ln 3) / 2) = (1, √3) / (1 + √3)
    assert log_probabilities(TWO, temperature=2.0).exp().tolist() == approx(0.3660254, 0.6339746)


def test_cross_entropy_of_a_label():
    assert cross_entropy(torch.tensor([0.0, 1.0]), log_probabilities(TWO)).item() == approx(0.2876821)  # ln 4/3
    assert cross_entropy(torch.tensor([0.0, 0.0, 1.0]), log_probabilities(THREE)).item() == approx(0.4700036)  # ln 8/5


def test_cross_entropy_of_a_soft_target():
    # ½ ln 8 + ¼ ln 4 + ¼ ln 8/5
    assert cross_entropy(torch.tensor([0.5, 0.25, 0.25]), log_probabilities(THREE)).item() == approx(1.5037953)


def test_cross_entropy_of_several_classes():
    target = target_probabilities(torch.tensor([0.0, 1.0]), several=True)
    assert target.tolist() == [[1, 0], [0, 1]]
    # class 0 absent: ln 2; class 1 present: ln 4/3
    assert cross_entropy(target, log_probabilities(TWO, several=True)).tolist() == approx(0.6931472, 0.2876821)
    both = target_probabilities(torch.tensor([1.0, 1.0]), several=True)
    assert cross_entropy(both, log_probabilities(TWO, several=True)).tolist() == approx(0.6931472, 0.2876821)


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
    even = log_probabilities(torch.zeros(2), several=True)
    # class 0: even against even; class 1: ¼ ln ½ + ¾ ln 3/2
    assert kl_divergence(log_probabilities(TWO, several=True), even).tolist() == approx(0.0, 0.1308120)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 80.0])
def test_kl_divergence_of_equals_is_zero(several, scale):
    log_p = log_probabilities(scale * torch.randn(20, 3, generator=torch.manual_seed(0)), several)
    assert kl_divergence(log_p, log_p).abs().max() == 0


def test_kl_divergence_is_never_negative():
    p, q = (log_probabilities(torch.randn(500, 4, generator=torch.manual_seed(seed))) for seed in (1, 2))
    assert kl_divergence(p, q).min() >= 0


def test_conditional_entropy():
    assert conditional_entropy(log_probabilities(TWO)).item() == approx(0.5623351)  # ¼ ln 4 + ¾ ln 4/3
    assert conditional_entropy(log_probabilities(THREE)).item() == approx(0.9002561)
    assert conditional_entropy(log_probabilities(torch.zeros(3))).item() == approx(1.0986123)  # ln 3, its maximum
    assert conditional_entropy(log_probabilities(TWO, several=True)).tolist() == approx(0.6931472, 0.5623351)


def test_conditional_entropy_of_a_sure_answer_is_zero_and_has_a_gradient():
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
