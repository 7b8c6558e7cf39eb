"""Text from outside in Qt: ids, paths, class names and errors are shown as they are, never taken for HTML. No Qt.

Qt guesses: a tooltip that looks like HTML is drawn as such, so that a slide called `<img src=…>` would load a picture.
"""

from html import escape

DECIMALS = 3  # of a threshold: a promise may ask for .996


def as_plain(text: str) -> str:
    """`text` for a tooltip or a message box: what could be taken for HTML is escaped, other text stays as it is."""
    return f'<span style="white-space: pre-wrap">{escape(text)}</span>' if "<" in text else text


def threshold_text(threshold: float) -> str:
    """Return a threshold with as many digits as the box of step 3 has; of a promise it can be .996."""
    return f"{threshold:.{DECIMALS}f}".rstrip("0").rstrip(".")
