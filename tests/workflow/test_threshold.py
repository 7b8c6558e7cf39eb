import math

import pytest

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.messages import Remedy
from napari_distill2label.workflow.threshold import check_threshold


@pytest.mark.parametrize("threshold", [0, 0.5, 1])
def test_a_probability_is_accepted(threshold):
    check_threshold(threshold)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, 50, math.nan, math.inf])
def test_anything_else_is_refused_with_a_way_out(threshold):
    with pytest.raises(SettingsError, match="is a probability from 0 to 1") as caught:
        check_threshold(threshold)
    assert caught.value.remedy == Remedy("set", "threshold", 0.5)
