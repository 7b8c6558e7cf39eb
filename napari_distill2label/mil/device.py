"""Device, precision and threads of the computation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..core.errors import SettingsError
from ..core.messages import Remedy

FEW_NUMBERS = 200_000  # 91 patches of 27 px: fewer are slower on two threads, even where nothing else runs


def choose_device(name: str = "auto") -> torch.device:
    """Return a device; `auto` takes CUDA, then Apple's MPS, then the CPU. `SettingsError` if it is not available."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    available: dict[str, Callable[[], bool]] = {
        "cpu": lambda: True,
        "mps": torch.backends.mps.is_available,
        "cuda": torch.cuda.is_available,
    }
    kind, _, index = name.partition(":")
    if kind not in available:
        raise SettingsError(f"unknown device {name!r}: use auto, cpu, cuda or mps")
    if not available[kind]() or (index and int(index) >= torch.cuda.device_count()):
        raise SettingsError(
            f"The device {name!r} is not available on this machine.", remedy=Remedy("set", "compute.device", "auto")
        )
    return torch.device(name)


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the number format of the encoder; `auto` takes bfloat16 if the processor supports it, else float32."""
    if precision != "auto":
        dtype: torch.dtype = getattr(torch, precision)
        return dtype
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Without native instructions bfloat16 is emulated and slower than float32.
        native = device.type == "cpu" and bool({"avx512_bf16", "amx_bf16"} & _cpu_features())
    return torch.bfloat16 if native else torch.float32


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return `tensor` on `device`, without waiting for it.

    Only from pinned memory does a copy to CUDA leave the processor free: it then prepares the next step while the GPU
    computes the last one. The values that are read back (at the end of an epoch) wait for all copies.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=device.type == "cuda")


def use_one_thread() -> None:
    """Let torch compute on one thread: several callers then share a machine better.

    Sums also become repeatable whatever the number of processors. The setting holds for the calling thread and for
    threads started later, until `torch.set_num_threads` is called again.
    """
    torch.set_num_threads(1)


@contextmanager
def threads_for(numbers: int) -> Iterator[None]:
    """Let torch compute on one thread where a step has so few `numbers` that threads cost more than they do.

    The data alone decide, never what else the machine does: another number of threads adds in another order, and a
    training that is resumed has to equal one that was never stopped.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if numbers < FEW_NUMBERS else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cpu_features() -> set[str]:
    capabilities = getattr(torch.cpu, "get_capabilities", dict)  # not in older versions of torch
    return {name for name, present in capabilities().items() if present is True}
