"""Faults of a former version: `python -m torture against COMMIT` tries them there, and here.

Each is one command of a user, by the command line alone, so that it can be tried in every version. The former one is
checked out beside this one; what is called otherwise there is listed in `FORMER`.
"""

import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .forks import forked, scratch_place

FORMER = {"extract-features": "features", "segment-tissue": "tissue", "prepare-dataset": "dataset"}
QUICK = ("--device=cpu", "--teacher.epochs=1", "--student.epochs=1", "--oof.epochs=1", "--assistants.epochs=1")
LONG_ECHO = 5000  # characters of an error that repeats a cell


class Before:
    """A cohort of PNGs and OME-TIFFs, a run, and the command line of the version that is imported."""

    def __init__(self, folder: Path) -> None:
        from napari_distill2label import cli
        from napari_distill2label.slides import synthetic

        self.main: Any = cli.main if callable(getattr(cli, "main", None)) else None
        if self.main is None:
            from napari_distill2label.cli.main import main

            self.main = main
        self.folder, self.place = folder, folder / "trial"
        self.is_former = not (Path(cli.__file__).parent / "commands.py").exists()
        self.cohort = synthetic.write_cohort(folder / "cohort", 6, seed=3, shape=(64, 64))
        self.truth = self.cohort.with_name("truth.csv")
        self.run = folder / "run"
        known = forked(lambda: self.said("train", "--help")[1]).told
        self.quick = [flag for flag in QUICK if flag.partition("=")[0] in known]
        work = forked(lambda: self.command("train", self.cohort, "-o", self.run, *self.quick))
        if work.status:
            raise RuntimeError(f"no run could be made: {work.said[-500:]}")
        forked(lambda: self.command("predict", self.run, self.cohort, "-o", folder / "predicted", "--format=csv"))

    def command(self, verb: str, *words: object) -> int:
        verb = FORMER.get(verb, verb) if self.is_former else verb
        return int(self.main([verb, *map(str, words)]))

    def said(self, verb: str, *words: object) -> tuple[int, str]:
        """Exit status, and what is said on both streams."""
        import contextlib
        import io

        out = io.StringIO()
        with contextlib.redirect_stderr(out), contextlib.redirect_stdout(out):
            try:
                status = self.command(verb, *words)
            except SystemExit as stop:
                status = stop.code if isinstance(stop.code, int) else 2
        return status, out.getvalue()

    def rows(self) -> list[dict[str, str]]:
        with self.cohort.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            row["path"] = str(self.cohort.parent / row["path"])
        return rows

    def table(self, rows: list[dict[str, str]], name: str = "own.csv") -> Path:
        path = self.place / name
        path.parent.mkdir(exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path

    def slide(self, suffix: str) -> Path:
        """A slide in a folder of its own."""
        import numpy as np
        import tifffile
        from PIL import Image

        path = self.place / "slides" / f"a{suffix}"
        path.parent.mkdir()
        first = Path(self.rows()[0]["path"])
        if suffix == ".png":
            Image.fromarray(np.asarray(tifffile.imread(first))).save(path)
        else:
            shutil.copy(first, path)
        return path


Check = Callable[[Before], str]


def _kept(path: Path, work: Callable[[], object], what: str) -> str:
    """The fault, if a file is another afterwards."""
    before = path.read_bytes()
    work()
    return "" if path.exists() and path.read_bytes() == before else f"{what} is replaced"


def _over_slide(verb: str, suffix: str, form: str) -> Check:
    def check(old: Before) -> str:
        slide = old.slide(suffix)
        run = shutil.copytree(old.run, old.place / "run")
        words = [run, slide] if verb == "predict" else [run]
        if verb == "export":
            old.command("predict", run, slide, "-o", old.place / "first", "--format=csv", "--mpp=0.5")
        more = ["--mpp=0.5"] if verb == "predict" else []
        return _kept(slide, lambda: old.command(verb, *words, "-o", slide.parent, "--format", form, *more), "the slide")

    return check


def _over_file(name: str, form: str) -> Check:
    def check(old: Before) -> str:
        slide = old.slide(".png")
        own = old.place / "out" / name
        own.parent.mkdir()
        own.write_text("mine, drawn for three weeks\n")
        words = [old.run, slide, "-o", own.parent, "--format", form, "--mpp=0.5"]
        return _kept(own, lambda: old.command("predict", *words), f"the user's own {name}")

    return check


def _over_table(old: Before) -> str:
    table = old.table([row | {"age": "61"} for row in old.rows()], "cohort.csv")
    return _kept(table, lambda: old.command("train", table, "-o", old.place, *old.quick), "the user's table")


def _over_truth(old: Before) -> str:
    truth = Path(shutil.copy(old.truth, old.place / "truth.csv"))
    words = [old.run, old.cohort, "--truth", truth, "-o", truth, "--split=all"]
    return _kept(truth, lambda: old.said("evaluate", *words), "the ground truth")


def _over_tissue(old: Before) -> str:
    old.command("segment-tissue", old.cohort, "-o", old.place / "t")
    one = min((old.place / "t").glob("*.geojson"))
    one.write_text(one.read_text() + "\n")  # as an editor saves it
    return _kept(
        one, lambda: old.said("segment-tissue", old.cohort, "-o", old.place / "t"), "a corrected tissue region"
    )


def _over_dataset(old: Before) -> str:
    folder = old.place / "breast"
    folder.mkdir()
    for kind in ("benign", "malignant"):
        import numpy as np
        from PIL import Image

        Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(folder / f"ytma10_010704_{kind}1_ccd.tif")
    own = old.place / "tables" / "cohort.csv"
    own.parent.mkdir()
    own.write_text("slide_id,label\nmine,tumour\n")
    return _kept(own, lambda: old.said("prepare-dataset", "breast", folder, "-o", own.parent), "the user's cohort.csv")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 0x40
    path.write_bytes(data)


def _damaged(pattern: str, *verb: str) -> Check:
    def check(old: Before) -> str:
        run = shutil.copytree(old.run, old.place / "run")
        files = sorted(path for path in run.glob(pattern) if path.is_file())
        _flip(max(files, key=lambda path: path.stat().st_size))
        status, said = old.said(*_filled(verb, run, old))
        word = any(word in said.lower() for word in ("damage", "digest", "checksum", "not whole", "changed", "altered"))
        return "" if status or word else f"a flipped bit in {pattern} goes unnoticed"

    return check


def _filled(words: tuple[str, ...], run: Path, old: Before) -> list[Any]:
    return [{"RUN": run, "COHORT": old.cohort, "OUT": old.place / "out"}.get(word, word) for word in words]


def _formula(old: Before) -> str:
    rows = [row | {"slide_id": f"=1+{n}"} for n, row in enumerate(old.rows()[:2])]
    run = shutil.copytree(old.run, old.place / "run")
    table = old.table(rows)
    old.said("predict", run, table, "-o", old.place / "out", "--format", "csv")
    for path in (old.place / "out").rglob("*.csv"):
        if any(line.startswith("=1+") for line in path.read_text("utf-8").splitlines()):
            return "a slide's id is a formula in a table"
    return ""


def _escape(old: Before) -> str:
    table = old.table([row | {"slide_id": f"\x1b[31m{n}", "path": "gone.png"} for n, row in enumerate(old.rows())])
    return (
        "an id moves the terminal's cursor" if "\x1b[31m" in old.said("train", table, "-o", old.place / "r")[1] else ""
    )


def _echo(old: Before) -> str:
    table = old.table([row | {"mpp": "x" * 100_000} for row in old.rows()])
    return (
        "an error repeats a cell of 100 kB"
        if len(old.said("train", table, "-o", old.place / "r")[1]) > LONG_ECHO
        else ""
    )


def _leak(turned: bool) -> Check:
    def check(old: Before) -> str:
        import numpy as np
        import tifffile
        from PIL import Image

        rows = old.rows()
        for number, row in enumerate(rows):
            row["split"] = "test" if number >= 4 else "train"
        copy = old.place / ("copy.png" if turned else "copy.ome.tif")
        if turned:
            Image.fromarray(np.ascontiguousarray(np.rot90(tifffile.imread(rows[1]["path"])))).save(copy)
        else:
            shutil.copy(rows[1]["path"], copy)
        rows[4]["path"] = str(copy)
        status, said = old.said("train", old.table(rows), "-o", old.place / "r", *old.quick)
        word = any(word in said for word in ("same file", "same picture", "copies"))
        return "" if status or word else "a slide is trained on and tested"

    return check


def _kill_at(step: int) -> None:
    """Kill this process before it renames for the time `step`."""
    rename, taken = os.replace, []

    def replace(*arguments: Any, **named: Any) -> None:
        taken.append(1)
        if len(taken) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*arguments, **named)

    os.replace = replace


