"""`python -m torture`: kills, power cuts, lies and shortages, for some minutes, and one table.

`python -m torture soak --minutes 60`: one window, again and again, and what it holds after each round.
`python -m torture against COMMIT`: faults of a former version, there and here.
"""

import argparse
import signal
import sys
from pathlib import Path

from . import answers, former, kill, lie, power, soak, starve, together, window
from .runner import run, table, write
from .world import World

SHARES = {
    "kill": (kill, 0.27), "power": (power, 0.16), "lie": (lie, 0.15), "starve": (starve, 0.25),
    "together": (together, 0.03), "answers": (answers, 0.03), "window": (window, 0.11),
}  # fmt: skip
SHORT_MINUTES, SHORT_TRIALS = 6.0, 1  # of each subject, on a machine however slow


def main() -> int:
    """Run the trials. Exit status 1 if anything was lost."""
    if sys.argv[1:2] == ["soak"]:
        return soak.main(sys.argv[2:])
    if sys.argv[1:2] == ["against"]:
        return former.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--short", action="store_true", help="a few, as in the tests")
    parser.add_argument("--only", metavar="KIND[/SUBJECT]", help="trials of one kind, or one trial with --seed")
    parser.add_argument("--seed", type=int, default=0, help="of the first trial; the next has the next number")
    parser.add_argument("--trials", type=int, help="of each subject, at most")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    kind, _, subject = (options.only or "").partition("/")
    if kind and (kind not in SHARES or (subject and subject not in SHARES[kind][0].SUBJECTS)):
        parser.error(f"there is no {options.only!r}: {', '.join(subject_names(kind))}")
    stops: list[int] = []
    with World() as world:
        if subject:
            verdict = SHARES[kind][0].attempt(world, subject, options.seed)
            print(verdict)
            return int(verdict is None or verdict.outcome != "survived")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stops.append(1))
        kinds = {name: value for name, value in SHARES.items() if not kind or name == kind}
        tallies = run(
            world, kinds, SHORT_MINUTES if options.short else options.minutes, short=options.short,
            at_most=SHORT_TRIALS if options.short else options.trials, seed=options.seed,
            show=lambda line: print(line, flush=True), stopped=lambda: bool(stops),
        )  # fmt: skip
    print(table(tallies))
    if options.json:
        write(tallies, options.json, {"minutes": options.minutes, "seed": options.seed})
    return int(any(tally.survived < tally.tried for tally in tallies))


def subject_names(kind: str) -> list[str]:
    """What can be given to `--only`."""
    if kind in SHARES:
        return [f"{kind}/{subject}" for subject in SHARES[kind][0].SUBJECTS]
    return list(SHARES)


if __name__ == "__main__":
    sys.exit(main())
