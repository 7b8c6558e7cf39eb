"""Text from outside (ids, labels, paths, cells), made safe to show: escaped, short, without passwords.

The id of a slide can contain escape sequences of a terminal, bidirectional controls that reverse a line, or 100 kB of a
spreadsheet. `printable` is the one place that makes such text harmless.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

SHORT = 120  # characters of a text from outside in a message
LONGEST_MESSAGE = 2000
SHOWN, LONGEST = 5, 40  # names in a message, and characters of each
# Controls (C0, DEL, C1), what is invisible or turns the direction of a line, line and paragraph separators, and halves
# of surrogate pairs. The two joiners stay: Persian and Hindi need them.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufffe\uffff\U000e0000-\U000e007f]"
)
_LOGIN = re.compile(r"(?<=://)[^/?#\s@]*@")
_QUERY = re.compile(r"(?<=://)((?:(?!://)[^?#\s])+)\?[^\s'\"]+")  # linear: each URL is looked through once


def printable(text: str, keep: str = "") -> str:
    r"""Return one line: control and invisible characters are escaped (`\x1b`, `\n`), logins of URLs are hidden.

    Characters of `keep` are not escaped: ends of lines, in a text of several lines.
    """
    if not text.isprintable():  # fast for nearly every text; an unusual space alone is allowed
        text = _HIDDEN.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)
    return without_login(text) if "://" in text else text


def shown(text: object, longest: int = SHORT) -> str:
    """Return `printable` text, shortened: a long text as its beginning, its end and its length."""
    text = without_login(str(text))  # before it is cut: half of a login is not recognised
    if len(text) <= longest:
        return printable(text)
    head, tail = longest * 2 // 3, longest // 4
    return f"{printable(text[:head])}…{printable(text[-tail:])} ({len(text):,} characters)"


def first_problem(error: "ValidationError") -> str:
    """Return the first invalid field and the reason: 'patches.size_px: Input should be a valid integer'."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))[:100] or 'the whole'}: {first['msg']}"


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Return " Did you mean …?" for the most similar known word; an empty text if none is similar.

    A word that begins or ends with `word` is preferred. `prefix` is put before the answer.
    """
    bare = word.lstrip("-")[:SHORT]
    names = {name.lstrip("-"): name for name in known}
    longer = [name for name in names if bare and (name.startswith(bare) or name.endswith(bare))]
    similar = sorted(longer, key=len) or get_close_matches(bare, names, n=1, cutoff=0.7)
    return f" Did you mean {prefix}{names[similar[0]]}?" if similar else ""


def quoted(text: object, longest: int = SHORT) -> str:
    """Return `shown` text in quotes."""
    return f"'{shown(text, longest)}'"


def list_briefly(names: Iterable[str]) -> str:
    """List the first names in one line, and the number of the others."""
    names = [shown(name, LONGEST) for name in names]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(names[:SHOWN]) or "none") + more


def count_of(n: int, thing: str) -> str:
    """Return '1 slide', '2 slides', '2 patches'."""
    plural = "es" if thing.endswith("ch") else "s"
    return f"{n} {thing}{plural * (n != 1)}"


def without_login(text: str) -> str:
    """Replace user, password and signature in URLs by '…': `https://…@host/a.zarr?…`."""
    return _QUERY.sub(r"\1?…", _LOGIN.sub("…@", text))


def _escaped(character: str) -> str:
    code = ord(character)
    if named := {"\n": r"\n", "\r": r"\r", "\t": r"\t"}.get(character):
        return named
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
