"""What is fast against what is plain: the textbook of `benchmarks`, in float32, on the same weights."""

import pytest
import torch

from benchmarks.textbook import Textbook
from napari_distill2label.core.settings import TeacherSettings
from napari_distill2label.mil.losses import TeacherLoss
from napari_distill2label.mil.training import make_optimiser, predict_bag
from napari_distill2label.mil.training_bags import BagBatch, TrainingBag

CPU = torch.device("cpu")
SIDE = 25  # every encoder takes it, and some pooling leaves a row out
# Without what is drawn: a ball of radius 0, the whole bag as its subset, no noise.
FIXED = {"lambda_n": 0.0, "perturbation_radius": 0.0, "subset_fraction": 1.0}


@pytest.fixture
def make_unsure(make_model):
    """Networks with torch's own first weights: those of `make_model` are so sure that gradients vanish."""

    def make(**settings):
        model = make_model(side=SIDE, **settings)
        torch.manual_seed(1)
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        return model

    return make


@pytest.mark.parametrize(
    "settings", [{"lambda_n": 0.0, "lambda_d": 0.0, "lambda_e": 0.0}, FIXED], ids=["plain MIL", "VAT"]
)
@pytest.mark.parametrize("encoder", ["colon", "breast", "lenet5"])
def test_loss_and_gradients_are_those_of_the_textbook(make_unsure, make_bag, settings, encoder):
    model, bag = make_unsure(encoder=encoder), make_bag(7, side=SIDE)
    settings = TeacherSettings(**settings)
    textbook = Textbook(model, settings)
    loss_function = TeacherLoss(settings)
    terms = loss_function(model, BagBatch.of([TrainingBag.of(bag, 2)], CPU))
    ours = sum(loss_function.weights[name] * term for name, term in terms.items())
    patches = torch.from_numpy(bag.instances).float() / 255
    theirs = (textbook.vat_loss if settings.lambda_d else textbook.mil_loss)(patches, torch.tensor([1]))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    ours.backward()
    theirs.backward()
    for (name, mine), other in zip(model.named_parameters(), textbook.model.parameters(), strict=True):
        assert torch.allclose(mine.grad, other.grad, rtol=1e-3, atol=1e-6), name
    assert model.encoder.convolutions[0].weight.grad.abs().max() > 1e-4  # there is something to compare


def test_a_step_on_the_same_bag_leaves_the_same_weights(make_model, make_bag):
    model, bag = make_model(), make_bag(9)
    settings = TeacherSettings(lambda_n=0.0, lambda_d=0.0, lambda_e=0.0, learning_rate=1e-3)
    textbook, optimiser = Textbook(model, settings), make_optimiser(model, settings)
    TeacherLoss(settings)(model, BagBatch.of([TrainingBag.of(bag, 2)], CPU))["class"].backward()
    optimiser.step()
    textbook.step(bag, textbook.mil_loss)
    for (name, mine), other in zip(model.named_parameters(), textbook.model.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-5), name


def test_outputs_are_those_of_the_textbook(make_model, make_bag):
    model, bag = make_model(dropout=0.5), make_bag(5)
    whole, single = Textbook(model, TeacherSettings()).probabilities(bag)
    output = predict_bag(model, bag)
    assert output.bag_logits.softmax(0)[1].item() == pytest.approx(whole, abs=1e-6)
    assert output.instance_logits.softmax(1)[:, 1].tolist() == pytest.approx(single.tolist(), abs=1e-6)


@pytest.mark.parametrize("encoder", ["colon", "breast", "lenet5"])
def test_a_step_in_bfloat16_goes_the_way_of_float32(make_unsure, make_bag, encoder):
    """The layers of bfloat16 training are others: its gradients point where those of float32 do."""
    model, bag = make_unsure(encoder=encoder), make_bag(12, side=SIDE)
    loss_function = TeacherLoss(TeacherSettings(lambda_n=0.0, lambda_d=0.0, lambda_e=0.0))
    directions = []
    for dtype in (torch.float32, torch.bfloat16):
        model.dtype = dtype
        model.zero_grad()
        model.train()
        loss_function(model, BagBatch.of([TrainingBag.of(bag, 2)], CPU))["class"].backward()
        directions.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert torch.nn.functional.cosine_similarity(*directions, dim=0) > 0.99
