"""The general backend: any array that follows the array API standard (torch, JAX, array-api-strict, ...)."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np

from ooclearn._namespace import shareable
from ooclearn.blocks import Blocks, SourceBlocks
from ooclearn.folding import DeviceReading, ThreadedReading
from ooclearn.rowmaps import RowMap
from ooclearn.storage.arrays import ArraySource
from ooclearn.types import Array

__all__ = ["BACKEND", "ArrayApiBackend"]


class ArrayApiBackend(DeviceReading, ThreadedReading):
    """Arrays in the memory of one device; all work is done there, by one worker."""

    name = "array_api"
    generic = True

    def owns(self, x: object, /) -> bool:
        """Say whether `x` follows the array API standard and is neither NumPy's nor Dask's."""
        if isinstance(x, Blocks):
            return x.backend_name == self.name
        return (
            array_api_compat.is_array_api_obj(x)
            and not array_api_compat.is_numpy_array(x)
            and not array_api_compat.is_dask_array(x)
            and not array_api_compat.is_pydata_sparse_array(x)
        )

    def workers(self) -> int:
        """Return 1: a device works through one queue, and libraries use its cores themselves."""
        return 1

    def blocks(self, x: Any, /, *, name: str | None = None) -> Blocks:
        """Return an array as Blocks, views of it."""
        if isinstance(x, Blocks):
            return x
        source = ArraySource(x, name=name or f"{type(x).__module__.partition('.')[0]} array")
        return SourceBlocks(source, backend_name=self.name)

    def adopt(self, blocks: Blocks, /) -> Any:
        """Refuse: the standard does not say which library is meant."""
        raise ValueError(
            f"{blocks.name} cannot be sent to 'array_api', which stands for many libraries; make an array of the "
            "library you want and pass that"
        )

    def map(self, row_map: RowMap, x: Any, /) -> Any:
        """Apply `row_map` at once, on the device of `x`."""
        return x.map(row_map) if isinstance(x, Blocks) else row_map(x)

    def to_host(self, block: Array, /) -> np.ndarray[Any, Any]:
        """Copy one block to host memory."""
        if array_api_compat.is_torch_array(block):
            return np.asarray(block.detach().cpu())
        xp = array_api_compat.array_namespace(block)
        if callable(getattr(xp, "Device", None)):  # array-api-strict names its host by a Device
            block = array_api_compat.to_device(block, xp.Device("CPU_DEVICE"))
        return np.asarray(block)

    def from_host(self, values: Array, /, *, like: Array | None = None) -> Array:
        """Copy host values to the library and device of the block `like`; what it has no dtype for stays."""
        values = shareable(values)
        if like is None or values.dtype.kind not in "fiubc":
            return values
        xp = array_api_compat.array_namespace(like)
        device = array_api_compat.device(like)
        if values.dtype == np.float64 and hasattr(xp, "__array_namespace_info__"):
            kinds = xp.__array_namespace_info__().dtypes(kind="real floating", device=device)
            return xp.asarray(values, dtype=kinds.get("float64", kinds["float32"]), device=device)
        return xp.asarray(values, device=device)


BACKEND = ArrayApiBackend()
