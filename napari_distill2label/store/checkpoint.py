"""A training state as one safetensors file, optimiser and random numbers included; its history is in the header."""

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..core.errors import BundleError
from ..mil.training import TrainingState
from .files import atomic_path

VERSION = 1


def save_checkpoint(path: str | os.PathLike[str], state: TrainingState) -> Path:
    """Write `state` whole or not at all."""
    tensors: dict[str, Tensor] = {
        **{f"weights/{name}": tensor for name, tensor in state.weights.items()},
        **{f"best/{name}": tensor for name, tensor in state.best_weights.items()},
        **{f"optimiser/{i}/{slot}": value for i, slots in state.optimiser.items() for slot, value in slots.items()},
        **{f"random/{device}": value for device, value in state.random.items()},
    }
    # Weights of the best epoch are often those of this one; safetensors wants every tensor to own its memory, and in
    # the order of its axes (convolutions are channels_last).
    tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    about = {"version": VERSION, "epoch": state.epoch, "best_epoch": state.best_epoch, "history": state.history}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"state": json.dumps(about)})
    return Path(path)


def load_checkpoint(path: str | os.PathLike[str]) -> TrainingState:
    """Inverse of `save_checkpoint`. `BundleError` if the file is missing, truncated or of another kind."""
    groups: dict[str, dict[str, Tensor]] = {"weights": {}, "best": {}, "optimiser": {}, "random": {}}
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["state"])
            for name in file.keys():  # noqa: SIM118 (not a dict)
                group, _, rest = name.partition("/")
                groups[group][rest] = file.get_tensor(name)
        if about["version"] != VERSION:
            raise ValueError(f"version {about['version']}, this program reads {VERSION}")
        optimiser: dict[int, dict[str, Tensor]] = {}
        for name, value in groups["optimiser"].items():
            index, _, slot = name.partition("/")
            optimiser.setdefault(int(index), {})[slot] = value
        return TrainingState(
            about["epoch"], groups["weights"], optimiser, groups["random"],
            about["best_epoch"], groups["best"], about["history"],
        )  # fmt: skip
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise BundleError(
            f"{path}: is no whole checkpoint ({error}); delete it, and --resume trains this model anew"
        ) from None
