"""What to try after memory ran out. No Qt."""

import sys

from ...core.settings import Settings

SMALLEST_BAG = 64  # patches: fewer say too little of a slide


def is_accelerator(device: str) -> bool:
    """Does `device` ("auto", "cuda:1", …) name a GPU on this computer? Asked after work that has imported torch."""
    torch = sys.modules.get("torch")
    if device != "auto" or torch is None:
        return device.startswith(("cuda", "mps"))
    return bool(torch.cuda.is_available() or torch.backends.mps.is_available())


def on_cpu(settings: Settings) -> Settings | None:
    """The same on the processor; None if that is where it was."""
    return settings.model_copy(update={"device": "cpu"}) if is_accelerator(settings.device) else None


def less_memory(settings: Settings) -> tuple[str, Settings]:
    """(what to call it, settings) of a training that ran out of memory: on the processor, else half as much at once."""
    if cpu := on_cpu(settings):
        return "Try again on the processor (CPU)", cpu
    halved = {}
    for name in ("teacher", "oof", "student"):
        own = getattr(settings, name)
        if own.batch_size > 1:
            change = {"batch_size": own.batch_size // 2}
        else:
            change = {"max_patches_per_bag": max(SMALLEST_BAG, own.max_patches_per_bag // 2)}
        halved[name] = own.model_copy(update=change)
    return "Try again with half as many patches at once", settings.model_copy(update=halved)
