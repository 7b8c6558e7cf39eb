"""Messages for errors of the system when files are read or written. Most often the disk is full."""

from ..core.resource_errors import is_disk_full


def describe_os_error(error: OSError) -> str:
    """Return one line on the error. All written files are complete: the same command resumes."""
    where = f"{error.filename}: " if error.filename else ""
    if is_disk_full(error):
        return f"{where}no room left ({error.strerror}): make some and give the same command again; it goes on"
    return f"{where}{error.strerror or error}: give the same command again; it goes on"