def _killed(old: Before) -> str:
    """SIGKILL at each of the first renames of a prediction, each time; what is left when it has gone on."""
    run = shutil.copytree(old.run, old.place / "run")
    shutil.rmtree(run / "predictions", ignore_errors=True)
    words = ("predict", run, old.cohort, "-o", old.place / "out", "--format=csv,geojson")
    for step in range(1, 8, 2):
        child = os.fork()
        if child == 0:
            _kill_at(step)
            try:
                old.said(*words)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    status, said = old.said(*words)
    if status:
        return f"a killed prediction cannot be gone on with: {said[-200:]}"
    left = [path.name for path in old.place.rglob(".*") if path.name != ".distill2label.jsonl"]
    return f"a kill leaves {left[0]} for good" if left else ""


def _short(old: Before) -> str:
    limit = 4096
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        status, _ = old.said("train", old.cohort, "-o", old.place / "r", *old.quick)
    except Exception as error:  # noqa: BLE001 · what a user would see as a traceback
        return f"files that may not grow end in {type(error).__name__}"
    return "" if status else "files that may not grow go unnoticed"


def _twice(old: Before) -> str:
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            status = 70
            try:
                status = old.said("train", old.cohort, "-o", old.place / "r", *old.quick, "--teacher.epochs=12")[0]
            finally:
                os._exit(status)
        children.append(child)
        time.sleep(0.3)
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return "two trainings write one run" if ended == [0, 0] else ""


