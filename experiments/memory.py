"""Networks that this process has trained: rows that share a teacher or out-of-fold classifiers train them once.

Training depends on nothing but what a `Stage` holds and the validation bags, and comes out the same bit for bit on one
machine. So a stage is known by a digest of all of that, whichever row or settings it comes from.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from napari_distill2label.core.bag import Bag
from napari_distill2label.mil.pipeline import Stage
from napari_distill2label.mil.training import TrainingState

KEPT = 48  # networks, of the rows of one fold; one for the colon images has 5 MB
# Settings that decide what is done with a network, or with what it says, once it is trained.
AFTERWARDS = {"calibrate", "teacher_weight", "smoothing_neighbours"}


class Memory:
    """The last `KEPT` networks, by digest: their weights, and which epoch was taken of which history."""

    def __init__(self) -> None:
        self._networks: OrderedDict[bytes, tuple[dict[str, Tensor], TrainingState]] = OrderedDict()

    def recall(self, digest: bytes, stage: Stage) -> TrainingState | None:
        """Give the stage's network its trained weights; None, and nothing done, if it has not been trained here."""
        if digest not in self._networks:
            return None
        self._networks.move_to_end(digest)
        weights, state = self._networks[digest]
        stage.model.load_state_dict(weights)
        stage.model.eval()
        return state

    def keep(self, digest: bytes, stage: Stage, state: TrainingState) -> None:
        """Remember a network that has just been trained, before anything else is done to it."""
        weights = {name: tensor.detach().cpu().clone() for name, tensor in stage.model.state_dict().items()}
        summary = TrainingState(epoch=state.epoch, best_epoch=state.best_epoch, history=state.history)
        self._networks[digest] = weights, summary
        while len(self._networks) > KEPT:
            self._networks.popitem(last=False)

    def forget(self) -> None:
        """Train everything anew from here on."""
        self._networks.clear()


def digest_of(stage: Stage, valid: Sequence[Bag]) -> bytes:
    """Of all that the training of a stage depends on."""
    digest = hashlib.blake2b()
    model = stage.model
    how = type(stage.loss_function).__name__, stage.settings, stage.seed, str(model.device), torch.get_num_threads()
    for part in _parts([model.settings, model.state_dict(), how, stage.training_bags, valid]):
        digest.update(part)
    return digest.digest()


def _parts(value: Any) -> Iterable[bytes]:
    """The bytes of a value, with the kind, name and shape of everything in it."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        yield f"{value.dtype}{value.shape}".encode()
        yield np.ascontiguousarray(value).data
    elif isinstance(value, BaseModel):
        yield type(value).__name__.encode() + value.model_dump_json(exclude=AFTERWARDS).encode()
    elif is_dataclass(value):
        yield from _parts({field.name: getattr(value, field.name) for field in fields(value)})
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield f"{name}:".encode()
            yield from _parts(inner)
    elif isinstance(value, list | tuple):
        yield f"{len(value)}[".encode()
        for inner in value:
            yield from _parts(inner)
    elif value is None or isinstance(value, str | int | float):
        yield f"{value!r};".encode()
    else:
        raise TypeError(f"a training that depends on a {type(value).__name__} cannot be told from others")
