"""Digests in JSON files, so that a damaged or swapped file is noticed before it is used.

A digest protects from accidents: a flipped bit, an incomplete copy, a file of another run, a forgotten edit. It is no
cryptographic signature: a person who changes a file on purpose can write a new digest.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.errors import BundleError
from ...core.foreign_files import read_file

SEAL = "sha256"  # the key of a JSON object under which the digest of all others stands
LARGEST = 32 * 2**20  # bytes of a JSON file of ours; a cohort's settings have some thousand
TOO_DEEP = "it is nested too deeply"


def sealed(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return `data` (plain JSON) with the digest of its content under `SEAL`."""
    return {**data, SEAL: digest_of(data)}


def unsealed(data: Any) -> tuple[Any, bool]:
    """Return the content of a JSON object without its seal, and whether the seal matches.

    Data without a seal passes.
    """
    if not isinstance(data, dict) or SEAL not in data:
        return data, True
    content = {name: value for name, value in data.items() if name != SEAL}
    return content, data[SEAL] == digest_of(content)


def digest_of(data: Any) -> str:
    """Return the SHA-256 of plain JSON data, independent of key order and white space.

    `ValueError` for data that is nested too deeply: what could just be read may be too deep to be written.
    """
    try:
        text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def read_json(path: str | os.PathLike[str]) -> Any:
    """JSON of a file that may have been written by anybody.

    `ValueError` if it is none (not UTF-8, too large, nested too deeply); `OSError` if it
    cannot be read.
    """
    try:
        return json.loads(read_file(Path(path), LARGEST).decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8") from None
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number. Python also reads NaN, and integers too large for a float."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def check_format(path: str | os.PathLike[str], content: Any, expected: int) -> None:
    """`BundleError` if a JSON file has a format that this version of the program does not read."""
    found = content.get("format") if isinstance(content, dict) else None
    if type(found) is int and found != expected:
        raise BundleError(
            f"{path}: has format {found}, and this version of the program reads format {expected}: train again, or "
            "use the version that wrote it"
        )
