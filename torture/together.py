"""At the same time: two of one command on one folder, a table that another program edits, a slide that is replaced.

Of two commands one may say that the other is at work; nothing ends in a traceback, and what is there afterwards is what
one command alone would have written.
"""

import json
import os
import random
import shutil
import time
from pathlib import Path

from .forks import forked
from .kill import compare
from .verdict import SURVIVED, Verdict, lost
from .world import World, contents, copy_tree, hidden
from .writers import WRITERS, lay_out, whole

DOES = "two of one command in one folder; a slide that is replaced under a prediction; a table that is edited elsewhere"
TWICE = ("training", "longer training", "features, zarr", "prediction", "export", "evaluation", "cohort", "project")
REPLACED, EDITED = "a slide is replaced under a prediction", "a table is edited while it is open"
SUBJECTS = (*(f"two of {name}" for name in TWICE), REPLACED, EDITED)
SHORT = ("two of training", "two of prediction", "two of cohort", REPLACED, EDITED)


def attempt(world: World, subject: str, seed: int) -> Verdict:
    """Trial number `seed`."""
    draw = random.Random(f"{subject} {seed}")
    if subject == REPLACED:
        return _replaced(world, draw)
    if subject == EDITED:
        return _edited(world, draw)
    return _twice(world, subject.removeprefix("two of "), draw)


def _twice(world: World, name: str, draw: random.Random) -> Verdict:
    writer = WRITERS[name]
    found = whole(world, writer)
    place, waits = lay_out(world, writer), (0.0, draw.uniform(0, found.seconds * 0.7))

    def both() -> list[object]:
        children = []
        for wait in waits:
            child = os.fork()
            if child == 0:
                status = 70
                try:
                    time.sleep(wait)
                    status = writer.work(world, place)
                except BaseException:  # noqa: BLE001
                    import traceback

                    traceback.print_exc()
                finally:
                    os._exit(status & 0xFF)
            children.append(child)
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

    ended = forked(both, patience=180)
    if wrong := ended.verdict():
        return wrong
    if any(status not in (0, 2) for status in ended.told) or 0 not in ended.told:
        return lost(f"ended with {ended.told}: {ended.said[-400:]}")

    def look() -> list[object]:
        return [writer.go_on(world, place), contents(place), hidden(place)]

    return compare(found, forked(look))


def _replaced(world: World, draw: random.Random) -> Verdict:
    """Another slide takes the place of one that is being predicted: its results are of one of the two, or it failed."""
    from .world import command

    place = world.fresh()
    copy_tree(world.cohort.parent, place / "cohort")
    copy_tree(world.run, place / "run")
    shutil.rmtree(place / "run" / "predictions", ignore_errors=True)
    slides = sorted((place / "cohort" / "slides").iterdir())
    table = place / "cohort" / "few.csv"
    words = ("predict", place / "run", table, "-o", place / "out", "--format", "csv")

    def predict() -> dict[str, str]:
        status = command(*words)
        found = {p.name: p.read_text() for p in (place / "out").glob("*.csv")}
        return {"status": str(status), **found}

    def replace(child: int) -> None:
        time.sleep(draw.uniform(0, 0.5))
        shutil.copy(slides[1], slides[0].with_name("new"))
        os.replace(slides[0].with_name("new"), slides[0])

    before = forked(predict)
    (first,) = (text for name, text in before.told.items() if name.startswith(slides[0].name.partition(".")[0]))
    shutil.rmtree(place / "out")
    shutil.rmtree(place / "run" / "predictions")
    ended = forked(predict, during=replace)
    if wrong := (ended.verdict() or before.verdict()):
        return wrong
    after = forked(predict)  # again: it has to see that the slide is another
    if wrong := after.verdict():
        return wrong
    name = f"{slides[0].name.partition('.')[0]}.csv"
    second = after.told.get(name)
    if after.told["status"] != "0" or second is None:
        return lost(f"the slide cannot be predicted any more: {after.said[-300:]}")
    seen = ended.told.get(name)
    if seen is not None and seen not in (first, second):
        return lost("the result is of neither slide")
    return SURVIVED


def _edited(world: World, draw: random.Random) -> Verdict:
    """What another program has written since is not lost: it is kept beside the table that is saved."""
    writer = WRITERS["cohort"]
    whole(world, writer)
    place = lay_out(world, writer)

    def work() -> dict[str, object]:
        from dataclasses import replace

        from napari_distill2label.core.errors import Distill2LabelError
        from napari_distill2label.store.cohort import Cohort

        path = place / "cohort.csv"
        cohort = Cohort.read(path).with_classes()
        path.write_text(path.read_text("utf-8").replace(",50", ",99"), "utf-8")
        first, *others = cohort.slides
        try:
            cohort.with_slides([replace(first, label="tumour"), *others]).save()
        except Distill2LabelError as error:
            return {"refused": str(error)}
        return {"files": [p.read_text("utf-8") for p in Path(place).glob("cohort.csv*")]}

    ended = forked(work)
    if wrong := ended.verdict():
        return wrong
    if "refused" in ended.told or any(",99" in text for text in ended.told["files"]):
        return SURVIVED
    return lost(f"what was written elsewhere is gone: {json.dumps(ended.told)[:300]}")
