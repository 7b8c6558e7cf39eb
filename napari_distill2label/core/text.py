"""Text from outside (ids, labels, paths, cells) as it may be shown: escaped, short, without passwords.

A slide's id can hold what a terminal obeys (escape sequences), what turns a line around (bidirectional controls), or
100 kB of somebody's spreadsheet. `printable` is the one place that makes such text harmless.
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

SHORT = 120  # characters of one outside text inside a message
LONGEST_MESSAGE = 2000
# Controls (C0, DEL, C1), what is invisible or turns the direction of a line, line and paragraph separators, and halves
# of surrogate pairs. The two joiners stay: Persian and Hindi need them.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufffe\uffff\U000e0000-\U000e007f]"
)
_LOGIN = re.compile(r"(?<=://)[^/?#\s@]*@")
_QUERY = re.compile(r"(?<=://)([^?#\s]+)\?[^\s'\"]+")


def printable(text: str, keep: str = "") -> str:
    r"""One line: what a terminal obeys or does not show is escaped (`\x1b`, `\n`), logins of URLs are hidden.

    Characters of `keep` stay as they are: ends of lines, in a text that has more than one.
    """
    if not text.isprintable():  # a fast no for nearly every text; an odd space is no reason yet
        text = _HIDDEN.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)
    return without_login(text) if "://" in text else text


def shown(text: object, longest: int = SHORT) -> str:
    """`printable` and short: of a long text its beginning and its end, and how long it is."""
    text = str(text)
    if len(text) <= longest:
        return printable(text)
    head, tail = longest * 2 // 3, longest // 4
    return f"{printable(text[:head])}…{printable(text[-tail:])} ({len(text):,} characters)"


def first_problem(error: "ValidationError") -> str:
    """The first field that does not fit, and why: 'grid.patch_px: Input should be a valid integer'."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))[:100] or 'the whole'}: {first['msg']}"


def quoted(text: object, longest: int = SHORT) -> str:
    """`shown`, in quotes."""
    return f"'{shown(text, longest)}'"


def without_login(text: str) -> str:
    """Text with user, password and signature of its URLs replaced by '…': `https://…@host/a.zarr?…`."""
    return _QUERY.sub(r"\1?…", _LOGIN.sub("…@", text))


def _escaped(character: str) -> str:
    code = ord(character)
    if named := {"\n": r"\n", "\r": r"\r", "\t": r"\t"}.get(character):
        return named
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
