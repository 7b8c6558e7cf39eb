"""How many files somebody reads who follows one thing through the package: the modules that run, walk by walk.

`python -m benchmarks.hops` (on Linux without a screen: `xvfb-run -a` before it) counts the modules of the package in
which at least one function runs, and these functions, in the order in which they begin. Bodies of modules and classes,
lambdas and comprehensions are not counted; everything is imported beforehand. `--check` compares with the goals (exit
status 1: one is missed), `--json` prints data.

The window's walks begin at the session of a real viewer, without a panel: panels that show the same state anew are not
on the way. Two of them, a training that begins and a correction, are counted in the window's thread alone.
"""

import argparse
import importlib
import inspect
import io
import json
import os
import pkgutil
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

GOALS = {
    "a patch from the file to its layer": 50,
    "one click on Train": 12,
    "one correction": 11,
    "distill2label predict, one slide": 42,
    "distill2label train": 45,
    "show another slide with its prediction": 26,
}
LONGEST = 300  # s that the window may take to show a prediction


class Window:
    """The session of a real viewer, in the words of this module: what is renamed there is renamed here alone."""

    small: ClassVar[dict[str, Any]] = {
        "teacher": {"epochs": 1}, "oof": {"epochs": 1}, "student": {"epochs": 1},
        "architecture": {"hidden_dim": 16, "attention_dim": 8}, "split": {"valid": 0.25}, "device": "cpu",
    }  # fmt: skip

    def __init__(self, table: Path, run: Path) -> None:
        import napari

        from napari_distill2label.gui import get_session

        self.viewer = napari.Viewer()
        self.session = get_session(self.viewer)
        self.session.read_cohort(table)
        self.session.configure(**self.small)
        self.session.load_model(run)
        self.slides = [row.slide_id for row in self.session.cohort]

    def show(self, slide: str) -> None:
        self.session.show(slide)

    def predict(self, slide: str) -> None:
        self.session.predict(slide)

    def wait_for_layers(self, slide: str) -> None:
        """Let the window live until a prediction's layers are there; that of the corrections comes last."""
        from napari_distill2label.gui.canvas import layers, ownership

        from .window import run_until

        end = time.monotonic() + LONGEST
        run_until(lambda: bool(ownership.find(self.viewer, layers.CORRECTIONS, slide)) or time.monotonic() > end)
        if time.monotonic() > end:
            raise TimeoutError(f"no layers of the prediction of {slide} after {LONGEST} s")
        rest()  # what the window does a little later

    def train(self) -> None:
        self.session.train(wait=False)

    def stop(self) -> None:
        """Cancel what is going on, and wait for its end."""
        from .window import run_until

        self.session.cancel()
        run_until(lambda: not self.session.jobs.busy)

    def correct(self, cell: tuple[int, int]) -> None:
        """Correct a patch of the slide that is shown."""
        if not self.session.correct(self.session.cohort.classes[1], cell):
            raise LookupError(f"there is no patch {cell} to correct")

    def close(self) -> None:
        self.session.shutdown()
        self.viewer.close()


def draw(folder: Path) -> Path:
    """A drawn cohort's table."""
    from napari_distill2label.slides.synthetic import write_cohort

    return write_cohort(folder, n_slides=8, shape=(135, 162))


def command(*arguments: object) -> None:
    """`distill2label …`, in this process; what it prints is shown only if it fails."""
    from napari_distill2label.cli.main import main

    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        status = main([str(argument) for argument in arguments])
    if status:
        raise RuntimeError(f"distill2label {arguments[0]} ended with {status}: {printed.getvalue()}")


# ---- counting -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Walk:
    """What ran: files (relative to the package) and functions ("file: qualified name"), in the order they began in."""

    name: str
    files: tuple[str, ...]
    functions: tuple[str, ...]
    goal: int | None = None

    @property
    def meets_goal(self) -> bool:
        return self.goal is None or len(self.files) <= self.goal


