"""Host blocks that are worked on by a device, and what backends of such devices share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np

from ooclearn.backend import get_backend
from ooclearn.blocks import Blocks, Buffered
from ooclearn.config import get_config
from ooclearn.events import Work, working
from ooclearn.exceptions import BlockMemoryError
from ooclearn.folding import DeviceReading
from ooclearn.mapped import MappedBlocks
from ooclearn.residents import Residents, row_bytes_there
from ooclearn.returning import Put, ReturnedBlocks, WayBack, numbered
from ooclearn.ring import Device, Ring
from ooclearn.rowmaps import RowMap, compose, on_host
from ooclearn.statistics.join import Join, Through
from ooclearn.statistics.protocol import Statistic, parts_of
from ooclearn.summing import for_the_host
from ooclearn.table import Rows, Table
from ooclearn.types import Array

__all__ = ["SendingReading", "SentBlocks"]

T = TypeVar("T")

# Arrays in memory of fewer bytes are mapped on the host when no more is asked for: threads, pinned memory and the first
# copy take longer than the host needs for them.
SMALL = 2**20


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

    def expect(self, group: Sequence[int], /) -> None:
        """Take note that these blocks are read soon: what takes time to come may be sent for."""
        self.blocks.expect(group)

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

    def returned(self, mapped: Blocks | None = None, /) -> Blocks:
        """Return the rows where they are read; what a device makes of them comes back by a ring of its own."""
        if not isinstance(mapped, MappedBlocks):
            return self.blocks if mapped is None else mapped
        if on_host(mapped.row_map):
            # The rows would be copied to the device to be copied back.
            return self.blocks.map(mapped.row_map)
        inner = self.blocks
        if isinstance(inner, MappedBlocks) and not on_host(inner.row_map):
            # What rows go through on the host before they are sent is the device's work as well.
            mapped = MappedBlocks(SentBlocks(inner.blocks, self.backend_name), compose(inner.row_map, mapped.row_map))
        return ReturnedBlocks(mapped)

    @contextmanager
    def held(self, beside: Sequence[Blocks]) -> Iterator[None]:
        """Keep the first rows on the device from one pass to the next, for the length of a ``with`` block."""
        budget: int | None = get_config()["resident_bytes"]
        backend: Any = self.backend
        if budget is None:
            # What is left is for the temporary arrays of the work itself.
            budget = int(0.6 * backend.device().free_bytes())
        self.residents = Residents(budget, row_bytes_there(self.blocks, *beside))
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

    def adopt(self, blocks: Blocks, /) -> Blocks:
        """Return host `blocks` as Blocks that are copied to the device when they are read."""
        if isinstance(blocks, ReturnedBlocks) and blocks.sent.backend_name == self.name:
            return blocks.sent
        self.device()
        return SentBlocks(blocks, self.name)

    def map_for_host(self, row_map: RowMap, x: Any, /) -> Any:
        """Apply a map to a container of the host on the device, and answer on the host.

        Blocks and memory maps lazily; arrays in memory at once, where they are worth the way. What no device works on
        (text, sparse rows, a map of host arrays) is mapped on the host.
        """
        host = get_backend("numpy")
        small = isinstance(x, np.ndarray) and not isinstance(x, np.memmap) and x.nbytes < SMALL
        if small or on_host(row_map) or hasattr(x, "tocsr"):
            return host.map(row_map, x)
        if isinstance(x, ReturnedBlocks):
            return x.map(row_map)
        blocks = host.blocks(x, name="X")
        if blocks.sparse or blocks.dtype.kind not in "fiub":
            return host.map(row_map, x)
        out = self.adopt(blocks).map(row_map).returned()
        return out if isinstance(x, (Blocks, np.memmap)) else out.whole()

    def bring(self, sent: MappedBlocks, put: Put, /, *, work: Work) -> bool:
        """Have blocks of the host mapped on the device and given to `put`; False if that has to go block by block."""
        row_map, labels = numbered(sent.row_map)
        source = _on_host(Table(sent.blocks))
        if source is None or on_host(row_map):
            return False
        mapped = sent if labels is None else MappedBlocks(sent.blocks, row_map)
        if mapped.dtype.kind not in "fiub":
            return False
        given = put if labels is None else partial(_put_labels, put, labels)
        with ExitStack() as stack:
            stack.callback(sent.release)
            stack.enter_context(working(work))
            way = WayBack(self.device(), source.X, row_map, mapped)
            stack.enter_context(_naming_what_to_set(sent, "nothing was written", way.memory()))
            way.bring(given, work=work)
        return True

    def fold(self, table: Table, statistic: Statistic[Any], /, *, work: Work) -> Any:
        """Read the table once; what is asked of rows that are mapped on the device is asked of those that are sent.

        Rows that are wanted on the host alone are not sent.
        """
        read = _on_host(table) if for_the_host(statistic) else None
        if read is not None:
            return get_backend("numpy").fold(read, statistic, work=work)
        beneath = _beneath(table)
        if beneath is not table:
            table, statistic = beneath, _through(statistic, table.X.row_map)  # type: ignore[attr-defined]  # it is mapped
        with _naming_what_to_set(table.X, "nothing was fitted"):
            return super().fold(table, statistic, work=work)

    def stream(
        self,
        table: Table,
        groups: Sequence[Sequence[int]],
        function: Callable[[int, Rows], T],
        /,
        *,
        ahead: int,
        work: Work,
    ) -> Iterator[T]:
        """Yield ``function(i, rows)`` for each group of blocks, in order, at most `ahead` groups early."""
        with _naming_what_to_set(table.X, "what was begun is not done"):
            yield from super().stream(table, groups, function, ahead=ahead, work=work)  # type: ignore[misc]  # of what it is mixed with

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
            kept = table.X.residents.budget if table.X.residents is not None else 0
            stack.enter_context(_naming_what_to_set(table.X, "nothing was fitted", ring.memory(), kept))
            return ring.deliver(take, end, work=work)

    def ring_memory(self, table: Table, /) -> tuple[int, int] | None:
        """Return the bytes of host and of device memory that blocks of a pass take; None if no ring is used."""
        host = _on_host(_beneath(table))
        return None if host is None else Ring(self.device(), host).memory()


def _beneath(table: Table) -> Table:
    """Return the table before the map, where its rows are mapped on a device after they were sent there."""
    X = table.X
    if type(table) is not Table or not isinstance(X, MappedBlocks) or not isinstance(X.blocks, SentBlocks):
        return table
    return table if on_host(X.row_map) else Table(X.blocks, table.y, table.w)


def _through(statistic: Any, row_map: RowMap) -> Any:
    """Return a statistic of mapped rows as one of those before the map."""
    if isinstance(statistic, Join):
        return Join(**{name: _through(one, row_map) for name, one in statistic.statistics.items()})
    return Through(statistic, row_map) if "X" in parts_of(statistic) else statistic


def _on_host(table: Table) -> Table | None:
    """Return a table as it is read on the host, if all of it is and can be streamed from there."""
    X = table.X
    if not isinstance(X, SentBlocks) or X.lengths is None or X.dtype.kind not in "fiub":
        return None
    host = table.on_host()
    return host if all(part.backend_name == "numpy" for part in host.parts) else None


def _put_labels(put: Put, labels: Array, blocks: Sequence[int], start: int, at: Array) -> None:
    put(blocks, start, labels[at])


@contextmanager
def _naming_what_to_set(
    blocks: Blocks, left: str, memory: tuple[int, int] | None = None, kept: int = 0
) -> Iterator[None]:
    """Say in the place of a library which ``block_bytes`` to set where memory gives out."""
    try:
        yield
    except BlockMemoryError:
        raise
    except MemoryError as error:
        size: int = get_config()["block_bytes"]
        largest = size if blocks.lengths is None else max(blocks.lengths, default=0) * blocks.row_bytes
        if memory is None:
            taken = f"blocks have up to {largest:,} bytes"
        else:
            pinned, on_device = memory
            taken = (
                f"blocks take {on_device:,} bytes of the device ({kept:,} more may stay there between passes, "
                f"resident_bytes) and {pinned:,} of page-locked host memory"
            )
        raise BlockMemoryError(
            f"the device or the host has not enough memory for {blocks.name} ({error}): {taken}, and the work on them "
            f"takes several times a block besides. Set block_bytes to {max(1, min(size, largest) // 4):,} or less, and "
            f"resident_bytes to 0, by ooclearn.config_context around the scan, which cuts the blocks, and what is done "
            f"with them; {left}"
        ) from error
