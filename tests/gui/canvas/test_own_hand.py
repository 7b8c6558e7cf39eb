"""Whose doing it is, also within one another and after an error."""

from contextlib import suppress

from napari_distill2label.gui.canvas.own_hand import OwnHand


def test_true_until_the_outermost_is_left():
    own_hand = OwnHand()
    assert not own_hand
    with own_hand:
        with own_hand:
            assert own_hand
        assert own_hand
    assert not own_hand


def test_an_error_leaves_it_too():
    own_hand = OwnHand()
    with suppress(ValueError), own_hand:
        raise ValueError
    assert not own_hand
