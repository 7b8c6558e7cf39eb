"""What came of a prediction, in one line. No Qt."""

from collections.abc import Sequence

from .previews import Previews
from .project import Project

MOST_NAMED = 2  # slides; more are counted


def what_was_predicted(project: Project, previews: Previews, n_predicted: int, slide_ids: Sequence[str]) -> str:
    """'22 of 23 slides predicted. img12c could not be read.'"""
    failed = [slide_id for slide_id in slide_ids if slide_id in project.failures]
    paths = {row.slide_id: row.path for row in project.cohort}
    unreadable: list[str] = []
    others: list[str] = []
    for slide_id in failed:
        preview = previews.get(slide_id, paths[slide_id]) if slide_id in paths else None
        (unreadable if preview is not None and preview.reason else others).append(slide_id)
    count = len(slide_ids)
    done = f"{n_predicted}" if n_predicted == count else f"{n_predicted} of {count}"
    lines = [f"{done} slide{'s' * (count != 1)} predicted"]
    lines += [f"{_named(unreadable)} could not be read"] if unreadable else []
    lines += [f"{_named(others)} could not be predicted"] if others else []
    return ". ".join(lines) + ("." if failed else "")


def _named(slide_ids: Sequence[str]) -> str:
    if len(slide_ids) > MOST_NAMED:
        return f"{len(slide_ids)} slides"
    return " and ".join(slide_ids)
