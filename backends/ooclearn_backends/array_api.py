"""The general backend: any array that follows the array API standard (torch, JAX, array-api-strict, ...)."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import array_api_compat
import numpy as np

from ooclearn._namespace import device_of, float_dtype, holds, namespace, shareable
from ooclearn.blocks import Blocks
from ooclearn.events import Work
from ooclearn.folding import DeviceReading, ThreadedReading
from ooclearn.rowmaps import RowMap
from ooclearn.sources import SourceBlocks
from ooclearn.statistics.protocol import Statistic
from ooclearn.storage.arrays import ArraySource
from ooclearn.table import Table
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
        source = ArraySource(_without_gradient(x), name=name or f"{type(x).__module__.partition('.')[0]} array")
        return SourceBlocks(source, backend_name=self.name)

    def adopt(self, blocks: Blocks, /) -> Any:
        """Refuse: the standard does not say which library is meant."""
        raise ValueError(
            f"{blocks.name} cannot be sent to 'array_api', which stands for many libraries; make an array of the "
            "library you want and pass that"
        )

    def map(self, row_map: RowMap, x: Any, /) -> Any:
        """Apply `row_map` at once, on the device of `x`."""
        if isinstance(x, Blocks):
            return x.map(row_map)
        with _all_digits():
            return row_map(_without_gradient(x))

    def fold(self, table: Table, statistic: Statistic[Any], /, *, work: Work) -> Any:
        """Read the table once; return the state of `statistic`."""
        with _all_digits():
            return super().fold(table, statistic, work=work)

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
        if like is None or values.dtype.kind not in "fiubc" or not holds(values, like):
            return values
        dtype = float_dtype(like) if values.dtype == np.float64 else None
        return namespace(like).asarray(values, dtype=dtype, device=device_of(like))


def _without_gradient(x: Array) -> Array:
    """Return a PyTorch tensor without the history that gradients need, which would be kept with every result."""
    return x.detach() if array_api_compat.is_torch_array(x) else x


def _all_digits() -> AbstractContextManager[Any]:
    """Let JAX multiply float32 as float32: on accelerators it rounds to fewer digits unless told."""
    jax = sys.modules.get("jax")
    return nullcontext() if jax is None else jax.default_matmul_precision("highest")


BACKEND = ArrayApiBackend()
