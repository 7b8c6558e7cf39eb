"""Nothing is read in the thread of the window, nobody gets what he no longer wants, and an open window stays alive."""

import threading
import time

import dask.array
import pytest

from napari_distill2label.core.errors import SlideError
from napari_distill2label.gui import get_session
from napari_distill2label.gui.canvas import layers
from napari_distill2label.gui.runner.reader import BackgroundReader, StoppedReadingError
from napari_distill2label.slides import registry
from napari_distill2label.store.cohort import Cohort

LONG = 20_000  # ms


@pytest.fixture
def reader(qtbot):
    yield (made := BackgroundReader(lambda: True))
    made.shutdown()


@pytest.fixture
def session(make_napari_viewer):
    yield (made := get_session(make_napari_viewer()))
    made.shutdown()


def fail(error):
    raise error


def test_without_a_window_everything_happens_at_once():
    reader, got = BackgroundReader(lambda: False), []
    reader.request("a", threading.current_thread, got.append)
    reader.request("b", lambda: fail(SlideError("no")), got.append, got.append)
    assert got[0] is threading.main_thread()
    assert isinstance(got[1], SlideError)
    assert reader.wait_for(lambda: 3) == 3


def test_the_value_comes_back_to_the_window(reader, qtbot):
    read_in, got_in = [], []
    reader.request("a", lambda: read_in.append(threading.current_thread()), lambda _: got_in.append(True))
    assert reader.busy
    qtbot.waitUntil(lambda: got_in == [True])
    assert read_in[0] is not threading.main_thread()
    assert not reader.busy


def test_the_last_to_ask_wins_and_the_others_hear_nothing(reader, qtbot):
    first, got = threading.Event(), []
    reader.request("a", first.wait, lambda _: got.append("first"))
    reader.request("a", lambda: "second", got.append)
    reader.request("b", lambda: "forgotten", got.append)
    reader.cancel("b")
    first.set()
    qtbot.waitUntil(lambda: not reader.busy)
    assert got == ["second"]


def test_what_is_urgent_does_not_wait_for_a_page_of_thumbnails(reader, qtbot):
    hold, got = threading.Event(), []
    for number in range(8):
        reader.request(number, hold.wait, got.append)
    reader.request("slide", lambda: "slide", got.append, urgent=True)
    qtbot.waitUntil(lambda: got == ["slide"])
    assert reader.wait_for(lambda: "table") == "table"
    hold.set()
    qtbot.waitUntil(lambda: not reader.busy)


def test_fetch_leaves_the_window_alive(reader, qtbot):
    from qtpy.QtCore import QTimer

    release = threading.Event()
    QTimer.singleShot(60, release.set)  # would never come in a window that waits
    assert reader.wait_for(lambda: release.wait(10)) is True
    with pytest.raises(SlideError, match="damaged"):
        reader.wait_for(lambda: (time.sleep(0.05), fail(SlideError("damaged"))))


def test_fetch_inside_fetch(reader, qtbot):
    from qtpy.QtCore import QTimer

    outer, got = threading.Event(), []

    def inner():
        got.append(reader.wait_for(lambda: (outer.set(), time.sleep(0.1), "inner")[-1]))

    QTimer.singleShot(30, inner)
    got.append(reader.wait_for(lambda: (outer.wait(10), "outer")[-1]))
    assert sorted(got) == ["inner", "outer"]


def test_a_window_that_closes_lets_go_of_who_waits(reader, qtbot):
    from qtpy.QtCore import QTimer

    hold = threading.Event()
    QTimer.singleShot(50, reader.shutdown)
    with pytest.raises(StoppedReadingError, match="closed"):
        reader.wait_for(lambda: hold.wait(10))
    hold.set()
    with pytest.raises(StoppedReadingError, match="closed"):
        reader.wait_for(lambda: 1)


def watched(monkeypatch, owner, name):
    """Names of the threads in which a function is called."""
    seen, real = [], getattr(owner, name)

    def call(*args, **kwargs):
        seen.append(threading.current_thread())
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)
    return seen


def test_no_file_is_read_in_the_thread_of_the_window(session, qtbot, cohort_csv, run_folder, monkeypatch):
    opened = watched(monkeypatch, registry, "open_slide")
    read = watched(monkeypatch, Cohort, "read")
    pixels = watched(monkeypatch, dask.array, "from_array")
    walked = watched(monkeypatch, __import__("os"), "walk")
    session.read_cohort(cohort_csv)
    session.add_slides(cohort_csv.parent)
    session.show("slide_000", wait=False)
    assert (session.opening, session.shown) == ("slide_000", None)
    qtbot.waitUntil(lambda: session.shown == "slide_000", timeout=LONG)
    session.set_mpp("slide_000", 0.4)
    qtbot.waitUntil(lambda: session.opening is None, timeout=LONG)
    session.remove_slides([row.slide_id for row in session.cohort])
    session.load_model(run_folder)
    qtbot.waitUntil(lambda: session.shown == "slide_000", timeout=LONG)
    assert opened
    assert read
    assert pixels
    assert walked
    assert threading.main_thread() not in {*opened, *read, *pixels, *walked}


