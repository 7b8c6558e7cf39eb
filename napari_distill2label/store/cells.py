"""Texts in CSV tables that a spreadsheet must not take for a formula, and back.

A cell that begins with '=', '+', '-', '@', a tab or a line end is computed when the table is opened, in a class name
or a slide id as well. Such a text gets an apostrophe in front, which spreadsheets take as "this is a text". Numbers
stay numbers.
"""

import re

_FORMULA = re.compile(r"[\s']*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")  # the last four: full-width, as in Japanese
_ESCAPED = re.compile(rf"'{_FORMULA.pattern}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def cell(text: str) -> str:
    """The text as it is written into a table.

    Examples
    --------
    >>> cell("=1+1"), cell("'=1+1"), cell("-1.5"), cell("normal")
    ("'=1+1", "''=1+1", '-1.5', 'normal')
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def text_of(written: str) -> str:
    """The text that `cell` made this of; of other tables, what is there.

    Examples
    --------
    >>> text_of("'=1+1"), text_of("''=1+1"), text_of("-1.5"), text_of("'s Gravenhage")
    ('=1+1', "'=1+1", '-1.5', "'s Gravenhage")
    """
    return written[1:] if _ESCAPED.match(written) and not _NUMBER.fullmatch(written) else written
