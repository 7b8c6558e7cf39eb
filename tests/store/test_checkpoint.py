import json
import struct

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from napari_distill2label.core.errors import BundleError
from napari_distill2label.core.settings import ArchitectureSettings
from napari_distill2label.mil.model import MILModel
from napari_distill2label.mil.training import TrainingState
from napari_distill2label.store.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def state():
    torch.manual_seed(0)
    convolution = torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last)
    weights = {"encoder.weight": convolution, "head.bias": torch.randn(2)}
    slots = {
        "step": torch.tensor(7.0),
        "exp_avg": torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last),
    }
    history = [{"epoch": 1, "loss": 0.1 + 0.2, "valid_loss": None}, {"epoch": 2, "loss": 1e-17, "valid_loss": 0.5}]
    return TrainingState(
        2, weights, {0: slots, 10: {"step": torch.tensor(1.0)}}, {"cpu": torch.get_rng_state()}, 2, weights, history
    )


def test_a_state_survives_to_the_bit(state, tmp_path):
    path = save_checkpoint(tmp_path / "checkpoints" / "teacher.safetensors", state)
    again = load_checkpoint(path)
    assert (again.epoch, again.best_epoch, again.history) == (state.epoch, state.best_epoch, state.history)
    for group in ("weights", "best_weights", "random"):
        mine, others = getattr(state, group), getattr(again, group)
        assert mine.keys() == others.keys()
        assert all(torch.equal(mine[name], others[name]) and mine[name].dtype == others[name].dtype for name in mine)
    assert again.optimiser.keys() == {0, 10}
    assert torch.equal(again.optimiser[0]["exp_avg"], state.optimiser[0]["exp_avg"])
    assert again.optimiser[0]["step"].shape == ()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_checkpoint_is_replaced_whole(state, tmp_path):
    path = save_checkpoint(tmp_path / "c.safetensors", state)
    state.epoch = 3
    save_checkpoint(path, state)
    assert load_checkpoint(path).epoch == 3


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(state, tmp_path):
    path = save_checkpoint(tmp_path / "c.safetensors", state)
    state.history = [{"epoch": object()}]
    with pytest.raises(TypeError):
        save_checkpoint(path, state)
    assert load_checkpoint(path).epoch == 2
    assert [file.name for file in tmp_path.iterdir()] == ["c.safetensors"]


@pytest.mark.parametrize("kept", [0, 4, 9, 200, 2000, -1])
def test_a_truncated_checkpoint_is_one_plain_line(state, tmp_path, kept):
    path = save_checkpoint(tmp_path / "c.safetensors", state)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BundleError, match=r"^[^\n]*c\.safetensors: The checkpoint is incomplete[^\n]*$"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "about",
    [
        None,
        "",
        "3",
        "[]",
        "null",
        "{}",
        '{"version": 2}',
        '{"version": 1}',
        "[" * 100_000,
        '{"version": 1, "epoch": 1}',
    ],
)
def test_a_file_of_another_kind_is_one_plain_line(tmp_path, about):
    path = tmp_path / "c.safetensors"
    save_file({"weights/a": torch.zeros(2)}, path, metadata=None if about is None else {"state": about})
    with pytest.raises(BundleError, match="The checkpoint is incomplete"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["strange/a", "optimiser/first/step"])
def test_strange_tensors_are_refused(state, tmp_path, name):
    path = save_checkpoint(tmp_path / "c.safetensors", state)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({name: torch.zeros(2)}, path, metadata=metadata)
    assert json.loads(metadata["state"])["epoch"] == 2
    with pytest.raises(BundleError):
        load_checkpoint(path)


def test_a_missing_checkpoint(tmp_path):
    with pytest.raises(BundleError, match=r"no\.safetensors: The checkpoint is incomplete"):
        load_checkpoint(tmp_path / "no.safetensors")


