"""File names that are valid on every system, and distinct for different slides."""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

# What Windows, macOS or a shell would not take in a file name, control characters among them.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]+')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_LONGEST_NAME = 120  # characters; with a suffix and in UTF-8 this stays below the 255 bytes of common file systems


def folded(name: str) -> str:
    """Return the key of a name on systems that ignore case and the two Unicode forms of an 'é'."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def safe_name(text: str) -> str:
    """A file name for `text` (a slide id from somebody's CSV may hold '/' or be '..').

    Names that are fine stay as they are. Of the others, what is not allowed becomes '_', and six characters of a
    digest distinguish 'a/b' from 'a_b', so that no slide overwrites another.
    """
    name = _UNSAFE.sub("_", text)[:_LONGEST_NAME]
    while len(name.encode("utf-8", "surrogatepass")) > 200:
        name = name[:-1]
    name = name.strip(". ")
    if _RESERVED.fullmatch(name):
        name = f"_{name}"
    if name and name == text:
        return name
    return f"{name or '_'}-{_short_digest(text)}"


def safe_names(keys: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """A file name for each of the keys of one call (a slide id; or a slide id and a class), no two alike on any system.

    `safe_name` of the key's parts, joined by '_'. Of keys whose names some system would take for one, as of 'A1' and
    'a1', six characters of a digest are added to all but the one in small letters: its name is the same in every call,
    in whatever order the keys come.
    """
    names = {key: safe_name("_".join(key)) for key in keys}
    alike: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for key, name in names.items():
        alike[folded(name)].append(key)
    for small, group in alike.items():
        # Of several in small letters the one of fewest parts: a slide's own name, before that of a slide and a class.
        fitting = [key for key in group if names[key] == small]
        plain = min(fitting, key=lambda key: (len(key), key), default=None)
        if len(group) > 1:
            names |= {key: disambiguated(names[key], *key) for key in group if key != plain}
    return names


def disambiguated(name: str, *key: str) -> str:
    """The name that `safe_names` gives to a key whose `name` another one has too."""
    return f"{name}-{_short_digest(chr(0).join(key))}"


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]
