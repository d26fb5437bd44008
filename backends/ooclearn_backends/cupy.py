"""The CuPy backend: arrays on a GPU, and host Blocks that are sent there block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ooclearn.blocks import Blocks, Buffered
from ooclearn.exceptions import BackendError
from ooclearn.types import Array
from ooclearn_backends.array_api import ArrayApiBackend

__all__ = ["BACKEND", "CupyBackend", "SentBlocks"]


class CupyBackend(ArrayApiBackend):
    """Blocks on a CUDA device; work is done there, and states of a few numbers come back."""

    name = "cupy"
    generic = False

    def owns(self, x: object, /) -> bool:
        """Say whether `x` is a CuPy array, or Blocks of such."""
        if isinstance(x, Blocks):
            return x.backend_name == self.name
        return type(x).__module__.partition(".")[0] == "cupy"

    def adopt(self, blocks: Blocks, /) -> Blocks:
        """Return host `blocks` as Blocks that are copied to the device when they are read.

        Raises
        ------
        BackendError
            CuPy is not installed, or finds no device.
        """
        _cupy()
        return SentBlocks(blocks)

    def to_host(self, block: Array, /) -> np.ndarray[Any, Any]:
        """Copy one block to host memory."""
        host: np.ndarray[Any, Any] = block if isinstance(block, np.ndarray) else _cupy().asnumpy(block)
        return host

    def from_host(self, values: Array, /, *, like: Array | None = None) -> Array:  # noqa: ARG002  (the current device)
        """Copy host values to the device; text stays where it is."""
        values = np.asarray(values)
        return _cupy().asarray(values) if values.dtype.kind in "fiubc" else values


class SentBlocks(Blocks):
    """Host Blocks, copied to the device as they are read."""

    backend_name = "cupy"

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        self.name, self.shape, self.dtype = blocks.name, blocks.shape, blocks.dtype
        self.lengths, self.n_blocks, self.names = blocks.lengths, blocks.n_blocks, blocks.names

    @property
    def cuttable(self) -> bool:
        """Whether cutting elsewhere costs nothing."""
        return self.blocks.cuttable

    def read(self, i: int, /) -> Array:
        """Return block `i`, on the device."""
        return _cupy().asarray(self.blocks.read(i))

    def tiles(self, i: int, rows: int, /) -> Iterator[Array]:
        """Yield block `i` whole: a device is best given long runs."""
        del rows
        yield self.read(i)

    def gather(self, group: Sequence[int], buffered: Buffered | None = None, /) -> Array:
        """Return the rows of several blocks as one array on the device."""
        return _cupy().asarray(self.blocks.gather(group, buffered))

    def recut(self, lengths: Sequence[int], /) -> Blocks:
        """Return the same rows in blocks of these lengths."""
        return SentBlocks(self.blocks.recut(lengths))


def _cupy() -> Any:
    """Return CuPy, or say what to install."""
    try:
        import cupy
    except ImportError as error:
        raise BackendError(
            'CuPy is not installed; for a CUDA 12 driver: pip install "ooclearn[cuda12]", for CUDA 13: '
            'pip install "ooclearn[cuda13]"'
        ) from error
    if not cupy.cuda.is_available():
        raise BackendError(
            "CuPy is installed but finds no CUDA device, or the driver is too old for it; look at nvidia-smi, and "
            'install the extra that fits the driver: "ooclearn[cuda12]" or "ooclearn[cuda13]"'
        )
    return cupy


BACKEND = CupyBackend()
