"""The fully convolutional network says of every patch what is said of it when it is cut."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.mil.dense import DenseNetwork

TOLERANCE = 1e-4
# Patches of odd and even side, and of which the poolings drop a row or none.
NETWORKS = [("colon", 27), ("colon", 26), ("colon", 29), ("breast", 32), ("breast", 35), ("lenet5", 28), ("lenet5", 31)]


@pytest.fixture
def network(make_model):
    """A network whose outputs differ from patch to patch by about 1."""

    def make(encoder="colon", side=27, **settings):
        model = make_model(n_classes=3, side=side, encoder=encoder, hidden_dim=24, **settings)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.12)
        return DenseNetwork(model)

    return make


def region_of(network, shape, step, spare=0, seed=0):
    size = [network.span(cells, step) + spare for cells in shape]
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def cut(network, region, step, cells):
    side = network.patch_px
    with torch.no_grad():
        return network.model(torch.stack([region[:, y : y + side, x : x + side] for y, x in (cells * step).tolist()]))


def lattice(rows, cols):
    return torch.cartesian_prod(torch.arange(rows), torch.arange(cols))


def assert_same(output, expected):
    assert expected.instance_logits.std(0).min() > 0.05
    torch.testing.assert_close(output.logits, expected.instance_logits, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(output.scores, expected.scores, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 6, 8, 13])
@pytest.mark.parametrize(("encoder", "side"), NETWORKS)
def test_equals_cut_patches_at_any_step(network, encoder, side, step):
    dense = network(encoder, side)
    region, cells = region_of(dense, (6, 5), step, spare=3), lattice(6, 5)
    assert_same(dense(region, step, cells), cut(dense, region, step, cells))


@pytest.mark.parametrize("step", [1, 4])
def test_only_the_patches_asked_for_in_the_order_asked_for(network, step):
    dense = network()
    region = region_of(dense, (9, 11), step)
    cells = lattice(9, 11)[torch.randperm(99, generator=torch.Generator().manual_seed(1))[:17]]
    cells = torch.cat([cells, cells[:2]])  # one may be asked for twice
    assert_same(dense(region, step, cells), cut(dense, region, step, cells))


@pytest.mark.parametrize("pooling", ["attention", "mean", "max"])
def test_every_pooling_gives_its_scores(network, pooling):
    dense = network(pooling=pooling)
    region, cells = region_of(dense, (4, 4), 4), lattice(4, 4)
    assert_same(dense(region, 4, cells), cut(dense, region, 4, cells))


def test_a_single_patch_and_none(network):
    dense = network()
    region = region_of(dense, (3, 3), 5)
    single = dense(region, 5, torch.tensor([[1, 2]]))
    torch.testing.assert_close(
        single.logits, cut(dense, region, 5, torch.tensor([[1, 2]])).instance_logits, atol=1e-5, rtol=0
    )
    none = dense(region, 5, torch.empty(0, 2, dtype=torch.int64))
    assert (none.logits.shape, none.scores.shape) == ((0, 3), (0,))


def test_more_patches_than_are_connected_at_once(network, monkeypatch):
    monkeypatch.setattr("napari_distill2label.mil.dense.ROWS", 7)
    dense = network()
    region, cells = region_of(dense, (6, 6), 1), lattice(6, 6)
    assert_same(dense(region, 1, cells), cut(dense, region, 1, cells))


def test_dropout_is_off(network):
    dense = network(dropout=0.5)
    region, cells = region_of(dense, (4, 4), 2), lattice(4, 4)
    torch.testing.assert_close(dense(region, 2, cells).logits, dense(region, 2, cells).logits, atol=0, rtol=0)


def test_patches_outside_the_region_are_refused(network):
    dense = network()
    region = region_of(dense, (3, 3), 4)
    for cell in ([3, 0], [0, 3], [-1, 0]):
        with pytest.raises(ValueError, match="reach over the region"):
            dense(region, 4, torch.tensor([[0, 0], cell]))


def test_a_model_on_features_has_no_dense_mode(make_model):
    with pytest.raises(SettingsError, match="no dense mode"):
        DenseNetwork(make_model(features=16))


@pytest.mark.parametrize("encoder", ["colon", "breast", "lenet5"])
@pytest.mark.parametrize("step", [1, 2, 4, 8])
def test_work_is_what_the_convolutions_do(network, encoder, step):
    dense = network(encoder, 32)
    region = region_of(dense, (8, 12), step)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        dense._convolve(region, step, [8, 12])
    assert dense.cost((8, 12), step) == counter.get_total_flops() // 2
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        dense.model.encoder.convolutions(torch.rand(1, 3, 32, 32))
    assert dense.cost_of_patch == counter.get_total_flops() // 2


def test_neighbours_share_their_convolutions(network):
    dense = network()
    cells = 64 * 64
    for step, saved in ((1, 50), (4, 15)):
        assert dense.cost((64, 64), step) < cells * dense.cost_of_patch / saved
