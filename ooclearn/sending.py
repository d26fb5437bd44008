"""Host blocks that are worked on by a device, and what backends of such devices share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from ooclearn.blocks import Blocks, Buffered
from ooclearn.config import get_config
from ooclearn.events import Work, working
from ooclearn.exceptions import BlockMemoryError
from ooclearn.folding import DeviceReading
from ooclearn.ring import Device, Residents, Ring
from ooclearn.table import Rows, Table
from ooclearn.types import Array

__all__ = ["SendingReading", "SentBlocks"]

T = TypeVar("T")


class SentBlocks(Blocks):
    """Host Blocks, copied to a device as they are read.

    Statistics are read through a :class:`~ooclearn.ring.Ring`; single blocks are copied one by one.

    Parameters
    ----------
    blocks : Blocks
        Of the host.
    backend_name : str
        Of the device's backend, a :class:`SendingReading`.
    """

    def __init__(self, blocks: Blocks, backend_name: str) -> None:
        self.blocks = blocks
        self.backend_name = backend_name
        self.name, self.shape, self.dtype = blocks.name, blocks.shape, blocks.dtype
        self.lengths, self.n_blocks, self.names = blocks.lengths, blocks.n_blocks, blocks.names
        self.residents: Residents | None = None

    @property
    def cuttable(self) -> bool:
        """Whether cutting elsewhere costs nothing."""
        return self.blocks.cuttable

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.blocks.row_bytes

    def read(self, i: int, /) -> Array:
        """Return block `i`, on the device."""
        return self._sent(self.blocks.read(i))

    def gather(self, group: Sequence[int], buffered: Buffered | None = None, /) -> Array:
        """Return the rows of several blocks as one array on the device."""
        return self._sent(self.blocks.gather(group, buffered))

    def _sent(self, values: Array) -> Array:
        return self.backend.from_host(values)

    def recut(self, lengths: Sequence[int], /) -> Blocks:
        """Return the same rows in blocks of these lengths."""
        return SentBlocks(self.blocks.recut(lengths), self.backend_name)

    def name_at(self, row: int, /) -> str:
        """Return the name of the file that `row` lies in, for messages."""
        return self.blocks.name_at(row)

    def release(self) -> None:
        """Let go of what a pass has opened or kept."""
        self.blocks.release()

    def on_host(self) -> Blocks:
        """Return the rows where they are read."""
        return self.blocks

    @contextmanager
    def held(self, row_bytes: int) -> Iterator[None]:
        """Keep the first rows on the device from one pass to the next, for the length of a ``with`` block."""
        budget: int | None = get_config()["resident_bytes"]
        backend: Any = self.backend
        if budget is None:
            # What is left is for the temporary arrays of the work itself.
            budget = int(0.6 * backend.device().free_bytes())
        self.residents = Residents(budget, row_bytes)
        try:
            yield
        finally:
            self.residents = None


class SendingReading(DeviceReading):
    """What backends have in common whose device works on blocks of the host: statistics are read through a ring."""

    name: str
    _lock = threading.Lock()
    _device: Device | None = None

    def new_device(self) -> Device:
        """Return the device that this thread's work goes to."""
        raise NotImplementedError(f"{type(self).__name__} must define new_device")  # a subclass's duty, not a path

    def device(self) -> Device:
        """Return the device; made when it is first needed."""
        with self._lock:
            if self._device is None:
                self._device = self.new_device()
            return self._device

    def adopt(self, blocks: Blocks, /) -> SentBlocks:
        """Return host `blocks` as Blocks that are copied to the device when they are read."""
        self.device()
        return SentBlocks(blocks, self.name)

    def deliver(self, table: Table, take: Callable[[int, Rows], None], end: Callable[[], T], /, *, work: Work) -> T:
        """Give each block of the table to `take`, in order, then call `end`."""
        host = _on_host(table)
        if host is None:
            return super().deliver(table, take, end, work=work)
        assert isinstance(table.X, SentBlocks)
        ring = Ring(self.device(), host, table.X.residents)
        with ExitStack() as stack:
            stack.callback(table.release)
            stack.enter_context(working(work))
            try:
                return ring.deliver(take, end, work=work)
            except BlockMemoryError:
                raise
            except MemoryError as error:
                raise BlockMemoryError(_no_room(ring, table.X)) from error

    def ring_memory(self, table: Table, /) -> tuple[int, int] | None:
        """Return the bytes of host and of device memory that blocks of a pass take; None if no ring is used."""
        host = _on_host(table)
        return None if host is None else Ring(self.device(), host).memory()


def _on_host(table: Table) -> Table | None:
    """Return a table as it is read on the host, if all of it is and can be streamed from there."""
    X = table.X
    if not isinstance(X, SentBlocks) or X.lengths is None or X.dtype.kind not in "fiub":
        return None
    host = table.on_host()
    return host if all(part.backend_name == "numpy" for part in host.parts) else None


def _no_room(ring: Ring, given: SentBlocks) -> str:
    settings = get_config()
    pinned, on_device = ring.memory()
    kept = given.residents.budget if given.residents is not None else 0
    return (
        f"the device or the host has not enough memory for {given.name}: blocks take {on_device:,} bytes of the device "
        f"({kept:,} more may stay there between passes, resident_bytes) and {pinned:,} of page-locked host memory, and the "
        f"work on them several times a block besides. Set block_bytes to {max(1, settings['block_bytes'] // 4):,} or "
        "less, and resident_bytes to 0, by ooclearn.config_context; nothing was fitted"
    )
