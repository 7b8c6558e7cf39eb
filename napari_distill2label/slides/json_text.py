"""JSON that is read piece by piece: a list of a million objects takes the memory of one of them.

Libraries that read JSON as a stream (ijson) refuse NaN, which QuPath writes.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

AT_ONCE = 1 << 16  # characters that are read at once, twice as many each time that a value is not whole
NEAR_END = 100  # characters: what ends so near to the end of what was read may go on in what follows
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class JsonText:
    """Reads values of a text in their order.

    Parameters
    ----------
    read
        Returns about so many further characters, and '' at the end of the text.
    """

    def __init__(self, read: Callable[[int], str]) -> None:
        self._read, self._text, self._at, self._ended = read, "", 0, False

    def parts(self, name: str) -> Iterator[Any]:
        """Yield the values of the list `name` of an object, or those of a list; or else the whole text as one value.

        `ValueError` for a text that is no JSON.
        """
        first, members, is_listed = self._peek(), {}, False
        if first == "[":
            yield from self._elements()
        elif first == "{":
            for key in self._keys():
                if key == name and self._peek() == "[":
                    is_listed = True
                    yield from self._elements()
                else:
                    members[key] = self._value()
            if not is_listed:
                yield members
        else:
            yield self._value()
        if self._peek():
            raise ValueError("there is more behind its end")

    def member(self, name: str, before: str) -> Any:
        """Return the value `name` of an object, if it stands before the value `before`; else None."""
        if self._peek() == "{":
            for key in self._keys():
                if key == before:
                    break
                value = self._value()
                if key == name:
                    return value
        return None

    def _elements(self) -> Iterator[Any]:
        self._at += 1
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            yield self._value()
            if self._one_of(",]") == "]":
                return

    def _keys(self) -> Iterator[str]:
        """Yield the keys of an object; the value of each is to be read before the next."""
        self._at += 1
        if self._peek() == "}":
            self._at += 1
            return
        while True:
            if self._peek() != '"':
                raise ValueError("a name is missing in it")
            key = self._value()
            self._one_of(":")
            yield key
            if self._one_of(",}") == "}":
                return

    def _one_of(self, wanted: str) -> str:
        found = self._peek()
        if not found or found not in wanted:
            raise ValueError(f"{found!r} stands where {' or '.join(wanted)} should" if found else "it ends too early")
        self._at += 1
        return found

    def _peek(self) -> str:
        """Return the next character that is no space, without taking it; '' at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text) or not self._more(AT_ONCE):
                return self._text[self._at : self._at + 1]

    def _value(self) -> Any:
        self._peek()
        size = AT_ONCE
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # A text that is cut has its error at the cut, or is a string that was begun.
                is_cut = error.pos > len(self._text) - NEAR_END or error.msg.startswith("Unterminated string")
                if not is_cut or not self._more(size):
                    raise ValueError(f"{error.msg}: {self._text[error.pos : error.pos + 20]!r}") from None
            else:
                # Where 12|34 or 1|.5 is cut, a number ends that goes on.
                may_go_on = isinstance(value, int | float) and end > len(self._text) - NEAR_END
                if not may_go_on or not self._more(size):
                    self._at = end
                    return value
            size *= 2

    def _more(self, size: int) -> bool:
        """Read on, and forget what is done. False at the end of the text."""
        text = "" if self._ended else self._read(size)
        self._ended = not text
        if text:
            self._text, self._at = self._text[self._at :] + text, 0
        return bool(text)
