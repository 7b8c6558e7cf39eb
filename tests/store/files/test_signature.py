"""A slide's signature changes when any of its files does, and only then."""

import os
import shutil
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_distill2label.store.files.signature import file_signature


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_the_signature_of_a_url_is_what_its_server_tells(tmp_path):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install -e '.[slides]'")
    file = tmp_path / "slide.tif"
    file.write_bytes(b"12345")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/slide.tif"
        first = file_signature(url)
        assert first.startswith("5-")
        assert file_signature(url) == first
        file.write_bytes(b"123456")
        assert file_signature(url) != first
        assert file_signature(f"{url}.gone") == "unknown"
        server.shutdown()
    assert file_signature(file.as_uri()) == "unknown"  # a URL never stands for a file of this computer


def write_zarr(path: Path) -> Path:
    group = zarr.create_group(path, zarr_format=2)
    group.create_array("0", data=np.arange(120 * 90 * 3, dtype=np.uint32).astype(np.uint8).reshape(120, 90, 3),
                       chunks=(64, 64, 3))  # fmt: skip
    return path


def write_mirax(path: Path) -> Path:
    (path.parent / path.stem).mkdir()
    (path.parent / path.stem / "Slidedat.ini").write_text("[GENERAL]")
    (path.parent / path.stem / "Data0000.dat").write_bytes(bytes(range(200)))
    path.write_bytes(b"mirax")
    return path


def write_vms(path: Path) -> Path:
    path.write_text("[Virtual Microscope Specimen]")
    (path.parent / f"{path.stem}(0,0).jpg").write_bytes(b"jpeg")
    return path


@pytest.mark.parametrize(
    ("write", "name", "part"),
    [
        (write_zarr, "a.zarr", "a.zarr/0/1.1.0"),
        (write_mirax, "a.mrxs", "a/Data0000.dat"),
        (write_mirax, "a.mrxs", "a.mrxs"),
        (write_vms, "a.vms", "a(0,0).jpg"),
    ],
)
def test_every_file_of_a_slide_counts(tmp_path: Path, write: Callable[[Path], Path], name: str, part: str):
    path = write(tmp_path / name)
    first = file_signature(path)
    assert file_signature(path) == file_signature(str(path) + ("/" if path.is_dir() else "")) == first
    file = tmp_path / part
    data, status = file.read_bytes(), file.stat()
    file.write_bytes(data[::-1])  # as many bytes
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    changed = file_signature(path)
    assert changed != first
    file.write_bytes(data + b"x")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_signature(path) not in (first, changed)
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_signature(path) == first


def test_files_that_come_go_or_change_places_count(tmp_path: Path):
    path = write_zarr(tmp_path / "a.zarr")
    first = file_signature(path)
    chunk = path / "0" / "1.1.0"
    chunk.rename(path / "0" / "1.2.0")
    assert file_signature(path) != first
    (path / "0" / "1.2.0").rename(chunk)
    assert file_signature(path) == first
    (path / "0" / "0.0.0").rename(tmp_path / "lost")
    assert file_signature(path) != first


def test_a_copy_that_keeps_the_times_is_the_same_slide(tmp_path: Path):
    for path in (write_zarr(tmp_path / "a.zarr"), write_mirax(tmp_path / "b.mrxs")):
        copy = tmp_path / "elsewhere" / path.name
        copy.parent.mkdir(exist_ok=True)
        shutil.copytree(path, copy) if path.is_dir() else shutil.copy2(path, copy)
        if path.suffix == ".mrxs":
            shutil.copytree(path.with_suffix(""), copy.with_suffix(""))
        assert file_signature(copy) == file_signature(path)


def test_a_single_file_is_told_by_size_and_time_as_ever(tmp_path: Path):
    path = tmp_path / "a.svs"
    path.write_bytes(b"12345")
    (tmp_path / "a.csv").write_text("beside it")
    os.utime(path, ns=(1, 1_700_000_000_123_456_789))
    assert file_signature(path) == "5-1700000000123456789"


def test_a_loop_of_links_ends(tmp_path: Path):
    path = write_zarr(tmp_path / "a.zarr")
    try:
        (path / "loop").symlink_to(path, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    assert file_signature(path)


def test_a_dicom_slide_is_all_files_of_its_series_and_no_others(data_dir: Path, tmp_path: Path):
    folder = tmp_path / "CMU-1"
    shutil.copytree(data_dir / "slides" / "CMU-1-Small-Region_dicom", folder)
    files = sorted(folder.glob("*.dcm"))
    volume = max(files, key=lambda file: file.stat().st_size)
    label = min(files, key=lambda file: file.stat().st_size)
    for path in (folder, volume):
        first = file_signature(path)
        os.utime(label, ns=(1, label.stat().st_mtime_ns + 10**9))
        assert file_signature(path) != first
    first = file_signature(volume)
    series = b"498.21577574112843936045397065457192622591"
    (folder / "other.dcm").write_bytes(volume.read_bytes().replace(series, series[:-1] + b"2"))
    assert file_signature(volume) == first
