"""A zarr group's few manners over plain arrays, for patch maps that are never written: many are made in an instant."""

from typing import Any

import numpy as np


class MemoryArray:
    """An array that is read as a copy, as one in a file is."""

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
        """An array full of `fill_value`; how one would be stored is of no matter here."""
        made = self._arrays[name] = MemoryArray(shape, dtype, fill_value)
        return made

    def __getitem__(self, name: str) -> MemoryArray:
        return self._arrays[name]

    def __contains__(self, name: str) -> bool:
        return name in self._arrays
