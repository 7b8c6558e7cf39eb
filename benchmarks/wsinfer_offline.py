"""WSInfer's command line where it has no network: run by the Python of its own environment, not by ours.

On import it asks a server for its list of models; here the list is empty. And torchvision's wheels do not import beside
a torch without CUDA until the operators they look for are declared; WSInfer does not use them.
"""

import contextlib
from functools import cache

import torch

for operator in ("nms", "qnms"):
    with contextlib.suppress(RuntimeError):  # declared already: torchvision and torch fit each other
        signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        torch.library.define(f"torchvision::{operator}", signature)

from wsinfer_zoo import client  # noqa: E402


@cache
def _no_models(*_: object, **__: object) -> object:
    return client.ModelRegistry(models={})


client.load_registry = _no_models

if __name__ == "__main__":
    from wsinfer.cli.cli import cli

    cli()
