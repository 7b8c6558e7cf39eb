"""Gives every kind of trial its time, and prints one table."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType

from .verdict import Verdict
from .world import World


@dataclass
class Tally:
    """What became of the trials of one kind with one subject."""

    kind: str
    subject: str
    tried: int = 0
    lost: int = 0
    tracebacks: int = 0
    hangs: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)  # each with how to repeat it

    @property
    def survived(self) -> int:
        return self.tried - self.lost - self.tracebacks - self.hangs

    def add(self, verdict: Verdict, seed: int, seconds: float) -> None:
        self.tried += verdict.tried
        self.seconds += seconds
        if verdict.outcome == "survived":
            return
        self.lost += verdict.failed * (verdict.outcome == "lost")
        self.tracebacks += verdict.failed * (verdict.outcome == "traceback")
        self.hangs += verdict.failed * (verdict.outcome == "hang")
        self.failures.append(f'--only "{self.kind}/{self.subject}" --seed {seed}: {verdict.evidence}')


def run(
    world: World,
    kinds: Mapping[str, tuple[ModuleType, float]],
    minutes: float,
    *,
    short: bool = False,
    at_most: int | None = None,
    seed: int = 0,
    show: Callable[[str], None] = print,
    stopped: Callable[[], bool] = lambda: False,
) -> list[Tally]:
    """Trials of all kinds, each for its share of the minutes; the subjects of a kind get equal time.

    `short`: only the subjects that a kind names for it. `at_most`: trials of each subject. What a kind
    leaves of its time (it has tried everything) the next ones get.
    """
    tallies, begin = [], time.monotonic()
    left = sum(share for _, share in kinds.values())
    for kind, (module, share) in kinds.items():
        remaining = begin + 60 * minutes - time.monotonic()
        until = time.monotonic() + remaining * share / left
        left -= share
        subjects = module.SHORT if short else module.SUBJECTS
        own = {subject: Tally(kind, subject) for subject in subjects}
        tallies += own.values()
        seeds = dict.fromkeys(own, seed)
        while own and time.monotonic() < until and not stopped():
            subject = min(own, key=lambda name: own[name].seconds)
            tally, number = own[subject], seeds[subject]
            seeds[subject] += 1
            start = time.monotonic()
            verdict = module.attempt(world, subject, number) if number - seed != at_most else None
            if verdict is None:
                del own[subject]
                continue
            tally.add(verdict, number, time.monotonic() - start)
            if verdict.outcome != "survived":
                show(f"{verdict.outcome.upper()} {tally.failures[-1]}")
        found = [tally for tally in tallies if tally.kind == kind]
        show(f"{kind}: {sum(t.tried for t in found)} tried, {sum(t.survived for t in found)} survived")
    return tallies


def table(tallies: Iterable[Tally]) -> str:
    """One line for each kind and subject, and one for all."""
    tallies = [tally for tally in tallies if tally.tried]
    rows = [("kind", "subject", "tried", "survived", "lost", "traceback", "hang", "s")]
    for tally in tallies:
        rows.append(_row(tally.kind, tally.subject, [tally]))
    for kind in dict.fromkeys(tally.kind for tally in tallies):
        rows.append(_row(kind, "all", [tally for tally in tallies if tally.kind == kind]))
    rows.append(_row("all", "", tallies))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        cells += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def _row(kind: str, subject: str, tallies: list[Tally]) -> tuple[str, ...]:
    names = ("tried", "survived", "lost", "tracebacks", "hangs", "seconds")
    return (kind, subject, *(f"{sum(getattr(tally, name) for tally in tallies):.0f}" for name in names))


def write(tallies: Iterable[Tally], path: Path, about: Mapping[str, object]) -> None:
    """All of it as JSON."""
    data = {**about, "trials": [asdict(tally) | {"survived": tally.survived} for tally in tallies]}
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", "utf-8")
