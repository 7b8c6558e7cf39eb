"""Runtimes of frozen encoders: onnxruntime; TorchScript for trusted files; timm with safetensors weights.

All take normalised patches (n, 3, P, P) float32 and give features (n, …) float32. None accesses the network.
"""

import re
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..core.errors import MissingDependencyError, SettingsError
from ..core.messages import Remedy
from ..core.paths import TORCHSCRIPT
from ..core.resource_errors import NO_PRIMITIVE, is_without_reason, says_out_of_memory
from ..mil.device import choose_device, to_device

SUFFIXES = (".onnx", *TORCHSCRIPT, ".safetensors")
# Of those onnxruntime may have, the ones that compute what the processor computes. Others (TensorRT, CoreML) lower the
# precision or build an engine for minutes, and some are listed although nothing stands behind them (Azure).
ACCELERATORS = ("CUDAExecutionProvider", "ROCMExecutionProvider", "DmlExecutionProvider")
OLDEST_TIMM = "1.0.26"  # the first that does not unpickle a checkpoint unless it is told to
LARGEST_ONNX = 2**31  # bytes: protobuf, which ONNX is written in, knows no larger message
# An entry of a tensor kept outside the file: the key "location" and the name of that file, as protobuf writes them.
_LOCATION_KEY = b"\x0a\x08location"
_LOCATION = re.compile(re.escape(_LOCATION_KEY) + rb"\x12([\x01-\x7f])", re.DOTALL)


class Runtime(NamedTuple):
    """An encoder ready to run; `side` (px) and `batch` where its file is fixed to one; `accelerated`: by a GPU."""

    run: Callable[[np.ndarray], np.ndarray]
    side: int | None = None
    batch: int | None = None
    accelerated: bool = False


def open_runtime(
    path: Path, device: str, trusted: bool, timm: str | None = None, arguments: Mapping[str, Any] | None = None
) -> Runtime:
    """Open an encoder's file; `timm` and `arguments` name the network of the weights in a .safetensors file.

    `SettingsError` if it is no usable encoder or must be trusted first, `MissingDependencyError` without the package
    that it needs.
    """
    kind = path.suffix.lower()
    if kind == ".onnx":
        return _onnx(path, device)
    if kind in TORCHSCRIPT:
        return _torchscript(path, device, trusted)
    if kind == ".safetensors":
        return _timm(path, device, timm, arguments or {})
    raise SettingsError(
        f"{path}: frozen encoders are read from {', '.join(SUFFIXES)} files, with a .json of the same name beside them"
    )


def weight_files(path: Path) -> list[Path]:
    """Return the file, and for an ONNX file the files that hold its weights (required beyond 2 GB).

    `SettingsError` if one of them is not in its folder: a file from elsewhere must not name files of this computer.
    """
    if path.suffix.lower() != ".onnx":
        return [path]
    if path.stat().st_size > LARGEST_ONNX:
        raise SettingsError(f"{path}: is larger than an ONNX file can be (2 GB): its weights belong in a second file")
    data = path.read_bytes()
    entries = list(_LOCATION.finditer(data))
    if len(entries) < data.count(_LOCATION_KEY):
        raise SettingsError(f"{path}: keeps weights in another file, whose name cannot be read: export it again")
    names = {data[entry.end() : entry.end() + entry[1][0]].decode("utf-8", "replace") for entry in entries}
    for name in names:
        if Path(name).name != name or not (path.parent / name).is_file():
            raise SettingsError(f"{path}: keeps weights in {name!r}: that file must lie beside it")
    return [path, *(path.parent / name for name in sorted(names))]


def _onnx(path: Path, device: str) -> Runtime:
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependencyError(
            f"{path}: frozen encoders need onnxruntime: pip install 'napari-distill2label[encoders]'"
        ) from None
    options = onnxruntime.SessionOptions()
    # The engine calls from as many threads as there are cores for it, and each computes by itself. onnxruntime would
    # take every core for every call, and keep them busy between two of them.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=_providers(onnxruntime, device))
        (inputs,) = session.get_inputs()
        batch, channels, height, width = (size if isinstance(size, int) and size > 0 else None for size in inputs.shape)
    except ValueError as error:
        raise SettingsError(
            f"{path}: is no encoder of patches: it must take one input (n, 3, side, side) ({error})"
        ) from None
    except Exception as error:  # noqa: BLE001  onnxruntime has a class of its own for each way of failing
        raise SettingsError(f"{path}: is no usable ONNX model ({_reason(error)})") from None
    if channels not in (None, 3) or height != width:
        raise SettingsError(f"{path}: is no encoder of RGB patches: its input is {inputs.shape}")
    dtype = np.float16 if inputs.type == "tensor(float16)" else np.float32
    name = inputs.name

    def run(patches: np.ndarray) -> np.ndarray:
        try:
            features: np.ndarray = session.run(None, {name: patches.astype(dtype, copy=False)})[0]
            return features
        except Exception as error:  # noqa: BLE001
            raise _failure(error, path, patches) from None

    return Runtime(run, height, batch, session.get_providers()[0] in ACCELERATORS)


