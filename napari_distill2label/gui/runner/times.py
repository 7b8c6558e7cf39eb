"""Times in words: how long something took, and how long it will take, about. No Qt."""

NO_BREAK = "\N{NO-BREAK SPACE}"


def duration(seconds: float) -> str:
    """A measured time: '0:07', '12:30', '3:05:00' (h:min:s)."""
    whole = max(0, int(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def about(seconds: float) -> str:
    """A time that is guessed, no finer than it is known: 'about 40 s', 'about 12 min', 'about 3.5 h'."""
    if seconds < 10:
        return f"less than 10{NO_BREAK}s"
    if seconds < 90:
        return f"about {round(seconds, -1):.0f}{NO_BREAK}s"
    if seconds < 90 * 60:
        minutes = seconds / 60
        return f"about {minutes if minutes < 20 else 5 * round(minutes / 5):.0f}{NO_BREAK}min"
    hours = seconds / 3600
    return f"about {hours:.{1 if hours < 10 else 0}f}{NO_BREAK}h"
