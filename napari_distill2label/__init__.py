"""napari-distill2label: patch labels from slide labels.

    import napari_distill2label as d2l

    cohort = d2l.Cohort.read("cohort.csv")
    run = d2l.train(cohort, "run", d2l.build_settings("colon"))
    maps = d2l.predict(run, cohort, "out")

Names are imported when they are used: importing the package pulls in neither torch nor Qt. For research use only.
"""

from importlib import import_module
from typing import TYPE_CHECKING

_HOMES = {
    "Bag": "core.bag",
    "Compute": "core.inputs",
    "Cohort": "store.cohort",
    "CohortSlide": "store.cohort",
    "Distill2LabelError": "core.errors",
    "Encoder": "core.inputs",
    "Inputs": "core.inputs",
    "PatchGrid": "core.geometry",
    "PatchMap": "store.maps.patch_map",
    "PatchPoints": "core.geometry",
    "PromiseRequest": "workflow.promise",
    "RegionOptions": "exporters.merged_regions",
    "Run": "store.run",
    "Settings": "core.settings",
    "SlideError": "core.errors",
    "TissueRegions": "core.inputs",
    "build_settings": "core.presets",
    "prepare_dataset": "api",
    "convert": "api",
    "demo": "api",
    "draw_sample": "api",
    "doctor": "workflow.commands.doctor",
    "evaluate": "api",
    "export": "api",
    "export_model": "api",
    "extract_features": "api",
    "get_session": "gui",
    "k_folds": "store.splits",
    "load_bundle": "store.bundle",
    "open_slide": "slides.registry",
    "predict": "api",
    "recalibrate": "api",
    "segment_tissue": "api",
    "train": "api",
}
__all__ = [*_HOMES, "__version__"]

if TYPE_CHECKING:
    # The aliases say to type checkers and editors that these names are public.
    __version__: str
    from .api import convert as convert
    from .api import demo as demo
    from .api import draw_sample as draw_sample
    from .api import evaluate as evaluate
    from .api import export as export
    from .api import export_model as export_model
    from .api import extract_features as extract_features
    from .api import predict as predict
    from .api import prepare_dataset as prepare_dataset
    from .api import recalibrate as recalibrate
    from .api import segment_tissue as segment_tissue
    from .api import train as train
    from .core.bag import Bag as Bag
    from .core.errors import Distill2LabelError as Distill2LabelError
    from .core.errors import SlideError as SlideError
    from .core.geometry import PatchGrid as PatchGrid
    from .core.geometry import PatchPoints as PatchPoints
    from .core.inputs import Compute as Compute
    from .core.inputs import Encoder as Encoder
    from .core.inputs import Inputs as Inputs
    from .core.inputs import TissueRegions as TissueRegions
    from .core.presets import build_settings as build_settings
    from .core.settings import Settings as Settings
    from .exporters.merged_regions import RegionOptions as RegionOptions
    from .gui import get_session as get_session
    from .slides.registry import open_slide as open_slide
    from .store.bundle import load_bundle as load_bundle
    from .store.cohort import Cohort as Cohort
    from .store.cohort import CohortSlide as CohortSlide
    from .store.maps.patch_map import PatchMap as PatchMap
    from .store.run import Run as Run
    from .store.splits import k_folds as k_folds
    from .workflow.commands.doctor import doctor as doctor
    from .workflow.promise import PromiseRequest as PromiseRequest


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _installed_version()
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def _installed_version() -> str:
    """Return what the installed metadata says; a copy that is not installed has no version."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("napari-distill2label")
    except PackageNotFoundError:
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