CHECKS: dict[str, Check] = {
    "predict onto the folder of a PNG": _over_slide("predict", ".png", "png"),
    "predict onto the folder of an OME-TIFF": _over_slide("predict", ".ome.tif", "ome-tiff"),
    "export onto the folder of a PNG": _over_slide("export", ".png", "png"),
    "the user's own a.geojson": _over_file("a.geojson", "geojson"),
    "the user's own a.csv": _over_file("a.csv", "csv"),
    "train in the folder of cohort.csv": _over_table,
    "evaluate onto the truth": _over_truth,
    "tissue regions that were corrected": _over_tissue,
    "tables of a data set over the user's": _over_dataset,
    "a flipped bit in a model": _damaged("student/*", "predict", "RUN", "COHORT", "-o", "OUT", "--format=csv"),
    "a flipped bit in a patch map": _damaged("predictions/**/c/**/*", "export", "RUN", "-o", "OUT", "--format=csv"),
    "a formula as an id": _formula,
    "an escape sequence as an id": _escape,
    "a cell of 100 kB": _echo,
    "one file in two splits": _leak(turned=False),
    "one picture in two splits": _leak(turned=True),
    "a prediction that is killed": _killed,
    "files that may not grow": _short,
    "two trainings at once": _twice,
}


def here() -> dict[str, str]:
    """Try all in the version that is imported: what is wrong, by check; "" where nothing is."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="former-", dir=scratch_place()) as name:
        old = Before(Path(name))
        for what, check in CHECKS.items():
            shutil.rmtree(old.place, ignore_errors=True)
            old.place.mkdir()

            def work(check: Check = check) -> str:
                return check(old)

            ended = forked(work)
            if ended.hung:
                found[what] = "it hangs"
            elif isinstance(ended.told, str):
                found[what] = ended.told
            else:
                last = (ended.said.strip().splitlines() or [f"status {ended.status}"])[-1]
                found[what] = f"it ends with: {last[:160]}"
            print(f"{what}: {found[what] or 'kept'}", file=sys.stderr, flush=True)
    return found


def main(arguments: list[str]) -> int:
    """Print both columns. Exit status 1 if something is wrong here."""
    if arguments == ["--here"]:
        print(json.dumps(here()))
        return 0
    if len(arguments) != 1:
        print("python -m torture against COMMIT", file=sys.stderr)
        return 2
    root = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory(prefix="former-") as name:
        tree, code = Path(name) / "tree", Path(name) / "code"
        code.mkdir()
        (code / "torture").symlink_to(Path(__file__).parent)
        git = ["git", "-C", str(root), "worktree"]
        subprocess.run([*git, "add", "--detach", str(tree), arguments[0]], check=True, capture_output=True)
        try:
            then, now = (_in(checkout, code) for checkout in (tree, root))
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=False, capture_output=True)
    print(f"| tried | {arguments[0]} | now |\n|---|---|---|")
    for what in CHECKS:
        print(f"| {what} | {then[what] or 'kept'} | {now[what] or 'kept'} |")
    faults = sum(map(bool, then.values())), sum(map(bool, now.values()))
    print(f"faults: {faults[0]} of {len(CHECKS)} then, {faults[1]} now")
    return int(faults[1] > 0)


def _in(checkout: Path, code: Path) -> dict[str, str]:
    """Try all with the package of a checkout."""
    environment = os.environ | {"PYTHONPATH": f"{code}{os.pathsep}{checkout}"}
    done = subprocess.run(
        [sys.executable, "-m", "torture.former", "--here"], env=environment, cwd=code, stdout=subprocess.PIPE,
        text=True, check=True,
    )  # fmt: skip
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
