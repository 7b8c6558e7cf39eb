"""The interface of a zarr group over plain arrays, for patch maps in memory, which must be fast to make."""

from typing import Any

import numpy as np


class MemoryArray:
    """An array whose elements are read as copies, as from a file."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, fill_value: Any) -> None:
        self._values = np.full(shape, fill_value, dtype)
        self.shape, self.dtype = self._values.shape, self._values.dtype

    def __getitem__(self, window: Any) -> np.ndarray:
        return np.array(self._values[window])

    def __setitem__(self, window: Any, values: Any) -> None:
        self._values[window] = values


class MemoryAttributes(dict[str, Any]):
    """Attributes of a group."""

    def asdict(self) -> dict[str, Any]:
        return dict(self)


class MemoryGroup:
    """Arrays by name, and attributes."""

    def __init__(self) -> None:
        self.attrs = MemoryAttributes()
        self._arrays: dict[str, MemoryArray] = {}

    def create_array(
        self, name: str, *, shape: tuple[int, ...], dtype: Any, fill_value: Any = 0, **storage: Any
    ) -> MemoryArray:
        """Make an array full of `fill_value`. Options of storage are ignored."""
        made = self._arrays[name] = MemoryArray(shape, dtype, fill_value)
        return made

    def __getitem__(self, name: str) -> MemoryArray:
        return self._arrays[name]

    def __contains__(self, name: str) -> bool:
        return name in self._arrays
