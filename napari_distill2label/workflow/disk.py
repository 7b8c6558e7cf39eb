"""What is said when the system refuses to read or write: most often the disk is full."""

from ..core.resource_errors import is_disk_full


def out_of_order(error: OSError) -> str:
    """One line. All that was written is whole: the same command goes on from there."""
    where = f"{error.filename}: " if error.filename else ""
    if is_disk_full(error):
        return f"{where}no room left ({error.strerror}): make some and give the same command again; it goes on"
    return f"{where}{error.strerror or error}: give the same command again; it goes on"
