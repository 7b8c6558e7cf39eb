"""What the floors below say, in the window's words. No Qt.

They name what a user can give by its option of the command line ("give it with --mpp"). The window has a box or a
button for it, and its messages name that.
"""

import re

from .training.setting_names import field_of, name_of, value_in_words

# The longer before what it begins with. Capitals stand for what follows an option on the command line.
_WORDS = (
    (r"add --resume to go on with it", "resume it by ‘Resume’ in step 2"),
    (r"--resume", "‘Resume’ in step 2"),
    (r"--mpp(?: UM)?(?: for all)?(?: where you predict)?", "‘µm/px…’ in step 1"),
    (r"as in --classes (\S+)", r"as in \1"),
    (r"--classes", "‘Classes and colours’ in step 1"),
    (r"give --trust-encoder", "choose it again under ‘Encoder’ in step 2, and trust it,"),
    (r"--encoder(?: FILE)?", "‘Encoder’ in step 2"),
    (r"--features(?: DIR)?", "‘Features’ in step 2"),
    (r"compute them again with `extract-features`", "‘Compute features’ in step 2 makes them again"),
    (r"--device", "‘Device’ in step 2:"),
    (r"--baseline", "‘Also train the baseline’ in step 2"),
    (r"--centres", "table of centres"),
    (r"--corrections", "set of corrections"),
    (r"--tissue", "‘Tissue mask’ in step 1"),
    (r"--map '([^']*)'", r"‘\1’ under ‘Labels mean’"),
    (r"--map ([^\s;,:]+)", r"‘\1’ under ‘Labels mean’"),
    (r"--map", "meaning of labels"),
    (r"--coverage", "share that an area must cover:"),
    (r"--network", "‘Network’ in step 3"),
    (r"--threshold", "‘Threshold’ in step 3"),
    (r"add --split all", "ask for all slides"),
    (r"add --overwrite to replace what is there", "let what is there be replaced"),
    (r"; --allow-non-brightfield opens it all the same", ""),
    (r", or name the folder of the slides with --slides-folder", ""),
)
_SETTING = re.compile(r"--([a-z]+\.[a-z_]+)(?: (\w+)(?=$|[;:,.)]))?")  # with a value where the sentence part ends there


def in_the_window(text: str) -> str:
    """A message of a lower floor as the window says it.

    Examples
    --------
    >>> in_the_window("no µm/px: give it with --mpp")
    'no µm/px: give it with ‘µm/px…’ in step 1'
    >>> in_the_window("no patch is left: try --patches.tissue all")
    'no patch is left: try ‘Background: keep all’ in step 2'
    """
    if "--" not in text and "`" not in text:
        return text
    text = _SETTING.sub(_setting, text)
    for pattern, words in _WORDS:
        text = re.sub(rf"{pattern}(?![\w.-])", words, text)
    return text


def _setting(found: re.Match[str]) -> str:
    path, value = found.groups()
    try:
        kind = field_of(path).annotation
    except KeyError:
        return found.group()
    if value is None:
        return f"‘{name_of(path)}’ in step 2"
    given = float(value) if value.isdigit() and kind is not str else value
    return f"‘{name_of(path)}: {value_in_words(path, given)}’ in step 2"
