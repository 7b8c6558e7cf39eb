"""`predict` on several processes: the same results, also when one of them is killed in the middle of a slide."""

import os
import signal
import socket
import ssl
from http.client import HTTPException
from urllib.request import urlopen

import numpy as np
import psutil
import pytest

from napari_distill2label.core.errors import MissingDependencyError, SettingsError
from napari_distill2label.core.events import ItemDone, ItemFailed, Progress, drain
from napari_distill2label.core.inputs import Compute
from napari_distill2label.core.notices import Notice
from napari_distill2label.inference import engine
from napari_distill2label.inference.cluster import local_client
from napari_distill2label.slides.synthetic import draw_slide, write_image
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.workflow.commands.predict import predict

ARRAYS = ("probability", "logit", "score", "attention", "contribution")


@pytest.fixture
def large(tmp_path):
    """A slide of 400 patches."""
    path = tmp_path / "large.ome.tif"
    write_image(path, draw_slide(5, True, (540, 540)).image)
    return path


def workers_of_this_process():
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def assert_same(one, other):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.bag_probability == other.bag_probability


def test_a_killed_worker_s_blocks_are_done_again(trained, large, slides, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "BLOCK_PIXELS", 4 * 27**2)
    expected = drain(predict(trained, [large, slides[0]]))
    work = predict(
        trained,
        [large, slides[0], tmp_path / "gone.png"],
        tmp_path / "out",
        formats=["csv"],
        compute=Compute(workers=2),
    )
    killed, events = None, []
    while True:
        try:
            events.append(event := next(work))
        except StopIteration as stop:
            maps = stop.value
            break
        if killed is None and isinstance(event, Progress) and event.item == "large" and event.step >= 40:
            assert event.step < event.total / 2
            before = workers_of_this_process()
            assert len(before) == 2
            killed = before[0].pid
            os.kill(killed, signal.SIGKILL)
    assert killed is not None
    assert not psutil.pid_exists(killed) or psutil.Process(killed).status() == psutil.STATUS_ZOMBIE
    assert [type(event) for event in events if isinstance(event, ItemFailed | ItemDone)].count(ItemFailed) == 1
    kept = [PatchMap.open(trained / "predictions" / f"{name}.student.zarr") for name in ("large", "slide_000")]
    for one, other, again in zip(expected, maps, kept, strict=True):
        assert again.is_complete
        assert (again.scored == again.patches.scored).all()
        assert_same(one, other)
        assert_same(one, again)
    assert not workers_of_this_process()  # they end with the work


def test_a_scheduler_s_workers_say_the_same_and_stay(trained, large, slides, tmp_path, cli):
    from distributed import LocalCluster

    expected = drain(predict(trained, [large]))
    with LocalCluster(1, threads_per_worker=2, memory_limit=None, dashboard_address=None) as cluster:
        rest = [large, slides[0], "-o", tmp_path / "out", "--format", "csv", "--scheduler", cluster.scheduler_address]
        status, said, err = cli("predict", trained, *rest)
        assert status == 0, err
        assert f"The scheduler {cluster.scheduler_address} asks for no certificate" in err
        assert [line.split(":")[0] for line in said.splitlines()] == ["large", "slide_000"]
        work = predict(trained, slides[1:3], compute=Compute(scheduler=cluster.scheduler_address))
        next(event for event in work if isinstance(event, Progress) and event.step)
        work.close()  # cancelled
        assert len(cluster.scheduler.workers) == 1
    assert_same(expected[0], PatchMap.open(trained / "predictions" / "large.student.zarr"))


def test_workers_that_cannot_be_had(trained, slides, tmp_path, refused):
    rest = ["predict", trained, slides[0], "-o", tmp_path / "out"]
    assert "Only one of them can be used. Leave out --workers. Or leave out --scheduler." in refused(
        *rest, "--workers", "2", "--scheduler", "tcp://127.0.0.1:8786"
    )
    assert "No dask scheduler answers" in refused(*rest, "--scheduler", "tcp://127.0.0.1:1")


def listening():
    """(address, port) of every socket that this process and its children listen on."""
    here = psutil.Process()
    return {
        tuple(connection.laddr)
        for process in (here, *here.children(recursive=True))
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }


