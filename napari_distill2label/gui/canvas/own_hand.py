"""Whose doing it is: what layers tell while we change them is no news."""


class OwnHand:
    """Entered (`with own_hand:`) while we change layers, once or within one another; true meanwhile."""

    def __init__(self) -> None:
        self._depth = 0

    def __bool__(self) -> bool:
        return self._depth > 0

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
