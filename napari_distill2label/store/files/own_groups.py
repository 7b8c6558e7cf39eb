"""The zarr groups that this program writes, recognised without opening them."""

import json
import os
import re
from contextlib import suppress
from pathlib import Path

PATCH_MAP, FEATURE_MAP = "patch-map", "feature-map"  # values of the attribute "kind"
MAX_BYTES = 2**26  # of a description that is read
# What zarr, and we, write until it is renamed: a kill leaves it.
_BEGUN = re.compile(r".+\.[0-9a-f]{32}\.partial|\.zarr\.json\.[0-9a-f.]+\.tmp")


def is_own_group(path: Path) -> bool:
    """Whether a zarr group is a patch map or feature map of ours, complete or not, with nothing else in it."""
    try:
        inside = _names_in(path) - {"zarr.json", ".DS_Store"}
        if any(_names_in(path / name) - {"zarr.json", "c"} for name in inside):
            return False  # there is something that is no array
        if (path / "zarr.json").stat().st_size > MAX_BYTES:
            return False
        about = json.loads((path / "zarr.json").read_text("utf-8"))
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
