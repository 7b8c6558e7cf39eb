"""Which slides the table shows. No Qt."""

from dataclasses import dataclass

ALL, UNLABELLED, UNPREDICTED, CONTRADICTS, PROBLEM = KINDS = (
    "all slides",
    "without label",
    "not predicted",
    "contradicts label",
    "with a problem",
)


@dataclass(frozen=True)
class SlideFilter:
    """The slides that hold every word typed, and are of the kind, class and split chosen.

    Attributes
    ----------
    words
        Each is looked for in name, label, case, split and prediction; in small letters.
    kind
        One of `KINDS`.
    class_name, split
        One of a slide's labels, and its split ("auto": none is set); None: any.
    """

    words: tuple[str, ...] = ()
    kind: str = ALL
    class_name: str | None = None
    split: str | None = None

    @property
    def active(self) -> bool:
        """Is anything filtered out on purpose?"""
        return self != SlideFilter()
