"""`doctor`: list what is installed, the device, and what is missing and how to get it."""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from ...inference.encoder import ENCODER_HELP
from ..window_check import window_problem

EXTRAS = {
    "napari": ("the window", "gui"),
    "onnxruntime": ("frozen encoders (preset wsi)", "encoders"),
    "h5py": ("features of CLAM and TRIDENT", "encoders"),
    "openslide-python": ("DICOM, MIRAX, Leica, Ventana and Philips slides", "slides"),
    "aiohttp": ("OME-Zarr over https", "slides"),
}
BASE = (
    "numpy",
    "dask",
    "zarr",
    "tifffile",
    "imagecodecs",
    "torch",
    "pydantic",
    "safetensors",
    "pandas",
    "scikit-learn",
)


QT = ("PyQt6", "PySide6", "PyQt5")  # any of them


@dataclass(frozen=True)
class Check:
    """The result of one check. `remedy` says what to do if it is not `ok`."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def doctor() -> list[Check]:
    """Check this installation. Nothing is changed."""
    return [*_packages(), _window(), *_devices(), _formats(), _wsi()]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _packages() -> Iterator[Check]:
    for package in BASE:
        found = _version(package)
        yield Check(package, found is not None, found or "missing", "pip install napari-distill2label")
    for package, (purpose, extra) in EXTRAS.items():
        found = _version(package)
        remedy = f"for {purpose}: pip install 'napari-distill2label[{extra}]'"
        yield Check(package, found is not None, found or "not installed", remedy)
    bindings = [f"{name} {found}" for name in QT if (found := _version(name))]
    remedy = f"for the window: pip install {QT[0]} (or {', '.join(QT[1:])})"
    yield Check("Qt", bool(bindings), ", ".join(bindings) or "not installed", remedy)


def _window() -> Check:
    """Check that a window opens: Qt needs libraries of the system and a display, not only packages."""
    found = window_problem()
    return Check("window", found is None, found.problem if found else "opens", found.remedy if found else "")


def _devices() -> Iterator[Check]:
    import torch

    from ...mil.device import choose_device, compute_dtype

    device = choose_device("auto")
    detail = f"{device}, {torch.get_num_threads()} threads, {str(compute_dtype('auto', device)).removeprefix('torch.')}"
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        detail = f"{torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free, {detail}"
    yield Check("device", True, detail)
    if device.type == "cpu":
        yield Check("GPU", True, "none that torch can use: training runs on the processor, which is enough for crops")


def _formats() -> Check:
    from ...slides.registry import readable_suffixes

    readable, others = readable_suffixes()
    return Check(
        "slide formats",
        not others,
        " ".join(readable) + (f"; not {' '.join(others)}: OpenSlide cannot be loaded" if others else ""),
        "pip install 'napari-distill2label[slides]'; it brings OpenSlide's library along (openslide-bin)",
    )


def _wsi() -> Check:
    """Check that the preset wsi can run: it needs an encoder, which the user provides as a file."""
    ready = importlib.util.find_spec("onnxruntime") is not None
    return Check(
        "whole slides (preset wsi)",
        ready,
        f"ready for your frozen encoder; none is included: {ENCODER_HELP}"
        if ready
        else "needs onnxruntime, and a frozen encoder or features made elsewhere",
        f"pip install 'napari-distill2label[encoders]'; {ENCODER_HELP}",
    )
