"""What is said when the system refuses to read or write: most often the disk is full."""

import errno

FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


def out_of_order(error: OSError, slide_id: str) -> str:
    """One line. All that was written is whole: the same command goes on from there."""
    where = error.filename or slide_id
    if error.errno in FULL:
        return f"{where}: no room left ({error.strerror}): make some and give the same command again; it goes on"
    return f"{where}: {error.strerror or error}: give the same command again; it goes on"
