"""Whole or not at all: everything kept is written under a temporary name in the same folder, then renamed."""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core.names import is_url

# What Windows, macOS or a shell would not take in a file name, control characters among them.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]+')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_LONGEST_NAME = 120  # characters; with a suffix and in UTF-8 this stays below the 255 bytes of common file systems


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename it to `path` when the block ends without an error.

    The block makes a file or a folder there (the parent folder exists). An error leaves what was at `path` as it
    was and removes the temporary one; a folder that was at `path` is replaced as a whole.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(4)
    temporary = path.with_name(f".{path.name[:40]}.{token}.tmp")
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():  # a folder cannot be renamed over one that is not empty
            former = path.with_name(f".{path.name[:40]}.{token}.old")
            os.replace(path, former)
            try:
                os.replace(temporary, path)
            except OSError:
                os.replace(former, path)
                raise
            shutil.rmtree(former, ignore_errors=True)
        else:
            os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write a whole file at once; readers see the former content or the new one, never a part."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """`write_bytes` of UTF-8 text, with line ends as they are on every system."""
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], data: Any) -> Path:
    """Write indented JSON. `ValueError` for NaN and infinity, which JSON does not have."""
    return write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def safe_name(text: str) -> str:
    """A file name for `text` (a slide id from somebody's CSV may hold '/' or be '..').

    Names that are fine stay as they are. Of the others, what is not allowed becomes '_', and six characters of a
    digest keep 'a/b' and 'a_b' apart, so that no slide is written over another.
    """
    name = _UNSAFE.sub("_", text)[:_LONGEST_NAME]
    while len(name.encode("utf-8", "surrogatepass")) > 200:
        name = name[:-1]
    name = name.strip(". ")
    if _RESERVED.fullmatch(name):
        name = f"_{name}"
    if name and name == text:
        return name
    return f"{name or '_'}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"


def file_signature(path: str | os.PathLike[str]) -> str:
    """Size and time of change of a file (of a folder: of the folder itself): is it still the file a result is of?

    Of a URL, what its server tells of these; "unknown" where it tells nothing, as of a folder.
    """
    if is_url(path):
        return _url_signature(str(path))
    status = os.stat(path)
    return f"{status.st_size}-{status.st_mtime_ns}"


def _url_signature(url: str) -> str:
    from fsspec.core import url_to_fs

    try:
        file_system, name = url_to_fs(url)
        told = file_system.info(name)
    except Exception:  # noqa: BLE001 · every kind of server fails in its own way; whoever opens the slide says so
        return "unknown"
    changed = next((told[key] for key in ("ETag", "etag", "LastModified", "mtime") if told.get(key)), "")
    return f"{told.get('size')}-{changed}"
