"""What is said when the system refuses to read or write: most often the disk is full."""

from ..core.faults import lacks_room


def out_of_order(error: OSError) -> str:
    """One line. All that was written is whole: the same command goes on from there."""
    where = f"{error.filename}: " if error.filename else ""
    if lacks_room(error):
        return f"{where}no room left ({error.strerror}): make some and give the same command again; it goes on"
    return f"{where}{error.strerror or error}: give the same command again; it goes on"
