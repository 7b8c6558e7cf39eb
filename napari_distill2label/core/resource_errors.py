"""What a machine runs out of, told from bugs: memory and room on the disk, in whichever words a library says so."""

import errno

FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))  # the disk, a file's limit, a quota
_FULL_WORDS = ("no space left on device", "disk quota exceeded", "file too large", "not enough space on the disk")
_MEMORY_WORDS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate memory",
    "unable to allocate",
    "bad_alloc",
    "bad allocation",
    "alloc_failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Of the computer or of a GPU. Torch's and onnxruntime's errors are `RuntimeError`s that say so."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _says(error, _MEMORY_WORDS))


def is_disk_full(error: BaseException) -> bool:
    """Is the disk full, or the user's share of it? Libraries that write by themselves tell in words only."""
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    return isinstance(error, Exception) and _says(error, _FULL_WORDS)


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    text = str(error)[:10_000].lower()
    return any(word in text for word in words)
