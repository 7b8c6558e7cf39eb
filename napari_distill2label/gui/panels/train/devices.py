"""What can compute on this machine, by name and free memory. No Qt; torch is imported when it is asked for."""

import os
from contextlib import suppress
from dataclasses import dataclass

GB = 1e9


@dataclass(frozen=True)
class Device:
    """One place to compute.

    Attributes
    ----------
    name
        As in the settings: auto, cpu, cuda, cuda:1, mps.
    title
        In words.
    free, total
        Bytes of its memory; None where nobody tells.
    """

    name: str
    title: str
    free: int | None = None
    total: int | None = None

    @property
    def memory(self) -> str:
        """'24.1 of 25.4 GB free', or nothing."""
        if self.free is None or self.total is None:
            return ""
        return f"{self.free / GB:.1f} of {self.total / GB:.1f} GB free"


def find_devices() -> list[Device]:
    """All of them, the automatic choice first. Imports torch, which takes a second or two: call it in a thread."""
    import torch

    from ....mil.device import choose_device

    found = [_processor()]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            memory: tuple[int, int] | tuple[None, None] = None, None
            with suppress(RuntimeError):  # a broken driver fails at the first call; the processor still computes
                memory = torch.cuda.mem_get_info(index)
            name = "cuda" if torch.cuda.device_count() == 1 else f"cuda:{index}"
            found.append(Device(name, torch.cuda.get_device_name(index), *memory))
    if torch.backends.mps.is_available():
        total = torch.mps.recommended_max_memory()
        found.append(Device("mps", "Apple GPU", total - torch.mps.driver_allocated_memory(), total))
    kind = choose_device("auto").type
    chosen = next(device for device in found if device.name.startswith(kind))
    return [Device("auto", f"Automatic: {chosen.title}", chosen.free, chosen.total), *found]


def placeholder_devices() -> list[Device]:
    """What can be said before torch is imported: the names, and the processor."""
    return [
        Device("auto", "Automatic (the fastest)"),
        _processor(),
        Device("cuda", "NVIDIA GPU, if there is one"),
        Device("mps", "Apple GPU, if there is one"),
    ]


def _processor() -> Device:
    cores = os.cpu_count() or 1
    title = f"Processor, {cores} core{'s' if cores > 1 else ''}"
    try:
        import psutil
    except ImportError:  # napari brings it; without it there is only no number
        return Device("cpu", title)
    memory = psutil.virtual_memory()
    return Device("cpu", title, memory.available, memory.total)