def test_whoever_waits_for_a_slide_gets_it_or_the_reason(session, cohort_csv, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG and no more")
    session.read_cohort(cohort_csv)
    session.show("slide_003")
    assert session.shown == "slide_003"
    session.add_slides(bad)
    with pytest.raises(SlideError, match=r"bad\.png"):
        session.show("bad")
    assert (session.current, session.shown) == ("bad", None)
    assert not layers.find(session.viewer)
    assert "bad.png" in session.canvas.slide_view.canvas_text


def test_a_slide_that_cannot_be_read_is_told(session, qtbot, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG and no more")
    session.add_slides(bad)
    with qtbot.waitSignal(_Bridge.of(session.project.message), timeout=LONG):
        session.show("bad", wait=False)
    assert "bad.png" in session.notices[-1]
    assert session.project.slide_summary("bad").startswith("failed: ")
    assert session.opening is None


def test_only_the_last_of_several_slides_is_shown(session, qtbot, cohort_csv):
    session.read_cohort(cohort_csv)
    for number in range(8):
        session.show(f"slide_00{number}", wait=False)
    qtbot.waitUntil(lambda: session.shown is not None and session.opening is None, timeout=LONG)
    assert session.shown == "slide_007"
    assert {layers.tags_of(layer)["slide_id"] for layer in session.viewer.layers} == {"slide_007"}


def test_of_two_that_wait_the_last_is_shown(session, qtbot, cohort_csv, monkeypatch):
    from qtpy.QtCore import QTimer

    session.read_cohort(cohort_csv)
    release, real = threading.Event(), registry.open_slide

    def slow(path, mpp=None):
        assert "slide_001" not in str(path) or release.wait(10)
        return real(path, mpp)

    monkeypatch.setattr(registry, "open_slide", slow)
    QTimer.singleShot(50, lambda: (session.show("slide_002"), release.set()))
    session.show("slide_001")
    assert session.shown == "slide_002"
    assert [layers.tags_of(layer)["slide_id"] for layer in session.viewer.layers] == ["slide_002"]


def test_a_slide_that_is_removed_while_it_is_opened_does_not_come_back(session, qtbot, cohort_csv):
    session.read_cohort(cohort_csv)
    session.show("slide_000", wait=False)
    session.remove_slides(["slide_000"])
    qtbot.waitUntil(lambda: not session.reader.busy, timeout=LONG)
    assert not session.viewer.layers
    assert session.shown is None


def test_the_first_look_at_a_slide_reads_nothing(session, cohort_csv):
    session.read_cohort(cohort_csv)
    session.show("slide_000")
    slide = session.canvas.slide_view._open["slide_000"]
    slide.close()
    (layer,) = layers.find(session.viewer, layers.SLIDE)
    assert layer.data[-1].compute().shape == (135, 162, 3)  # from memory: the file is closed


class _Bridge:
    """A signal of the session as one of Qt."""

    @staticmethod
    def of(signal):
        from qtpy.QtCore import QObject, Signal

        class Bridge(QObject):
            passed = Signal(object)

        bridge = Bridge()
        signal.connect(lambda value: bridge.passed.emit(value))
        _Bridge.alive = bridge
        return bridge.passed


def test_a_value_that_nobody_wants_any_more_is_dropped_in_the_window(reader, qtbot):
    hold, begun, got, dropped = threading.Event(), threading.Event(), [], []

    def read():
        begun.set()
        hold.wait(10)
        return "first"

    def drop(value):
        dropped.append((value, threading.current_thread()))

    reader.request("a", read, got.append, dropped=drop)
    assert begun.wait(10)
    reader.request("a", lambda: "second", got.append)
    hold.set()
    qtbot.waitUntil(lambda: got == ["second"] and bool(dropped))
    assert dropped == [("first", threading.main_thread())]


def test_a_slide_that_was_opened_in_vain_is_closed(session, qtbot, cohort_csv, monkeypatch):
    from napari_distill2label.slides.slide import Slide

    session.read_cohort(cohort_csv)
    begun, release, real, closed = threading.Event(), threading.Event(), registry.open_slide, []

    def slow(path, mpp=None):
        if "slide_001" in str(path):
            begun.set()
            assert release.wait(10)
        return real(path, mpp)

    close = Slide.close

    def noted(slide):
        closed.append(slide.path.name)
        close(slide)

    monkeypatch.setattr(Slide, "close", noted)
    monkeypatch.setattr("napari_distill2label.gui.canvas.opening.registry.open_slide", slow)
    session.show("slide_001", wait=False)
    qtbot.waitUntil(begun.is_set, timeout=LONG)
    session.show("slide_002", wait=False)
    release.set()
    qtbot.waitUntil(lambda: session.shown == "slide_002" and "slide_001.ome.tif" in closed, timeout=LONG)


def test_a_table_is_read_while_slides_are_being_opened(reader, qtbot):
    hold, got = threading.Event(), []
    for number in range(4):
        reader.request(number, hold.wait, got.append, urgent=True)
    assert reader.wait_for(lambda: "table") == "table"
    hold.set()
    qtbot.waitUntil(lambda: not reader.busy)


def test_nobody_calls_a_widget_that_is_gone(reader, qtbot):
    from qtpy.QtWidgets import QLabel

    hold, got = threading.Event(), []

    class Label(QLabel):
        def take(self, value):
            got.append(value)

    gone, there = Label(), Label()
    reader.request("gone", lambda: hold.wait(10), gone.take)
    reader.request("there", lambda: hold.wait(10), there.take)
    gone.deleteLater()
    qtbot.wait(20)
    hold.set()
    qtbot.waitUntil(lambda: got == [True])
    assert not reader.busy


def test_a_call_from_another_thread_is_made_in_the_window(qtbot):
    from napari_distill2label.gui.runner.gui_thread import in_gui_thread

    called = []
    call = in_gui_thread(lambda value: called.append((value, threading.current_thread())))
    call(1)
    assert called == [(1, threading.main_thread())]
    threads = [threading.Thread(target=call, args=(number,)) for number in range(2, 5)]
    for thread in threads:
        thread.start()
        thread.join()  # one after the other, so that the order is known
    assert len(called) == 1
    qtbot.waitUntil(lambda: len(called) == 4)
    assert called == [(number, threading.main_thread()) for number in range(1, 5)]
