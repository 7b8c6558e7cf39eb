"""The zarr groups that this program writes, recognised without opening them."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...core.foreign_files import read_file
from ...core.paths import OWN_ATTRIBUTE

PATCH_MAP, FEATURE_MAP = "patch-map", "feature-map"  # values of the attribute "kind"
MAX_BYTES = 2**26  # of a description that is read
# What zarr, and we, write until it is renamed: a kill leaves it.
_BEGUN = re.compile(r".+\.[0-9a-f]{32}\.partial|\.zarr\.json\.[0-9a-f.]+\.tmp")
DESCRIPTIONS = ("zarr.json", ".zattrs")  # of a group: of zarr's format 3 and 2
NAMES, CONTENT = "files", "content"  # digests of an OME-Zarr folder: names and sizes of its files; all of it


def is_own_group(path: Path, exactly: bool = False) -> bool:
    """Whether a zarr group is ours, with nothing else in it: a patch map or feature map, complete or not, or labels.

    Labels (OME-Zarr) are ours unless they were changed since they were written; unless `exactly`, names and sizes of
    their files tell.
    """
    if (signed := _read_signature(path)) is not None:
        attributes, own = signed
        name = CONTENT if exactly else NAMES
        try:
            return own.get(name) == _digest_of(path, attributes, exactly)
        except (OSError, ValueError, RecursionError):
            return False
    try:
        inside = _names_in(path) - {"zarr.json", ".DS_Store"}
        if any(_names_in(path / name) - {"zarr.json", "c"} for name in inside):
            return False  # there is something that is no array
        about = json.loads(read_file(path / "zarr.json", MAX_BYTES))
        if about["node_type"] == "group":
            return about.get("attributes", {}).get("kind") in (PATCH_MAP, FEATURE_MAP)
    except FileNotFoundError:
        return not inside  # an empty folder
    except OSError:
        return False
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    # The description is damaged, so the arrays decide. A readable description decides by itself.
    return {"probability", "logit", "score"} <= inside or {"features", "checksum"} <= inside


def _names_in(folder: Path) -> set[str]:
    return {entry.name for entry in os.scandir(folder) if not _BEGUN.fullmatch(entry.name)}


def clear_begun(path: Path) -> None:
    """Remove the files of a group that a killed process began. The caller has reserved the group's name."""
    for place, _, names in os.walk(path):
        for name in filter(_BEGUN.fullmatch, names):
            with suppress(OSError):
                Path(place, name).unlink()


# ---- labels as OME-Zarr ----------------------------------------------------------------------------------------------


def sign_labels(path: Path, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a finished OME-Zarr folder of ours with the digests that `is_own_group` compares."""
    own = {key: value for key, value in attributes[OWN_ATTRIBUTE].items() if key not in (NAMES, CONTENT)}
    digests = {NAMES: _digest_of(path, attributes, False), CONTENT: _digest_of(path, attributes, True)}
    return {**attributes, OWN_ATTRIBUTE: {**own, **digests}}


def _read_signature(path: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the attributes of an OME-Zarr folder of ours, and of these our own; None for any other."""
    for name in DESCRIPTIONS:
        try:
            found = json.loads(read_file(path / name, MAX_BYTES))
            attributes = found if name == ".zattrs" else found["attributes"]
            return attributes, dict(attributes[OWN_ATTRIBUTE])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return None


def _digest_of(path: Path, attributes: Mapping[str, Any], exactly: bool) -> str:
    own = {key: value for key, value in attributes[OWN_ATTRIBUTE].items() if key not in (NAMES, CONTENT)}
    digest = hashlib.sha256(json.dumps({**attributes, OWN_ATTRIBUTE: own}, sort_keys=True).encode())
    for name, file in sorted(_files_below(path)):
        digest.update(f"\n{name} {file.stat().st_size}".encode("utf-8", "surrogateescape"))
        if exactly:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _files_below(path: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a folder, but for its description, which the attributes stand for."""
    for place, _, names in os.walk(path):
        for file in (Path(place, name) for name in names):
            name = file.relative_to(path).as_posix()
            if name not in (*DESCRIPTIONS, ".DS_Store"):
                yield name, file
