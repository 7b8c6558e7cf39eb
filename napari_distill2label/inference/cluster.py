"""The engine's blocks on other processes and machines, by dask.distributed.

A worker loads the network once and keeps the slides that it reads open. Its results return to the calling process,
which alone writes: a patch's numbers are a hundred times smaller than its pixels, so writing from the workers would
gain nothing. And no two processes ever write one chunk of a zarr array, nothing is half written when a worker dies, and
the workers need no shared place to write to.
"""

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from tempfile import TemporaryDirectory
from typing import Any

from ..core.errors import MissingDependencyError, SettingsError, SlideError
from ..core.geometry import Block
from ..mil.device import use_one_thread
from ..slides.slide import Slide
from .damage import BlockResult, score_readable
from .engine import Scorer
from .specs import NetworkSpec, SlideSpec

HEARTBEAT = 0.02  # s; several slides may be on their way at once, and each waits for its own blocks
RECOUNT_EVERY = 2.0  # s between two counts of the workers
PER_THREAD = 2  # blocks per thread of a worker: one to compute and one in reserve
OPEN_SLIDES = 2  # that a worker keeps open though it is not reading them

# ---- in a worker ---------------------------------------------------------------------------------------------------


class _WorkerState:
    """The state of one worker process: one network, and the most recent slides."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._network: tuple[NetworkSpec, Any] | None = None
        self._slides: OrderedDict[tuple[NetworkSpec, str], _OpenSlide] = OrderedDict()

    @contextmanager
    def at(self, network: NetworkSpec, spec: SlideSpec, token: str) -> "Iterator[_OpenSlide]":
        """The open slide and its scorer; `token` is the slide's within this prediction."""
        with self._lock:
            if self._network is None or self._network[0] != network:
                self._network = network, network.load()
            key = network, token
            if key not in self._slides:
                slide = spec.open()
                scorer = network.scorer(self._network[1], spec.patches, slide, at_once=os.cpu_count())
                self._slides[key] = _OpenSlide(slide, scorer)
            place = self._slides[key]
            place.readers += 1
            self._slides.move_to_end(key)
            self._close_idle(OPEN_SLIDES)
        try:
            yield place
        finally:
            with self._lock:
                place.readers -= 1

    def _close_idle(self, keep: int) -> None:
        for key in list(self._slides)[: max(0, len(self._slides) - keep)]:
            if self._slides[key].readers == 0:
                self._slides.pop(key).slide.close()

    def close(self) -> None:
        with self._lock:
            self._close_idle(0)
            self._network = None


class _OpenSlide:
    def __init__(self, slide: Slide, scorer: Scorer) -> None:
        self.slide, self.scorer, self.readers = slide, scorer, 0


_worker_state = _WorkerState()


def _score(network: NetworkSpec, spec: SlideSpec, token: str, block: Block) -> BlockResult:
    use_one_thread()
    with _worker_state.at(network, spec, token) as place:
        return score_readable(place.scorer, place.slide, spec.patches, block)


def _release() -> None:
    _worker_state.close()


# ---- in the process that asks --------------------------------------------------------------------------------------

INSTALL = "pip install 'napari-distill2label[cluster]'"


@contextmanager
def local_client(workers: int, threads: int, environment: Mapping[str, str]) -> Iterator[Any]:
    """A client (`distributed.Client`) of worker processes of this machine, which end with the block.

    A person who can reach a dask scheduler can run code in its workers, and on a shared machine everybody can reach the
    loopback. So the cluster uses TLS with a key that only these processes know, serves no web pages, and writes into a
    folder that others cannot enter.

    Parameters
    ----------
    workers, threads
        Processes, and threads of each.
    environment
        Variables that the processes start with.
    """
    try:
        import dask
        from distributed import Client, LocalCluster
        from distributed.security import Security

        keys = Security.temporary()
    except ImportError as error:
        raise MissingDependencyError(
            f"several workers need dask.distributed and cryptography ({error.name or 'cryptography'} is missing): "
            f"{INSTALL}"
        ) from None
    no_pages: dict[str, list[str]] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
    with TemporaryDirectory(prefix="distill2label-") as private, dask.config.set(no_pages):
        cluster = LocalCluster(
            workers,
            threads_per_worker=threads,
            memory_limit=None,
            host="127.0.0.1",
            protocol="tls://",
            security=keys,
            dashboard_address=None,
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            local_directory=private,
            env=dict(environment),
            silence_logs=logging.CRITICAL,
        )
        with cluster, Client(cluster, set_as_default=False) as client:
            yield client