def test_a_state_that_is_not_finite_takes_no_good_one_s_place(state, tmp_path):
    path = save_checkpoint(tmp_path / "c.safetensors", state)
    before = path.read_bytes()
    state.weights["head.bias"][0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        save_checkpoint(path, state)
    state.weights["head.bias"][0] = 0
    state.history[-1]["loss"] = float("inf")
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(path, state)
    assert path.read_bytes() == before


def with_header(path, change):
    """The checkpoint with `change(about)`, and the digest that it had."""
    with safe_open(path, framework="pt") as file:
        about, kept = json.loads(file.metadata()["state"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(about)
    save_file(kept, path, metadata={"state": json.dumps(about)})


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.update(epoch=1),
        lambda about: about.update(best_epoch=1),
        lambda about: about.update(taught_by="somebody else"),
        lambda about: about["history"][0].update(loss=0.2),
        lambda about: about.update(version=1),
        lambda about: about.update(sha256="0" * 64),
        lambda about: about.pop("sha256"),
    ],
)
def test_an_altered_header_is_noticed(state, tmp_path, change):
    path = save_checkpoint(tmp_path / "c.safetensors", state)
    with_header(path, change)
    with pytest.raises(BundleError, match=r"its digest is another|its epochs are none"):
        load_checkpoint(path)


def test_the_same_state_is_the_same_bytes(state, tmp_path):
    one, other = (save_checkpoint(tmp_path / name, state).read_bytes() for name in ("a.safetensors", "b.safetensors"))
    assert one == other


def test_every_altered_number_is_noticed(state, tmp_path):
    path = save_checkpoint(tmp_path / "c.safetensors", state)
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    at = range(8 + length, len(whole), 97)
    assert len(at) > 50
    for place in at:
        altered = bytearray(whole)
        altered[place] ^= 0x20
        path.write_bytes(altered)
        with pytest.raises(BundleError, match=r"digest|not finite"):
            load_checkpoint(path)


def test_a_checkpoint_of_version_1_has_no_digest_and_is_read_where_it_is_plausible(state, tmp_path):
    path = save_checkpoint(tmp_path / "c.safetensors", state)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    about = {"version": 1, "epoch": 2, "best_epoch": 2, "history": state.history}
    save_file(tensors, path, metadata={"state": json.dumps(about)})
    assert load_checkpoint(path).history == state.history
    assert load_checkpoint(path).teacher_digest == ""
    for wrong in ({"epoch": 0}, {"best_epoch": 3}, {"epoch": True}, {"history": [1]}, {"history": [{"loss": 1e999}]},
                  {"history": [{"loss": 10**400}]}):  # fmt: skip
        save_file(tensors, path, metadata={"state": json.dumps(about | wrong)})
        with pytest.raises(BundleError, match="The checkpoint is incomplete"):
            load_checkpoint(path)
    save_file(tensors | {"weights/head.bias": torch.tensor([0, float("inf")])}, path, {"state": json.dumps(about)})
    with pytest.raises(BundleError, match="not finite"):
        load_checkpoint(path)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    def network(hidden):
        return MILModel(ArchitectureSettings(hidden_dim=hidden, attention_dim=4), 2, (3, 12, 12))

    def state_of(model):
        weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        slots = {0: {"exp_avg": torch.zeros_like(next(model.parameters())), "step": torch.tensor(1.0)}}
        return TrainingState(1, weights, slots, {"cpu": torch.get_rng_state()}, 1, weights, [{"epoch": 1, "loss": 0.5}])

    path = save_checkpoint(tmp_path / "c.safetensors", state_of(network(8)))
    assert load_checkpoint(path, network(8)).epoch == 1
    with pytest.raises(BundleError, match=r"c\.safetensors: The checkpoint is incomplete \(it is of another network\)"):
        load_checkpoint(path, network(9))
    state = state_of(network(8))
    state.optimiser[0]["exp_avg"] = torch.zeros(3)
    with pytest.raises(BundleError, match="its optimiser is of another network"):
        load_checkpoint(save_checkpoint(path, state), network(8))
