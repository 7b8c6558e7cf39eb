import gzip
import io
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from napari_distill2label.core.foreign_files import read_at_most, read_file

ZERO = Path("/dev/zero")


def test_no_more_is_read_than_the_limit():
    assert read_at_most(io.BytesIO(b"abc"), 3) == b"abc"
    assert read_at_most(io.BytesIO(b"abcde"), 3) == b"abc"
    data = bytes(3_000_000)
    assert read_at_most(gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(data))), 1 << 22) == data


def test_a_small_file_takes_little_memory_however_much_it_might_have(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    tracemalloc.start()
    with path.open("rb") as file:
        assert read_at_most(file, 1 << 30) == b"abc"
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10_000_000


def test_a_file_is_read_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert read_file(path, 3) == b"abc"
    with pytest.raises(ValueError, match="more than 2 bytes"):
        read_file(path, 2)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "b", 2)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_nobody_waits_for_a_pipe(tmp_path):
    from napari_distill2label.store.files.seal import read_json
    from napari_distill2label.store.sample import is_own

    os.mkfifo(tmp_path / "a")
    for read in (lambda path: read_file(path, 10), read_json):
        with pytest.raises(ValueError, match="is a pipe"):
            read(tmp_path / "a")
    assert not is_own(tmp_path / "a")


# What looks into folders that came from elsewhere, and may hold links to a device. Each call returns or raises an error
# of ours with 256 MB of memory more than it has at the start.
LOOKING = """
import resource, sys
from pathlib import Path

from napari_distill2label.core.errors import BundleError
from napari_distill2label.slides.discovery import named_slides
from napari_distill2label.store.files.lock import HOLDER, describe_holder
from napari_distill2label.store.files.own_groups import is_own_group
from napari_distill2label.store.maps.feature_map import signature_in
from napari_distill2label.store.maps.patch_map import read_header
from napari_distill2label.store.run import Run
from napari_distill2label.store.run_summary import scan
from napari_distill2label.store.tables.mark_table import table_name

used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
run, group, table = map(Path, sys.argv[1:])


def look():
    scan([run])
    describe_holder(run / HOLDER)
    try:
        Run.open(run).cohort
    except BundleError as error:
        assert "\\n" not in str(error)
    is_own_group(group)
    read_header(group)
    signature_in(group)
    table_name(table)
    named_slides([group.parent])


for file in (*(run / name for name in ("settings.json", "cohort.csv", "history.csv", "teacher/config.json",
             "teacher/metrics.json", HOLDER)), group / "zarr.json", Path(f"{table}-metadata.json")):
    file.parent.mkdir(exist_ok=True)
    aside = file.with_name("aside")
    if file.exists():
        file.rename(aside)
    for place in ("/dev/zero", file.name):  # and a link to itself
        file.symlink_to(place)
        try:
            look()
        except MemoryError:
            print(file.name)
        file.unlink(missing_ok=True)
    if aside.exists():
        aside.rename(file)
"""


@pytest.mark.slow
@pytest.mark.skipif(not ZERO.exists() or not sys.platform.startswith("linux"), reason="limits as Linux has them")
def test_nothing_that_looks_into_a_folder_reads_a_device(tmp_path):
    from napari_distill2label.core.presets import build_settings
    from napari_distill2label.store.cohort import Cohort, CohortSlide
    from napari_distill2label.store.run import Run, RunConfig

    cohort = Cohort((CohortSlide("a", tmp_path / "a.png", "y"), CohortSlide("b", tmp_path / "b.png", "x")), ("x", "y"))
    run = Run.create(tmp_path / "run", RunConfig(settings=build_settings(), classes=("x", "y")), cohort)
    (tmp_path / "slides" / "a.zarr").mkdir(parents=True)
    (tmp_path / "slides" / "a.png").touch()
    done = subprocess.run(
        [sys.executable, "-c", LOOKING, run.folder, tmp_path / "slides" / "a.zarr", tmp_path / "a.csv"],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=120, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
