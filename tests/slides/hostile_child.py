"""Opens files that nobody should trust, in a process that may not take a gigabyte more than it has, nor long for one.

Run by `test_hostile.py`: `python -m tests.slides.hostile_child FILE…`. Prints a line for each: what became of it, and
its name.
"""

import resource
import signal
import sys
import time
import warnings
from pathlib import Path

import dask  # noqa: F401  what readers import is in memory before it is measured
import imagecodecs  # noqa: F401
import tifffile  # noqa: F401
import zarr  # noqa: F401

import napari_distill2label.slides.cutting  # noqa: F401
from napari_distill2label.core.errors import SlideError
from torture.lie import read_slide

MORE_BYTES = 1_000_000_000
SECONDS = 15  # what takes milliseconds, on a machine that has other things to do


class TooLongError(BaseException):
    """No `Exception`: nothing on the way may take it for damage."""


def too_long(*_: object) -> None:
    raise TooLongError


def outcome(path: Path) -> str:
    signal.alarm(SECONDS)
    try:
        read_slide(path)
    except SlideError as error:
        text = str(error)
        return "fine" if str(path) in text and "\n" not in text else f"says {text!r}"
    except TooLongError:
        return "takes too long"
    except Exception as error:  # noqa: BLE001  what it is that must not come
        return f"raises {error!r}"
    finally:
        signal.alarm(0)
    return "fine"


def main() -> None:
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, too_long)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MORE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for name in sys.argv[1:]:
        began = time.monotonic()
        print(outcome(Path(name)), f"{time.monotonic() - began:.1f} s", name, sep="\t", flush=True)


main()
