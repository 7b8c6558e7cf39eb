"""What became of a trial."""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["survived", "lost", "traceback", "hang"]


@dataclass(frozen=True)
class Verdict:
    """`tried`: how many things were done in this one trial. `evidence`: why it is not "survived", or notes."""

    outcome: Outcome
    evidence: str = ""
    tried: int = 1
    failed: int = 0  # of those tried; at least 1 unless survived

    def __post_init__(self) -> None:
        if self.outcome != "survived" and not self.failed:
            object.__setattr__(self, "failed", 1)


SURVIVED = Verdict("survived")


def lost(evidence: str) -> Verdict:
    """It was lost, and this is how one sees it."""
    return Verdict("lost", evidence)
