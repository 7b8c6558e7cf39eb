"""Ask what a threshold is to promise of negative slides."""

from magicgui.widgets import Dialog, FloatSpinBox, Label
from qtpy.QtWidgets import QWidget

ABOUT = (
    "On a slide without a finding, every labelled patch is a false alarm.\n"
    "The threshold is chosen so that there are few of them. It rests on\n"
    "the predicted slides that you labelled negative and that were not\n"
    "used for training: of 9 patients at least for 90 %."
)


def ask_promise(parent: QWidget) -> tuple[float, float] | None:
    """Return the share of a negative slide that may be labelled, and the risk that it is more. None: cancelled."""
    share = FloatSpinBox(value=5.0, min=0.1, max=50.0, step=0.5, label="Largest labelled share (%)", name="share")
    sure = FloatSpinBox(value=90.0, min=50.0, max=99.0, step=1.0, label="Confidence (%)", name="sure")
    share.tooltip = "Share of the patches of a new negative slide that may be labelled as a finding"
    sure.tooltip = "Probability that a new negative slide keeps to this. A higher one needs more patients"
    dialog = Dialog(widgets=[Label(value=ABOUT, label=""), share, sure], parent=parent)
    dialog.native.setWindowTitle("A threshold with a promise")
    if not dialog.exec():
        return None
    return share.value / 100, 1 - sure.value / 100
