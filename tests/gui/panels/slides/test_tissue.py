"""The tissue mask by clicks and by painting."""

import numpy as np

from ...conftest import click
from .conftest import LONG


def test_the_tissue_mask_by_clicks(full, viewer, qtbot):
    tissue, shown, box = full.session.tissue, full.session.tissue_layer, full.tissue
    full.tissue_fold.toggle.setChecked(True)
    assert not box.use.isEnabled()
    assert "no mask yet" in box.use.toolTip()
    click(qtbot, box.show_mask)
    qtbot.waitUntil(lambda: shown.layer is not None, timeout=LONG)
    assert "1 of 8 slides have a mask" in box.state.text()
    shown.layer.paint((30, 30), 0)
    shown.layer.paint((30, 30), 1)
    shown.layer.paint((60, 60), 0)
    painted = np.array(shown.layer.data)
    qtbot.waitUntil(lambda: not tissue._unsaved and not full.session.reader.busy, timeout=LONG)
    click(qtbot, box.use)
    assert tissue.in_use().source == {"slide_000": tissue.files["slide_000"]}
    click(qtbot, box.show_mask)
    assert shown.layer is None
    click(qtbot, box.show_mask)
    qtbot.waitUntil(lambda: shown.layer is not None, timeout=LONG)
    np.testing.assert_array_equal(shown.layer.data, painted)
    box.confirm = lambda: False
    click(qtbot, box.find_again)
    np.testing.assert_array_equal(shown.layer.data, painted)
    click(qtbot, box.find_all)
    qtbot.waitUntil(lambda: len(tissue.files) == 8, timeout=LONG)