def speaks(address, port):
    """Does what listens there send anything to somebody who has no certificate and asks for none?"""
    stranger = ssl.create_default_context()
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((address, port), 5) as raw, stranger.wrap_socket(raw) as wrapped:
            wrapped.settimeout(5)
            return bool(wrapped.recv(1))  # TLS 1.3 tells of a missing certificate at the first byte
    except OSError:  # SSLError is one
        return False


@pytest.mark.long
def test_nobody_else_reaches_the_workers_of_this_machine():
    from distributed import Client, LocalCluster

    def answers(address):
        """What somebody else on this machine would try: to run a function."""
        with Client(address, timeout=3, set_as_default=False) as client:
            return client.submit(sum, [1, 2]).result(timeout=3) == 3

    before = listening()
    with local_client(1, 1, {}) as client:
        assert client.submit(sum, [1, 2]).result() == 3
        opened = listening() - before
        assert opened
        assert {host for host, _ in opened} == {"127.0.0.1"}  # what is bound to every address is reached from outside
        assert not [where for where in opened if speaks(*where)]
        for scheme in ("tcp", "tls"):
            with pytest.raises((OSError, TimeoutError, TypeError, ValueError, RuntimeError)):
                answers(client.scheduler.address.replace("tls", scheme))
    with LocalCluster(1, processes=False, memory_limit=None, dashboard_address=None) as open_to_all:
        assert answers(open_to_all.scheduler_address)  # so the test can tell


def own_folder():
    from distributed import get_worker

    return get_worker().local_directory


def test_the_workers_serve_no_pages_and_write_where_nobody_else_can():
    before = listening()
    with local_client(1, 1, {}) as client:
        for address, port in listening() - before:
            for page in ("", "status", "info/main/workers.html", "json/identity.json", "metrics", "health"):
                with pytest.raises((OSError, HTTPException)):  # an error of HTTP is an OSError
                    urlopen(f"http://{address}:{port}/{page}", timeout=2).read()
        folder = os.path.dirname(client.submit(own_folder).result())
        while os.path.basename(folder).startswith("dask"):
            folder = os.path.dirname(folder)
        assert os.stat(folder).st_mode & 0o077 == 0
    assert not os.path.exists(folder)


def test_without_cryptography_it_says_what_to_install(monkeypatch):
    from distributed.security import Security

    def without(*args):
        raise ImportError("no module")

    monkeypatch.setattr(Security, "temporary", without)
    with pytest.raises(MissingDependencyError, match=r"cryptography.*napari-distill2label\[cluster\]"):
        local_client(1, 1, {}).__enter__()


@pytest.mark.long
def test_a_scheduler_with_certificates_is_used_without_a_word(trained, slides, tmp_path):
    """Its certificates come from dask's own configuration, as they do for every other program."""
    import dask
    from distributed import LocalCluster
    from distributed.security import Security

    expected = drain(predict(trained, [slides[0]]))
    keys = Security.temporary()
    for part in ("ca_file", "client_cert", "client_key"):
        (tmp_path / f"{part}.pem").write_text(getattr(keys, f"tls_{part}"))
    where = {"ca-file": "ca_file", "client.cert": "client_cert", "client.key": "client_key"}
    named = {f"distributed.comm.tls.{key}": str(tmp_path / f"{part}.pem") for key, part in where.items()}
    with LocalCluster(
        1, threads_per_worker=1, memory_limit=None, dashboard_address=None, security=keys, protocol="tls://",
        host="127.0.0.1",
    ) as cluster:  # fmt: skip
        address = cluster.scheduler_address
        with pytest.raises(SettingsError, match=r"No dask scheduler answers"):
            drain(predict(trained, [slides[0]], compute=Compute(scheduler=address)))
        with dask.config.set(named):
            work, events = predict(trained, [slides[0]], compute=Compute(scheduler=address)), []
            while True:
                try:
                    events.append(next(work))
                except StopIteration as stop:
                    (found,) = stop.value
                    break
    assert not [event for event in events if isinstance(event, Notice)]
    assert_same(expected[0], found)
