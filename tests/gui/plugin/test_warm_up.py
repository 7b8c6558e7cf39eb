"""What the first layer of labels needs is there before it comes, and was not got by the window's own thread."""

import threading

from vispy.visuals.line import dash_atlas

from napari_distill2label.gui.dock import DistillToLabel


def test_it_is_got_beside_the_window(make_napari_viewer, qtbot, monkeypatch):
    threads, make = [], dash_atlas.DashAtlas.__init__

    def noted(self, *args, **kwargs):
        threads.append(threading.current_thread())
        make(self, *args, **kwargs)

    monkeypatch.setattr(dash_atlas.DashAtlas, "__init__", noted)
    dash_atlas._make_pattern.cache_clear()
    panel = DistillToLabel(make_napari_viewer())
    qtbot.waitUntil(lambda: not panel.session.reader.busy, timeout=60_000)
    assert len(threads) == 1
    assert threading.main_thread() not in threads
    cached = dash_atlas._make_pattern.cache_info().misses
    dash_atlas.DashAtlas()
    assert dash_atlas._make_pattern.cache_info().misses == cached  # the second is free
    panel.session.shutdown()
