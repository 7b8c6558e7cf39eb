"""A signature of a slide's files (names, sizes, times of change) that shows whether the slide has changed."""

import hashlib
import os

from ...core.paths import is_url, why_not_url
from ...slides.slide_files import files_of_slide


def file_signature(path: str | os.PathLike[str]) -> str:
    """Return a text that changes when a slide does.

    Of a single file its size and time of change; of a slide in several files (a folder of OME-Zarr or DICOM, MIRAX)
    their number, their total size, and a digest of the name, size and time of every one. Of a URL, what its server
    reports; "unknown" if it reports nothing, as for a folder.

    Inode and status-change time are not included: they change when slides are copied, moved or backed up, which does
    not invalidate a result. Copies that preserve the times (`cp -p`, rsync, a zip) have the same signature. Pixels are
    not read, which would take as long as predicting.

    Raises
    ------
    OSError
        A file is missing or cannot be accessed.
    """
    if is_url(path):
        return _url_signature(str(path))
    path = os.path.normpath(path)
    files = sorted(files_of_slide(path))
    if files == [path]:
        return "-".join(map(str, _size_and_time(path)))
    start = len(path) if os.path.isdir(path) else len(os.path.dirname(path))
    digest, total = hashlib.sha256(), 0
    for file in files:
        size, changed = _size_and_time(file)
        total += size
        name = file[start:].replace(os.sep, "/").lstrip("/")
        digest.update(f"{name}\0{size}\0{changed}\n".encode("utf-8", "surrogateescape"))
    return f"{len(files)}-{total}-{digest.hexdigest()[:32]}"


def _size_and_time(file: str) -> tuple[int, int]:
    """(size, time of change in ns)."""
    status = os.stat(file)
    return status.st_size, status.st_mtime_ns


def _url_signature(url: str) -> str:
    if why_not_url(url):
        return "unknown"
    from fsspec.core import url_to_fs

    try:
        file_system, name = url_to_fs(url)
        told = file_system.info(name)
    except Exception:  # noqa: BLE001 · every kind of server fails in its own way; whoever opens the slide says so
        return "unknown"
    changed = next((told[key] for key in ("ETag", "etag", "LastModified", "mtime") if told.get(key)), "")
    return f"{told.get('size')}-{changed}"