def remote_client(scheduler: str, timeout: float = 5) -> Any:
    """Connect to an existing scheduler. `SettingsError` if none answers.

    For `tls://…` dask's own configuration names the certificates (`distributed.comm.tls` in its YAML, or
    `DASK_DISTRIBUTED__COMM__TLS__CA_FILE`, `…__CLIENT__CERT`, `…__CLIENT__KEY`).
    """
    try:
        from distributed import Client
    except ImportError:
        raise MissingDependencyError(f"a dask scheduler needs dask.distributed: {INSTALL}") from None
    try:
        return Client(scheduler, timeout=timeout, set_as_default=False)
    except (OSError, TimeoutError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        how = "" if is_open(scheduler) else " TLS needs certificates in dask's configuration (distributed.comm.tls)."
        raise SettingsError(
            f"No dask scheduler answers at {scheduler} ({reason}).{how}", field="compute.scheduler"
        ) from None


def is_open(scheduler: str) -> bool:
    """Whether a scheduler at this address accepts anybody. Then anybody who reaches it can run code in its workers."""
    return not scheduler.lower().startswith(("tls://", "wss://"))


class Cluster:
    """Workers to score blocks on, between `start` and `stop`.

    Parameters
    ----------
    network
        What they score with.
    workers
        Processes on this machine, started for this and ended after it; they share its cores.
    scheduler
        Address of a dask scheduler (`tls://…`, `tcp://…`) to use instead. Its workers must have this package, and find
        slides and network under the same paths. `SettingsError` if there is none.
    """

    def __init__(self, network: NetworkSpec, workers: int | None = None, scheduler: str | None = None) -> None:
        self.network, self.workers, self.scheduler = network, workers, scheduler
        self.threads = 0
        self._pools: set[ClusterPool] = set()
        self._counted_at = 0.0
        self._stack = ExitStack()

    def start(self) -> None:
        """Start the workers, or connect to existing ones. May take seconds."""
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # errors that matter are reported in one plain line
        with ExitStack() as stack:
            if self.scheduler is None:
                workers = self.workers or 1
                threads = max(1, (os.cpu_count() or 1) // workers)
                single = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
                self.client = stack.enter_context(local_client(workers, threads, single))
            else:
                self.client = stack.enter_context(remote_client(self.scheduler))
                stack.callback(self._release_workers)
            self._count_workers()
            self._stack = stack.pop_all()

    def stop(self) -> None:
        """End the workers that were started; leave existing ones. A second call does nothing."""
        self._stack.close()

    def _release_workers(self) -> None:
        """Let the workers of an existing cluster close their files and release the model."""
        with suppress(Exception):
            self.client.run(_release, wait=False)

    @property
    def free_slots(self) -> int:
        """How many more blocks the workers take now, of any slide."""
        return PER_THREAD * self.threads - sum(pool.n_pending for pool in tuple(self._pools))

    def check(self) -> None:
        """Count the workers again from time to time. `SettingsError` if the scheduler is gone."""
        if time.monotonic() - self._counted_at > RECOUNT_EVERY:
            self._count_workers()

    def _count_workers(self) -> None:
        self._counted_at = time.monotonic()
        try:
            if self.client.status != "running":
                raise OSError(self.client.status)
            self.threads = sum(self.client.nthreads().values())
        except (OSError, TimeoutError):
            raise SettingsError(self.lost_message) from None

    @property
    def lost_message(self) -> str:
        return (
            f"the dask scheduler {self.client.scheduler.address if self.client.scheduler else ''} does not answer any "
            "more; what was finished is saved: run the command again, it resumes there"
        )

    def open_pool(self, spec: SlideSpec) -> "ClusterPool":
        """Return a pool that scores the blocks of one slide."""
        pool = ClusterPool(self, spec)
        self._pools.add(pool)
        return pool

    def remove_pool(self, pool: "ClusterPool") -> None:
        self._pools.discard(pool)


class ClusterPool:
    """Scores the blocks of one slide on a cluster (an `engine.Pool`)."""

    heartbeat = HEARTBEAT

    def __init__(self, cluster: Cluster, spec: SlideSpec) -> None:
        self.cluster, self.spec = cluster, spec
        self._token = f"{id(self)}-{time.time_ns()}"
        self._remote: dict[Any, Future[BlockResult]] = {}

    @property
    def n_pending(self) -> int:
        """Blocks submitted and not finished."""
        return len(self._remote)

    def free_slots(self, waiting: int) -> int:
        return min(self.cluster.free_slots, 2 * PER_THREAD * self.cluster.threads - waiting)

    def submit(self, block: Block) -> "Future[BlockResult]":
        future: Future[BlockResult] = Future()
        remote = self.cluster.client.submit(_score, self.cluster.network, self.spec, self._token, block, pure=False)
        self._remote[remote] = future
        remote.add_done_callback(self._settle)
        return future

    def check(self) -> None:
        self.cluster.check()

    def stop(self) -> None:
        left = list(self._remote)
        self._remote.clear()
        self.cluster.remove_pool(self)
        if left and self.cluster.client.status == "running":
            self.cluster.client.cancel(left)

    def _settle(self, remote: Any) -> None:
        """Fetch a worker's result, in a thread of distributed, so that the caller's thread is not blocked."""
        future = self._remote.get(remote)
        if future is None:
            return
        try:
            result, error = remote.result(), None
        except BaseException as raised:  # noqa: BLE001 · handed on to the thread that waits for it
            result, error = None, raised
        if self._remote.pop(remote, None) is None:  # stopped meanwhile
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(self._plain_error(error))

    def _plain_error(self, error: BaseException) -> BaseException:
        kind = type(error).__name__
        if kind == "KilledWorker":
            return SlideError(
                f"{self.spec.path}: several workers in turn died of the same part of it (out of memory?): "
                "use fewer of them, and run the command again"
            )
        return SettingsError(self.cluster.lost_message) if "Cancelled" in kind else error
