"""Names of networks as the window shows them. No Qt."""

import re


def in_words(name: str) -> str:
    """'assistant-2' -> 'helper model 2'; another name as it is.

    Examples
    --------
    >>> in_words("assistant-2"), in_words("slide-7")
    ('helper model 2', 'slide-7')
    """
    found = re.fullmatch(r"assistant-(\d+)", name)
    return name if found is None else f"helper model {found[1]}"
