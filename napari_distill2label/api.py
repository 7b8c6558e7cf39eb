"""The commands as plain functions. Each drains its generator of `workflow` and shows a progress bar."""

from collections.abc import Callable, Generator
from functools import wraps
from typing import ParamSpec, TypeVar

from .cli.progress_bar import ProgressBar
from .core.events import Event, drain
from .workflow.commands.convert import convert as _convert
from .workflow.commands.demo import demo as _demo
from .workflow.commands.evaluate import evaluate as _evaluate
from .workflow.commands.export import export as _export
from .workflow.commands.export_model import export_model as _export_model
from .workflow.commands.extract_features import extract_features as _extract_features
from .workflow.commands.predict import predict as _predict
from .workflow.commands.prepare_dataset import prepare_dataset as _prepare_dataset
from .workflow.commands.recalibrate import draw_sample as _draw_sample
from .workflow.commands.recalibrate import recalibrate as _recalibrate
from .workflow.commands.segment_tissue import segment_tissue as _segment_tissue
from .workflow.commands.train import train as _train

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
NOTE = """    Notes
    -----
    Shows a progress bar. `napari_distill2label.workflow.commands` has the same as a generator of events.
    """


def _drained(command: Callable[Arguments, Generator[Event, None, Result]]) -> Callable[Arguments, Result]:
    @wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with ProgressBar() as bar:
            return drain(command(*args, **kwargs), bar.show)

    run.__doc__ = f"{command.__doc__}\n{NOTE}"
    return run


prepare_dataset = _drained(_prepare_dataset)
convert = _drained(_convert)
demo = _drained(_demo)
evaluate = _drained(_evaluate)
export = _drained(_export)
export_model = _drained(_export_model)
extract_features = _drained(_extract_features)
predict = _drained(_predict)
draw_sample = _drained(_draw_sample)
recalibrate = _drained(_recalibrate)
segment_tissue = _drained(_segment_tissue)
train = _drained(_train)
