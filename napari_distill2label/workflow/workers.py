"""Other processes and machines for a command that walks slides: several slides are under way at once."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack

from ..core.errors import SettingsError
from ..core.events import Event, Progress, Task
from ..core.inputs import Compute
from ..core.messages import Remedy
from ..core.notices import Notice, NoticeCode
from ..inference.cluster import Cluster, is_open
from ..inference.specs import NetworkSpec

SLIDES_AT_ONCE = 8  # on a cluster


def check_workers(compute: Compute) -> None:
    """`SettingsError` if workers are to be started, and those of a scheduler to be used as well."""
    if compute.workers is not None and compute.scheduler is not None:
        raise SettingsError(
            "Workers are started here, and a scheduler has workers of its own. Only one of them can be used.",
            remedy=Remedy("clear", "compute.workers", alternative=Remedy("clear", "compute.scheduler")),
        )


def start_workers(network: NetworkSpec, compute: Compute, stack: ExitStack) -> Generator[Event, None, Cluster | None]:
    """Start the workers, until `stack` is left. None: threads of this process compute."""
    if compute.workers is None and compute.scheduler is None:
        return None
    cluster = Cluster(network, compute.workers, compute.scheduler)
    stack.callback(cluster.stop)
    with ThreadPoolExecutor(1) as pool:  # its processes need seconds to start
        starting = pool.submit(cluster.start)
        while not wait([starting], timeout=0.1).done:
            yield Progress(Task.START_WORKERS)
    starting.result()
    if compute.scheduler is not None and is_open(compute.scheduler):
        yield Notice(NoticeCode.OPEN_SCHEDULER, {"scheduler": compute.scheduler})
    if not cluster.threads:
        yield Notice(NoticeCode.NO_WORKERS, {"scheduler": compute.scheduler})
    return cluster


def interleave(works: Iterable[Generator[Event, None, None]], cluster: Cluster | None) -> Generator[Event, None, None]:
    """Do `works` one after the other. On a cluster, begin the next as soon as it has room for more blocks.

    If several are under way, only the progress of the first is passed on.
    """
    waiting = iter(works)
    begun: deque[Generator[Event, None, None]] = deque()
    walking = True  # has the work begun last asked for what it needs? Else it would seem that there is room
    try:
        while True:
            has_room = cluster is not None and walking and len(begun) < SLIDES_AT_ONCE and cluster.free_slots > 0
            if not begun or has_room:
                if (work := next(waiting, None)) is not None:
                    begun.append(work)
                    walking = False
                elif not begun:
                    return
            for work in tuple(begun):
                try:
                    event = next(work)
                except StopIteration:
                    walking = walking or work is begun[-1]
                    begun.remove(work)
                else:
                    walking = walking or (work is begun[-1] and isinstance(event, Progress))
                    if work is begun[0] or not isinstance(event, Progress):
                        yield event
    finally:
        for work in begun:
            work.close()
