"""Signals that ask a command to stop: the first unwinds it, another one kills it, and hosts keep their own."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from napari_distill2label.cli.stopping import SAME, Stopped, stoppable

posix = pytest.mark.skipif(os.name == "nt", reason="Windows ends processes without asking them")


def catch(number):
    """What the block does about a signal that comes to this process in it."""
    with pytest.raises(Stopped) as caught, stoppable():
        _send(number)
    return caught.value


def _send(number):
    os.kill(os.getpid(), number)
    time.sleep(1)  # where Python handles it


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_unwinds_and_tells_its_number(name):
    before = signal.getsignal(getattr(signal, name))
    if before is signal.SIG_IGN:
        pytest.skip(f"this process ignores {name}")
    number = getattr(signal, name)
    stopped = catch(number)
    assert stopped.exit_status == 128 + number
    assert isinstance(stopped, KeyboardInterrupt)
    assert signal.getsignal(number) is before


@posix
def test_the_same_request_sent_twice_is_one():
    """As `timeout` sends it, to the process and then to its group."""
    with stoppable() as stopping:
        with pytest.raises(Stopped):
            stopping.on_signal(signal.SIGTERM, None)
        stopping.on_signal(signal.SIGTERM, None)


@posix
def test_a_request_that_was_lost_is_made_again():
    with stoppable() as stopping:
        stopping.check()
        with pytest.raises(Stopped):
            stopping.on_signal(signal.SIGTERM, None)
        with pytest.raises(Stopped):
            stopping.check()


@posix
def test_what_the_caller_ignores_stays_ignored():
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, former)


@posix
def test_a_host_s_own_handler_stays():
    def own(number, frame):
        pass

    former = signal.signal(signal.SIGTERM, own)
    try:
        with stoppable():
            assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, former)


def test_outside_the_main_thread_nothing_is_done():
    seen = []

    def block():
        with stoppable():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert seen == [before]


SLOW = """
import os, signal, sys, time
from napari_distill2label.cli.stopping import stoppable
with stoppable():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("cleaning", flush=True)
        time.sleep(60)
"""


@posix
def test_a_second_signal_kills_at_once():
    process = subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "cleaning\n"
        time.sleep(SAME + 0.1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM
    finally:
        process.kill()
        process.communicate()


def test_the_library_installs_no_handlers():
    code = (
        "import signal; names = ('SIGINT', 'SIGTERM'); before = [signal.getsignal(getattr(signal, n)) for n in names];"
        "import napari_distill2label as d2l; d2l.train, d2l.predict, d2l.demo;"
        "assert before == [signal.getsignal(getattr(signal, n)) for n in names]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