class Counter:
    """Notes the functions of the files below `folder` that begin while it counts, in every thread started after it."""

    def __init__(self, folder: Path) -> None:
        self._below = f"{folder.resolve()}{os.sep}"
        self._seen: dict[tuple[str, str], None] = {}
        self._counting = False
        self._only: int | None = None
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def stop(self) -> None:
        threading.setprofile(None)
        sys.setprofile(None)

    def join(self) -> None:
        """Count in this thread too: one that Python has not started, as Qt's are."""
        sys.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, argument: object) -> None:
        if not self._counting or event != "call" or self._only not in (None, threading.get_ident()):
            return
        code = frame.f_code
        # Bodies of modules and classes have no fast locals; names such as <lambda> are of no function.
        is_function = code.co_flags & inspect.CO_OPTIMIZED and not code.co_name.startswith("<")
        if is_function and code.co_filename.startswith(self._below):
            self._seen.setdefault((code.co_filename[len(self._below) :], code.co_qualname))

    def count(self, name: str, act: Callable[[], Any], *, goal: int | None = None, here_alone: bool = False) -> Walk:
        """What runs from the beginning of `act` to its end; `here_alone`: in this thread alone."""
        self._seen.clear()
        self._only = threading.get_ident() if here_alone else None
        self._counting = True
        try:
            act()
        finally:
            self._counting = False
        files = dict.fromkeys(file.replace(os.sep, "/") for file, _ in self._seen)
        return Walk(name, tuple(files), tuple(f"{file}: {function}" for file, function in self._seen), goal)


def rest(seconds: float = 1.0) -> None:
    """Let the window live for a moment."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    QTimer.singleShot(int(1000 * seconds), loop.quit)
    loop.exec()


def import_all(package: Any) -> None:
    """Import every module of a package: what runs while one is imported is on nobody's way."""
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _count_in_qt_threads(counter: Counter) -> None:
    from superqt.utils import _qthreading

    run = _qthreading.WorkerBase.run

    def counted(worker: Any) -> None:
        counter.join()
        run(worker)

    _qthreading.WorkerBase.run = counted


# ---- the walks ------------------------------------------------------------------------------------------------------


def measure() -> Iterator[Walk]:
    """Yield the walks, those of the command line first."""
    import napari_distill2label as package

    counter = Counter(Path(package.__file__).parent)
    import_all(package)
    _count_in_qt_threads(counter)

    def walk(name: str, act: Callable[[], Any], **how: bool) -> Walk:
        return counter.count(name, act, goal=GOALS[name], **how)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table, run = draw(folder / "cohort"), folder / "run"
        one = sorted((table.parent / "slides").iterdir())[0]
        small = [
            f"--{group}.{key}={value}" if isinstance(values, dict) else f"--{group}={values}"
            for group, values in Window.small.items()
            for key, value in (values.items() if isinstance(values, dict) else [("", "")])
        ]
        trained = walk("distill2label train", lambda: command("train", table, "-o", run, *small))
        predicted = walk("distill2label predict, one slide", lambda: command("predict", run, one, "-o", folder / "out"))
        shutil.rmtree(run / "predictions", ignore_errors=True)
        window = Window(table, run)
        first, second = window.slides[:2]
        window.show(first)
        rest()
        yield walk("a patch from the file to its layer", lambda: (window.predict(first), window.wait_for_layers(first)))
        yield walk("one click on Train", window.train, here_alone=True)
        window.stop()
        yield walk("one correction", lambda: window.correct((1, 1)), here_alone=True)
        yield predicted
        yield trained
        window.predict(second)
        rest()
        yield walk(
            "show another slide with its prediction", lambda: (window.show(second), window.wait_for_layers(second))
        )
        window.close()
    counter.stop()


def lines_of(walk: Walk) -> Iterator[str]:
    goal = "" if walk.goal is None else f", goal at most {walk.goal}{'' if walk.meets_goal else ': MISSED'}"
    yield f"{walk.name}: {len(walk.files)} modules, {len(walk.functions)} functions{goal}"
    yield f"    {' → '.join(file.removesuffix('.py') for file in walk.files)}"


def _use_no_settings_of_the_user(folder: str) -> None:
    os.environ["NAPARI_CONFIG"] = os.path.join(folder, "settings.yaml")
    os.environ["NAPARI_ASYNC"] = "0"
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        os.environ[name] = folder


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hops", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="exit status 1 if a goal is missed")
    parser.add_argument("--json", action="store_true", help="print data: walks with their files and functions")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as home:
        _use_no_settings_of_the_user(home)
        walks = []
        for walk in measure():
            walks.append(walk)
            if not options.json:
                print("\n".join(lines_of(walk)), flush=True)
    if options.json:
        print(json.dumps([asdict(walk) for walk in walks], indent=1))
    missed = [walk.name for walk in walks if not walk.meets_goal]
    if options.check and missed:
        print(f"Missed: {len(missed)} of {len(walks)} goals ({'; '.join(missed)}).", file=sys.stderr)
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
