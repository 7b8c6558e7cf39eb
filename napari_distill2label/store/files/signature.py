"""Is a slide still the one that a result is of? Told from the names, sizes and times of change of its files."""

import hashlib
import os

from ...core.paths import is_url, why_not_url
from ...slides.slide_files import files_of_slide


def file_signature(path: str | os.PathLike[str]) -> str:
    """What changes when a slide does.

    Of a single file its size and time of change; of a slide in several files (a folder of OME-Zarr or DICOM, MIRAX)
    their number, their size together, and a digest of the name, size and time of every one. Of a URL, what its server
    tells of these; "unknown" where it tells nothing, as of a folder.

    Neither inode nor time of the last change of status belongs to it: both change when slides are copied, moved or
    backed up, and no result is worth less for that. Copies that keep the times (`cp -p`, rsync, a zip) keep the
    signature. Pixels are not read: that would take as long as predicting.

    Raises
    ------
    OSError
        It is not there, or cannot be looked at.
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
