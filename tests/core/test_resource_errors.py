"""A full disk and too little memory are recognised in the words of each library, and are never taken for bugs."""

import errno

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from napari_distill2label.core.resource_errors import (
    is_disk_full,
    is_out_of_memory,
    is_without_reason,
    may_be_out_of_memory,
)


def raised(call):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is what is asked
        call()
    return caught.value


def test_the_errors_of_numpy_and_torch_for_too_much_memory():
    assert is_out_of_memory(raised(lambda: np.empty(2**60, np.uint8)))
    assert is_out_of_memory(raised(lambda: torch.empty(2**55)))
    assert is_out_of_memory(MemoryError())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: not enough memory: you tried to"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        ImportError("libgfortran-8f1e9814.so.5.0.0: failed to map segment from shared object"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_others_whose_machine_is_not_here(error):
    assert is_out_of_memory(error)
    assert not is_disk_full(error)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EFBIG, "File too large"),
        OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')"),  # h5py
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk(error):
    assert is_disk_full(error)
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("before", ["", "The following operation failed in TorchScript.\nRuntimeError: "])
def test_an_error_of_onednn_without_a_reason_may_be_too_little_memory(before):
    """So it was in 13 of 61 trials with some MB of address space; the others said that memory ran out."""
    error = RuntimeError(f"{before}could not create a primitive")
    assert is_without_reason(error)
    assert may_be_out_of_memory(error)
    assert not is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("out of range"),
        RuntimeError("shape"),
        KeyError("memory"),
        OSError(2, "x"),
        RuntimeError("could not create a primitive descriptor for a convolution forward propagation primitive"),
    ],
)
def test_bugs_are_bugs(error):
    assert not may_be_out_of_memory(error)
    assert not is_disk_full(error)
