"""Names that a user chose, where there is little room."""

LONGEST = 14  # characters; two buttons of that fit side by side in a dock of 360 px


def shorten_middle(name: str, longest: int = LONGEST) -> str:
    """The name, its middle left out where it is long: both ends tell classes apart."""
    if len(name) <= longest:
        return name
    head = longest // 2
    return f"{name[:head].rstrip()}…{name[head + 1 - longest :].lstrip()}"
