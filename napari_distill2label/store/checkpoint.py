"""A training state as one safetensors file, optimiser and random numbers included; its history is in the header.

The header also holds a digest of everything in the file (`store.files.seal` says what that is good for). Files of
version 1 have none; they are read where they are plausible.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..core.errors import BundleError
from ..mil.model import MILModel
from ..mil.training import TrainingState, all_finite
from .files.atomic import write_bytes
from .files.seal import SEAL, digest_of, is_number

VERSION = 2
VERSIONS = (1, VERSION)  # that can be read
GROUPS = ("weights", "best", "optimiser", "random")


def save_checkpoint(path: str | os.PathLike[str], state: TrainingState) -> "os.PathLike[str]":
    """Write `state` atomically. `ValueError` if a number in it is not finite: it must not replace a good one."""
    tensors: dict[str, Tensor] = {
        **{f"weights/{name}": tensor for name, tensor in state.weights.items()},
        **{f"best/{name}": tensor for name, tensor in state.best_weights.items()},
        **{f"optimiser/{i}/{slot}": value for i, slots in state.optimiser.items() for slot, value in slots.items()},
        **{f"random/{device}": value for device, value in state.random.items()},
    }
    if not all_finite(tensors):
        raise ValueError(f"{path}: a state that is not finite is not kept")
    # Weights of the best epoch are often those of this one; safetensors wants every tensor to own its memory, and in
    # the order of its axes (convolutions are channels_last).
    tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    about = {
        "version": VERSION,
        "epoch": state.epoch,
        "best_epoch": state.best_epoch,
        "taught_by": state.teacher_digest,
        "history": state.history,
        "restarts": state.restarts,
    }
    about[SEAL] = digest_of_tensors(tensors, digest_of(about))
    return write_bytes(path, save(tensors, {"state": json.dumps(about, allow_nan=False)}))


def load_checkpoint(path: str | os.PathLike[str], model: MILModel | None = None) -> TrainingState:
    """Inverse of `save_checkpoint`.

    `BundleError` if the file is missing, truncated, altered, of another kind, or of another network than `model`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        _check_plausible(about)
        seal = about.pop(SEAL, None)
        if (seal is not None or about["version"] > 1) and seal != digest_of_tensors(tensors, digest_of(about)):
            raise ValueError("it was altered: its digest is another")
        state = _state(about, tensors)
        if model is not None:
            _check_fits(state, model)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise BundleError(f"The checkpoint is incomplete ({reason}).", file=path) from None
    return state


def digest_of_tensors(tensors: Mapping[str, Tensor], also: str = "") -> str:
    """SHA-256 of tensors with their names, kinds and shapes, and of a text that belongs to them."""
    digest = hashlib.sha256(f"{also}\0".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode("utf-8", "surrogatepass"))
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_plausible(about: dict[str, Any]) -> None:
    """`ValueError`, `TypeError`, `KeyError` if what the header says of the state is not plausible."""
    if about["version"] not in VERSIONS:
        raise ValueError(f"version {about['version']!r}, this program reads {VERSION}")
    epoch, best, history = about["epoch"], about["best_epoch"], about["history"]
    if type(epoch) is not int or type(best) is not int or not 1 <= best <= epoch:
        raise ValueError("its epochs are none")
    if not isinstance(about.get("taught_by", ""), str):
        raise ValueError("its teachers are none")
    if type(restarts := about.get("restarts", 0)) is not int or restarts < 0:
        raise ValueError("its restarts are none")
    if not isinstance(history, list) or not all(isinstance(row, dict) for row in history):
        raise ValueError("its history is none")
    numbers = [value for row in history for value in row.values() if value is not None]
    if not all(map(is_number, numbers)):
        raise ValueError("its losses are not finite")


def _state(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> TrainingState:
    groups: dict[str, dict[str, Tensor]] = {group: {} for group in GROUPS}
    for name, tensor in tensors.items():
        group, _, rest = name.partition("/")
        groups[group][rest] = tensor
    if not all_finite(tensors):
        raise ValueError("it holds numbers that are not finite")
    optimiser: dict[int, dict[str, Tensor]] = {}
    for name, value in groups["optimiser"].items():
        index, _, slot = name.partition("/")
        optimiser.setdefault(int(index), {})[slot] = value
    return TrainingState(
        about["epoch"],
        groups["weights"],
        optimiser,
        groups["random"],
        about["best_epoch"],
        groups["best"],
        about["history"],
        about.get("taught_by", ""),
        about.get("restarts", 0),
    )


def _check_fits(state: TrainingState, model: MILModel) -> None:
    """`ValueError` if the state is one of another network."""
    expected = {name: (tensor.shape, tensor.dtype) for name, tensor in model.state_dict().items()}
    for weights in (state.weights, state.best_weights):
        if {name: (tensor.shape, tensor.dtype) for name, tensor in weights.items()} != expected:
            raise ValueError("it is of another network")
    shapes = [parameter.shape for parameter in model.parameters()]
    for index, slots in state.optimiser.items():
        if not 0 <= index < len(shapes) or any(value.ndim and value.shape != shapes[index] for value in slots.values()):
            raise ValueError("its optimiser is of another network")
