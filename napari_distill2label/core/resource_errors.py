"""Recognise errors that mean that memory or disk space ran out, whichever library raises them in which words."""

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
    "can't start new thread",  # there is no room for its stack
    "failed to map segment",  # of a library that is loaded
)

NO_PRIMITIVE = "could not create a primitive"  # all that oneDNN says, where memory ran out too
WITHOUT_REASON = f"{NO_PRIMITIVE} (oneDNN names no reason; too little memory can be one)"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, the computer's or a GPU's. Torch raises `RuntimeError`s that say so."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | ImportError) and says_out_of_memory(error)
    )


def says_out_of_memory(error: BaseException) -> bool:
    """Whether the text of an error says that memory ran out. onnxruntime has classes of its own for its errors."""
    return _says(error, _MEMORY_WORDS)


def may_be_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, or a library that names no reason says what it says then: fewer values may fit."""
    return is_out_of_memory(error) or is_without_reason(error)


def is_without_reason(error: BaseException) -> bool:
    """Whether oneDNN, which computes on the processor, could not begin a step; it never says why."""
    return str(error).rstrip().endswith(NO_PRIMITIVE)  # what TorchScript says of it stands before


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk, or the user's quota, is full. Some libraries report that in the message only."""
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    return isinstance(error, Exception) and _says(error, _FULL_WORDS)


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    text = str(error)[:10_000].lower()
    return any(word in text for word in words)
