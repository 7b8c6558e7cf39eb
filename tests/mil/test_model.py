"""The three facts of MILModel, and its inputs and outputs."""

import numpy as np
import pytest
import torch

from napari_distill2label.core.bag import Bag
from napari_distill2label.mil import model as module
from napari_distill2label.mil.model import feature_statistics
from napari_distill2label.mil.pooling import POOLINGS

KINDS = [
    pytest.param(
        {"pooling": pooling, "multi_label": multi_label, "features": features}, id=f"{pooling}-{multi_label}-{features}"
    )
    for pooling in POOLINGS
    for multi_label in (False, True)
    for features in (None, 6)
]


def instances(bag: Bag) -> torch.Tensor:
    return torch.from_numpy(bag.instances)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_attention_is_inert_for_a_bag_of_one(make_model, make_bag, kind):
    model = make_model(n_classes=3, **kind).eval()
    bag = instances(make_bag(1, features=kind["features"]))
    before = model(bag)
    assert before.attention.tolist() == [1.0]
    assert torch.allclose(before.bag_logits, before.instance_logits, atol=1e-6)
    for parameter in model.pooling.parameters():
        parameter.normal_()
    assert torch.equal(model(bag).bag_logits, before.bag_logits)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_bag_logit_is_the_attention_weighted_mean_of_the_instance_logits(make_model, make_bag, kind):
    model = make_model(n_classes=3, **kind).eval()
    output = model(instances(make_bag(9, features=kind["features"])))
    assert output.attention.shape == (9,)
    assert output.attention.min() >= 0
    assert output.attention.sum().item() == pytest.approx(1, abs=1e-6)
    assert torch.allclose(output.bag_logits[0], output.attention @ output.instance_logits, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_order_of_instances_does_not_matter(make_model, make_bag, kind):
    model = make_model(n_classes=3, **kind).eval()
    bag = instances(make_bag(11, features=kind["features"]))
    order = torch.randperm(11, generator=torch.manual_seed(3))
    output, shuffled = model(bag), model(bag[order])
    assert torch.allclose(output.bag_logits, shuffled.bag_logits, atol=1e-5)
    assert torch.allclose(output.instance_logits[order], shuffled.instance_logits, atol=1e-5)
    assert torch.allclose(output.attention[order], shuffled.attention, atol=1e-5)
    assert torch.allclose(output.scores[order], shuffled.scores, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_ragged_bags_give_the_output_of_single_bags(make_model, make_bag, kind):
    model = make_model(n_classes=3, **kind).eval()
    bags = [instances(make_bag(k, seed=k, features=kind["features"])) for k in (1, 7, 4)]
    together = model(torch.cat(bags), [1, 7, 4])
    assert together.bag_logits.shape == (3, 3)
    for index, bag in enumerate(bags):
        alone = model(bag)
        start = (0, 1, 8)[index]
        assert torch.allclose(together.bag_logits[index], alone.bag_logits[0], atol=1e-5)
        assert torch.allclose(together.attention[start : start + len(bag)], alone.attention, atol=1e-5)


@torch.no_grad()
def test_gated_attention_is_equation_2(make_model):
    model = make_model(pooling="gated")
    h = torch.randn(5, 8, generator=torch.manual_seed(0))
    pool = model.pooling
    gate = torch.tanh(h @ pool.V.weight.T + pool.V.bias) * torch.sigmoid(h @ pool.U.weight.T + pool.U.bias)
    score = gate @ pool.w.weight[0] + pool.w.bias
    output = model.classify(h, [5])
    assert torch.allclose(output.scores, score, atol=1e-6)
    assert torch.allclose(output.attention, score.exp() / score.exp().sum(), atol=1e-6)
    pooled = sum(a * feature for a, feature in zip(output.attention, h, strict=True))  # eq. (1)
    assert torch.allclose(output.bag_logits[0], model.head(pooled), atol=1e-5)


@torch.no_grad()
def test_plain_attention_has_no_gate_and_mean_no_weights(make_model):
    model = make_model(pooling="attention")
    assert not hasattr(model.pooling, "U")
    assert make_model(pooling="mean").classify(torch.randn(4, 8), [4]).attention.tolist() == [0.25] * 4
    assert list(make_model(pooling="mean").pooling.parameters()) == []


@torch.no_grad()
def test_max_pooling_takes_the_most_positive_instance(make_model):
    model = make_model(pooling="max", n_classes=3)
    output = model.classify(torch.randn(6, 8, generator=torch.manual_seed(4)), [6])
    most = (output.instance_logits[:, 1:].amax(1) - output.instance_logits[:, 0]).argmax()
    assert output.attention.tolist() == [float(k == most) for k in range(6)]
    assert torch.allclose(output.bag_logits[0], output.instance_logits[most], atol=1e-6)


def test_raw_instances_become_unit_range_and_are_not_changed(make_model, make_bag):
    model = make_model()
    raw = instances(make_bag(3))
    unit = model.to_unit_range(raw)
    assert unit.dtype == torch.float32
    assert torch.allclose(unit, raw.float() / 255)
    # a float tensor that needs neither copy nor conversion is the caller's still
    same = raw.float().contiguous(memory_format=torch.channels_last)
    before = same.clone()
    assert torch.allclose(model.to_unit_range(same), unit)
    assert torch.equal(same, before)


def test_normalisation_is_that_of_the_training_bags(make_model, make_bag):
    model = make_model()
    bags = [make_bag(5, seed=1), make_bag(9, seed=2)]
    model.fit_normalisation(bags)
    pixels = np.concatenate([bag.instances for bag in bags]) / 255
    assert model.mean.tolist() == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert model.std.tolist() == pytest.approx(pixels.std((0, 2, 3)).tolist(), abs=1e-6)
    assert {"mean", "std"} <= set(model.state_dict())
    normalised = (
        model.to_unit_range(torch.from_numpy(np.concatenate([bag.instances for bag in bags])))
        - model.mean.view(1, -1, 1, 1)
    ) / model.std.view(1, -1, 1, 1)
    assert normalised.mean().item() == pytest.approx(0, abs=1e-4)


def test_normalisation_of_features_and_of_what_does_not_vary(make_model, make_bag):
    model = make_model(features=6)
    bags = [make_bag(5, seed=1, features=6), make_bag(9, seed=2, features=6)]
    for bag in bags:
        bag.instances[:, 2] = 7
    model.fit_normalisation(bags)
    stacked = np.concatenate([bag.instances for bag in bags])
    assert model.mean.tolist() == pytest.approx(stacked.mean(0).tolist(), abs=1e-5)
    assert model.std[2].item() == 0
    assert model.std[0].item() == pytest.approx(stacked.std(0)[0], abs=1e-5)
    assert model(torch.from_numpy(stacked)).bag_logits.isfinite().all()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@torch.no_grad()
def test_encoding_normalises_every_channel_by_its_own(make_model, layout):
    model = make_model().eval()
    model.mean.copy_(torch.tensor([0.1, 0.5, 0.8]))
    model.std.copy_(torch.tensor([0.3, 0.2, 0.05]))
    patches = torch.rand(4, 3, 12, 14, generator=torch.manual_seed(0)).contiguous(memory_format=layout)
    expected = (patches - model.mean.view(1, 3, 1, 1)) / model.std.view(1, 3, 1, 1)
    assert torch.allclose(model.normalise(patches), expected, atol=1e-6)
    square = patches[..., :12]
    assert torch.allclose(model.encode(square), model.encoder(expected[..., :12]), atol=1e-5)
    model.dtype = torch.bfloat16
    assert model.encode(square).dtype == torch.float32


@torch.no_grad()
def test_encoding_normalises_every_feature_by_its_own(make_model):
    model = make_model(features=3).eval()
    model.mean.copy_(torch.tensor([1.0, 5.0, -8.0]))
    model.std.copy_(torch.tensor([3.0, 2.0, 0.5]))
    features = torch.randn(4, 3, generator=torch.manual_seed(0))
    expected = model.encoder((features - model.mean) / model.std)
    assert torch.allclose(model.encode(model.to_unit_range(features)), expected, atol=1e-5)


@torch.no_grad()
def test_features_in_units_are_as_0_to_1_as_images(make_model, make_bag):
    model = make_model(features=4)
    bags = [make_bag(3000, seed=seed, features=4) for seed in (1, 2)]
    for bag in bags:
        bag.instances[:] = bag.instances * np.float32([1, 1000, 0.01, 0]) + np.float32([0, -5, 100, 4])
    model.fit_normalisation(bags)
    unit = torch.cat([model.to_unit_range(torch.from_numpy(bag.instances)) for bag in bags])
    # The mean and the deviation of a variable that is uniform in 0–1; a feature that never varies says nothing.
    assert unit.mean(0).tolist() == pytest.approx([0.5] * 4, abs=1e-3)
    assert unit.std(0).tolist() == pytest.approx([12**-0.5] * 3 + [0], abs=2e-3)
    normalised = model.normalise(unit)
    assert normalised.std(0).tolist() == pytest.approx([1, 1, 1, 0], abs=1e-2)
    assert model.normalise(torch.rand(50, 4))[:, 3].abs().max() == 0  # whatever noise says of it


def test_statistics_of_features_are_those_of_all_bags_at_once_and_copy_none(make_bag, monkeypatch):
    bags = [make_bag(n, seed=n, features=3) for n in (5, 70, 1)]
    for bag in bags:
        bag.instances[:] += 300
    monkeypatch.setattr(module, "ROWS", 16)
    mean, std = feature_statistics(bags)
    stacked = np.concatenate([bag.instances for bag in bags]).astype(np.float64)
    np.testing.assert_allclose(mean, stacked.mean(0), rtol=1e-6)
    np.testing.assert_allclose(std, stacked.std(0), rtol=1e-4)


def test_one_output_serves_every_bag_made_of_the_same_instances(make_model):
    model = make_model(n_classes=3)
    features = torch.randn(9, 8, generator=torch.manual_seed(0))
    outputs = model.classify_instances(features)
    index = torch.tensor([7, 0, 3, 3])
    together = model.pool(outputs.subset(index), [1, 3])
    for mine, other in zip(together, model.classify(features[index], [1, 3]), strict=True):
        assert torch.allclose(mine, other, atol=1e-5)
    whole = model.pool(type(outputs).cat(outputs.split([4, 5])), [9])
    assert torch.equal(whole.bag_logits, model.classify(features, [9]).bag_logits)


def test_probabilities_are_softmax_or_a_sigmoid_each(make_model):
    logits = torch.tensor([[0.0, np.log(3)]])
    assert make_model().probabilities(logits).tolist()[0] == pytest.approx([0.25, 0.75])
    assert make_model(multi_label=True).probabilities(logits).tolist()[0] == pytest.approx([0.5, 0.75])


@torch.no_grad()
def test_bfloat16_gives_nearly_the_same_output_and_in_float32(make_model, make_bag):
    model = make_model().eval()
    bag = instances(make_bag(6))
    exact = model(bag)
    model.dtype = torch.bfloat16
    rough = model(bag)
    assert rough.bag_logits.dtype == torch.float32
    assert not torch.equal(exact.instance_logits, rough.instance_logits)
    assert torch.allclose(exact.bag_logits, rough.bag_logits, atol=0.1)


@torch.no_grad()
def test_cuda_gives_the_output_of_the_cpu(cuda_device, make_model, make_bag, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    for pooling in POOLINGS:
        model = make_model(pooling=pooling).eval()
        bag = instances(make_bag(20))
        on_cpu = model(bag, [12, 8])
        on_cuda = model.to(cuda_device)(bag, [12, 8])
        for cpu, cuda in zip(on_cpu, on_cuda, strict=True):
            assert cuda.device.type == "cuda"
            assert torch.allclose(cpu, cuda.cpu(), atol=1e-4), pooling