def _providers(onnxruntime: Any, device: str) -> list[Any]:
    """An accelerator where one is there and the device is not the processor; the processor as a fallback."""
    kind, _, index = device.partition(":")
    found = [name for name in onnxruntime.get_available_providers() if name in ACCELERATORS]
    if kind == "cpu" or not found:
        return ["CPUExecutionProvider"]
    return [(found[0], {"device_id": index or "0"}), "CPUExecutionProvider"]


def _torchscript(path: Path, device: str, trusted: bool) -> Runtime:
    if not trusted:
        raise SettingsError(
            "A TorchScript file holds a program and a pickle, which run when it is opened. Trust it only if you know "
            "who made it, or have it exported to ONNX.",
            file=path,
            remedy=Remedy("set", "inputs.trust_encoder", True),
        )
    place = choose_device(device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated, but a user with such a file cannot change that
            module = torch.jit.load(str(path), map_location=place)
    except (RuntimeError, ValueError, OSError) as error:
        raise SettingsError(f"{path}: is no usable TorchScript model ({_reason(error)})") from None
    return _in_torch(module.eval(), place, path)


def _timm(path: Path, device: str, architecture: str | None, arguments: Mapping[str, Any]) -> Runtime:
    if architecture is None:
        raise SettingsError(
            f"{path}: holds weights alone: say in the .json beside it which network of timm they are of "
            '("timm": "vit_large_patch16_224"), or export it to ONNX'
        )
    timm = _import_timm(path)
    if not timm.is_model(architecture):
        raise SettingsError(f"{path}: the timm installed here has no network {architecture!r}: see timm.list_models()")
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    def made() -> torch.nn.Module:
        network: torch.nn.Module = timm.create_model(architecture, pretrained=False, **{"num_classes": 0, **arguments})
        return network

    place = choose_device(device)
    try:
        with torch.device("meta"):  # nothing is allocated before the file is known to hold as much
            wanted = made().state_dict()
        with safe_open(path, "pt") as file:
            stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        for name, tensor in wanted.items():
            if stored.get(name) != tuple(tensor.shape):
                raise ValueError(f"{name} should be {tuple(tensor.shape)}, and is {stored.get(name, 'not there')}")
        module = made()
        # A published file may hold the classifier that num_classes=0 leaves out; nothing may be missing.
        weights = {name: weight for name, weight in load_file(path).items() if name in wanted}
        module.load_state_dict(weights, strict=True)
    except (SafetensorError, ArithmeticError, AssertionError, RuntimeError, TypeError, ValueError, OSError) as error:
        raise SettingsError(f"{path}: are no weights of timm's {architecture!r} ({_reason(error)})") from None
    return _in_torch(module.eval().to(place), place, path)


def _import_timm(path: Path) -> Any:
    """timm, if it is not older than it may be."""
    install = "pip install 'napari-distill2label[timm]', or export the network to ONNX"
    try:
        found = version("timm")
    except PackageNotFoundError:
        raise MissingDependencyError(f"{path}: needs timm: {install}") from None
    if _numbers(found) < _numbers(OLDEST_TIMM):
        raise MissingDependencyError(f"{path}: needs timm {OLDEST_TIMM} or later, this is {found}: {install}")
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # torchvision, which timm imports, raises one beside another torch
        raise MissingDependencyError(f"{path}: needs timm, which cannot start ({_reason(error)}): {install}") from None
    return timm


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", release)[:3])


def _in_torch(module: torch.nn.Module, place: torch.device, path: Path) -> Runtime:
    @torch.inference_mode()
    def run(patches: np.ndarray) -> np.ndarray:
        try:
            features: torch.Tensor = module(to_device(torch.from_numpy(patches), place))
            return features.float().cpu().numpy()
        except (RuntimeError, torch.jit.Error, AssertionError, AttributeError) as error:
            raise _failure(error, path, patches) from None

    return Runtime(run, accelerated=place.type != "cpu")


def _failure(error: Exception, path: Path, patches: np.ndarray) -> Exception:
    """Return what to raise: memory that does not suffice is no fault of the encoder, fewer patches may fit."""
    if says_out_of_memory(error):
        return MemoryError(f"{path}: out of memory with {len(patches)} patches of {patches.shape[-1]} px")
    if is_without_reason(error):
        return RuntimeError(NO_PRIMITIVE)  # fewer patches may fit
    return SettingsError(f"{path}: cannot encode patches of {patches.shape[-1]} px ({_reason(error)})")


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
