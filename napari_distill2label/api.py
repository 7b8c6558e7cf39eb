"""The verbs as plain functions: each drains its generator of `workflow` behind a progress bar."""

from collections.abc import Callable, Generator
from functools import wraps
from typing import ParamSpec, TypeVar

from .core.events import Event, drain
from .progress import ProgressBar
from .workflow.dataset import dataset as _dataset
from .workflow.demo import demo as _demo
from .workflow.evaluate import evaluate as _evaluate
from .workflow.export import export as _export
from .workflow.features import features as _features
from .workflow.predict import predict as _predict
from .workflow.tissue import tissue as _tissue
from .workflow.train import train as _train

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
NOTE = """    Notes
    -----
    Runs to its end behind a progress bar; `napari_distill2label.workflow` has it as a generator of events.
    """


def _drained(verb: Callable[Arguments, Generator[Event, None, Result]]) -> Callable[Arguments, Result]:
    @wraps(verb)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with ProgressBar() as bar:
            return drain(verb(*args, **kwargs), bar.show)

    run.__doc__ = f"{verb.__doc__}\n{NOTE}"
    return run


dataset = _drained(_dataset)
demo = _drained(_demo)
evaluate = _drained(_evaluate)
export = _drained(_export)
features = _drained(_features)
predict = _drained(_predict)
tissue = _drained(_tissue)
train = _drained(_train)
