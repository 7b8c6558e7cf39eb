"""Names of networks as people read them."""

import re
from typing import Literal

NetworkName = Literal["baseline", "teacher", "student"]
NETWORKS: tuple[NetworkName, ...] = ("baseline", "teacher", "student")  # that a run keeps, in the order of training


def in_words(name: str) -> str:
    """'oof-2' -> 'helper model 2'; another name as it is.

    Examples
    --------
    >>> in_words("oof-2"), in_words("slide-7")
    ('helper model 2', 'slide-7')
    """
    found = re.fullmatch(r"oof-(\d+)", name)
    return name if found is None else f"helper model {found[1]}"
