"""What is predicted against a truth, beside the window. Apart from the session, whose verbs train and know no truth."""

from typing import TYPE_CHECKING

from ..core.errors import SettingsError
from .slide_list import PathLike

if TYPE_CHECKING:
    from ..workflow.assess import Assessment
    from .jobs import Job, Work
    from .session import Session


def why_not_assess(session: "Session") -> str | None:
    """What is missing for a comparison with a truth; None when it can start."""
    return None if session._maps() else "Predict first: what is predicted is compared with the truth."


def assess(session: "Session", truth: PathLike, *, empty: str = "negative", wait: bool = True) -> "Assessment | Job":
    """Compare what the chosen model predicted, at the threshold shown, with a truth; see `workflow.assess`."""
    if reason := why_not_assess(session):
        raise SettingsError(reason)
    maps, threshold = session._maps(), session.threshold

    def work() -> "Work":
        from ..workflow.assess import assess

        return assess(maps, truth, threshold=threshold, empty=empty)

    return session._run("assess", "Comparing with the truth", work, lambda found: None, wait)
