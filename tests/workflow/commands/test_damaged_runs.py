"""Whatever accident befalls a file of a run: it is refused in one line that names the file, or changes no result.

Files of a finished and of a half-finished run are altered at random, with a fixed seed: bits flipped, bytes replaced,
zeroed, left out, put in, the end cut off. What reads each file is asked, some hundred times; and a whole `--resume`
some times.
"""

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch

from napari_distill2label.core.errors import Distill2LabelError
from napari_distill2label.core.events import EpochEnd, drain
from napari_distill2label.core.network_names import NETWORKS
from napari_distill2label.store.bundle import load_bundle
from napari_distill2label.store.checkpoint import load_checkpoint
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.learnt import LearntSlides
from napari_distill2label.store.run import Run
from napari_distill2label.store.timing import Timing
from napari_distill2label.workflow.commands.train import train

EACH = 24  # alterations of a file


@pytest.fixture(scope="module")
def runs(shared_run, cohort_csv, tmp_path_factory):
    """A run that is finished, and one that was stopped in the middle, both with paths from the root."""
    folder = tmp_path_factory.mktemp("damaged")
    finished, half = folder / "finished", folder / "half"
    shutil.copytree(shared_run, finished)
    Cohort.read(shared_run / "cohort.csv").write(finished / "cohort.csv")
    work = train(Cohort.read(cohort_csv), half, Run.open(finished).config.settings)
    for event in work:
        if isinstance(event, EpochEnd) and event.network == "oof-2":
            break
    work.close()
    return {"finished": finished, "half": half}


def altered(content: bytes, draw: random.Random) -> bytes:
    """The bytes after one accident."""
    at, length = draw.randrange(len(content)), draw.choice((1, 2, 8, 64, 512))
    kind = draw.choice(("flip", "replace", "zero", "leave out", "put in", "cut off", "empty", "swap"))
    if kind == "flip":
        return content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]
    if kind == "replace":
        return content[:at] + draw.randbytes(length) + content[at + length :]
    if kind == "zero":
        return content[:at] + bytes(length) + content[at + length :]
    if kind == "leave out":
        return content[:at] + content[at + length :]
    if kind == "put in":
        return content[:at] + draw.randbytes(length) + content[at:]
    if kind == "cut off":
        return content[:at]
    if kind == "empty":
        return b""
    other = draw.randrange(len(content))
    swapped = bytearray(content)
    swapped[at], swapped[other] = swapped[other], swapped[at]
    return bytes(swapped)


def _of_bundle(run: Path, network: str):
    model, config, _ = load_bundle(run / network)
    return config, {name: tensor.tolist() for name, tensor in model.state_dict().items()}


def _of_checkpoint(path: Path):
    state = load_checkpoint(path)
    groups = (state.weights, state.best_weights, state.random, *state.optimiser.values())
    numbers = [{name: tensor.clone() for name, tensor in group.items()} for group in groups]
    return (state.epoch, state.best_epoch, state.history, state.teacher_digest), numbers


def _same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


def readers(run: Path):
    """What reads each file of a run, as (file, what is read)."""
    yield run / "settings.json", lambda: Run.open(run).config
    yield run / "cohort.csv", lambda: [(s.slide_id, s.label, s.case_id, s.mpp, s.split) for s in Run.open(run).cohort]
    for network in NETWORKS:
        for name in ("config.json", "metrics.json", "model.safetensors"):
            if (run / network / name).exists():
                yield run / network / name, lambda network=network: _of_bundle(run, network)
    for path in sorted((run / "checkpoints").iterdir()):
        yield path, lambda path=path: _of_checkpoint(path)


@pytest.mark.parametrize("kind", ["finished", "half"])
def test_no_alteration_is_accepted(runs, kind):
    run, draw, counts, refusals = runs[kind], random.Random(0), Counter(), []
    for path, read in readers(run):
        whole, before = path.read_bytes(), read()
        for _ in range(EACH):
            content = altered(whole, draw)
            path.write_bytes(content)
            try:
                same = _same(before, read())
            except Distill2LabelError as error:
                refusals.append((path, str(error)))
            else:
                counts["the same" if same else "accepted"] += 1
        path.write_bytes(whole)
    assert counts["accepted"] == 0
    assert len(refusals) > 4 * counts["the same"]  # most accidents do change something
    for path, line in refusals:
        assert line.isprintable()
        assert str(path.parent) in line, line
        assert path.name in line or f"{path.parent}: " in line, line  # a bundle's file, or the bundle


@pytest.mark.parametrize("kind", ["finished", "half"])
def test_of_what_nothing_depends_on_nothing_false_is_believed(runs, kind):
    run, draw = runs[kind], random.Random(0)
    kept = {"timing.json": lambda: Timing.read(run), "slides.json": lambda: LearntSlides.of(Run.open(run)).files}
    for name, read in kept.items():
        path = run / name
        if not path.exists():
            continue
        whole, before = path.read_bytes(), read()
        for _ in range(EACH):
            path.write_bytes(altered(whole, draw))
            assert read() in (None, before)
        path.write_bytes(whole)


@pytest.mark.parametrize("kind", ["finished", "half"])
def test_resuming_an_altered_run_is_one_line_or_gives_the_same_models(runs, kind, tmp_path, cohort_csv, cli):
    # Both were asked for the same; without plain MIL, which was trained beside, the others are the same too.
    whole = {
        network: load_bundle(runs["finished"] / network).config.weights_sha256 for network in ("teacher", "student")
    }
    draw = random.Random(1)
    files = sorted(path.relative_to(runs[kind]) for path in runs[kind].rglob("*") if path.is_file())
    files = [
        name for name in files if name.suffix in (".json", ".csv", ".safetensors") and "predictions" not in name.parts
    ]
    for number, name in enumerate(draw.sample(files, 7)):
        run = tmp_path / f"{number}"
        shutil.copytree(runs[kind], run)
        Cohort.read(runs[kind] / "cohort.csv").write(run / "cohort.csv")
        (run / name).write_bytes(altered((run / name).read_bytes(), draw))
        status, _, err = cli("train", cohort_csv, "-o", run, "--resume")
        assert "Traceback" not in err
        if status == 0:
            made = {network: load_bundle(run / network).config.weights_sha256 for network in whole}
            assert made == whole, name
        else:
            last = [line for line in err.splitlines() if line.startswith("distill2label: ")]
            assert (status, len(last)) == (2, 1), err
            assert str(run) in last[0], last


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b"null", b"3", b'"text"', b"[]", b"{}", b"9" * 6000,
        b'{"settings": {"preset": "of nobody", "seed": 1e400}, "classes": ["a", "b"]}',
        b'{"settings": {"teacher": []}, "classes": ["a", "b"]}', b'{"settings": {}, "classes": "ab"}',
        b'{"settings": {}, "classes": ["a", "b"], "tissue": 3}', b'{"settings": {"seed": NaN}, "classes": ["a", "b"]}',
        b'{"settings": {}, "classes": ["a", "b"], "\\u001b[2J\\n": 1}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["settings.json", "student/config.json", "student/metrics.json", "slides.json"])
def test_json_of_somebody_else_is_one_line_that_names_the_file(runs, tmp_path, name, content):
    run = tmp_path / "run"
    shutil.copytree(runs["finished"], run, ignore=shutil.ignore_patterns("predictions", "checkpoints"))
    (run / name).write_bytes(content)

    def read():
        return Run.open(run), load_bundle(run / "student"), LearntSlides.of(Run.open(run))

    if name == "slides.json":  # told again from the slides
        assert read()[2].files
        return
    with pytest.raises(Distill2LabelError) as caught:
        read()
    assert str(run / name) in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name", ["settings.json", "cohort.csv", "student/config.json", "checkpoints/student.safetensors"]
)
def test_a_folder_in_place_of_a_file_is_one_line_that_names_it(runs, tmp_path, cohort_csv, cli, name):
    run = tmp_path / "run"
    shutil.copytree(runs["finished"], run, ignore=shutil.ignore_patterns("predictions"))
    Cohort.read(runs["finished"] / "cohort.csv").write(run / "cohort.csv")
    (run / name).unlink()
    (run / name).mkdir()
    status, _, err = cli("train", cohort_csv, "-o", run, "--resume")
    assert "Traceback" not in err
    if name == "student/config.json":  # made again from its checkpoint
        assert status == 0
        assert any(str(run / "student") in line for line in err.splitlines())
    else:
        last = [line for line in err.splitlines() if line.startswith("distill2label: ")]
        assert (status, len(last)) == (2, 1), err
        assert str(run) in last[0]


def test_the_finished_run_is_still_whole(runs, tmp_path, cohort_csv):
    """That the tests above put back what they altered."""
    run = tmp_path / "run"
    shutil.copytree(runs["finished"], run)
    Cohort.read(runs["finished"] / "cohort.csv").write(run / "cohort.csv")
    assert drain(train(Cohort.read(cohort_csv), run, resume=True)).models == NETWORKS
