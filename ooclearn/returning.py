"""The way back: rows of the host that a device maps, and that come back to the host, through a ring both ways.

Rows reach the device as in :mod:`ooclearn.ring`. What a map makes of them is put into one of a few rooms on the device,
on the computing stream, with the number of cells that the map refuses behind it. Both are copied, as one, to a slot of
page-locked memory, on a stream of its own. Writer threads wait for the event behind that copy, bring the rows to where
they belong and give the slot back. The device as a whole is never waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue
from typing import Any

import numpy as np

from ooclearn._namespace import namespace
from ooclearn.blocks import Blocks
from ooclearn.device import Device, Event, Slot
from ooclearn.events import Work, record
from ooclearn.exceptions import BackendError, DataError
from ooclearn.mapped import MappedBlocks
from ooclearn.ring import ROOMS, Arrived, Ring, Room
from ooclearn.rowmaps import Chain, RowMap, Rowwise, launched
from ooclearn.storage.arrays import host_dtype
from ooclearn.table import Table
from ooclearn.types import Array
from ooclearn.workers import Threads

__all__ = ["Put", "ReturnedBlocks", "WayBack", "numbered"]

# Takes the rows of some blocks: the numbers of the blocks, that of the first row, and the rows, lent until it returns.
Put = Callable[[Sequence[int], int, Array], None]

# The number of refused cells stands behind the rows, at a multiple of this.
_ALIGN = 256
_COUNT = np.dtype(np.float64)


class ReturnedBlocks(Blocks):
    """Host Blocks of what a device makes of rows of the host.

    Whole results come back through a :class:`WayBack`, single blocks one by one.

    Parameters
    ----------
    sent : MappedBlocks
        Of the device's backend.
    """

    def __init__(self, sent: MappedBlocks) -> None:
        self.sent = sent
        self.name, self.shape, self.dtype = sent.name, sent.shape, sent.dtype
        self.lengths, self.n_blocks = sent.lengths, sent.n_blocks

    @property
    def cuttable(self) -> bool:
        """Whether cutting elsewhere costs nothing."""
        return self.sent.cuttable

    def read(self, i: int, /) -> Array:
        """Return block `i`, on the host."""
        return self.sent.backend.to_host(self.sent.read(i))

    def recut(self, lengths: Sequence[int], /) -> Blocks:
        """Return the same rows in blocks of these lengths."""
        return self.sent.recut(lengths).returned()

    def map(self, row_map: RowMap, /) -> Blocks:
        """Return blocks to which `row_map` is applied as well, on the device if it can be."""
        return self.sent.map(row_map).returned()

    def name_at(self, row: int, /) -> str:
        """Return the name of the file that `row` lies in, for messages."""
        return self.sent.name_at(row)

    def release(self) -> None:
        """Let go of what a pass has opened or kept."""
        self.sent.release()

    def bring(self, put: Put, /, *, work: Work) -> bool:
        """Give all rows to `put`, from several threads and in any order; False if that has to go block by block."""
        bring: Callable[..., bool] = self.sent.backend.bring  # type: ignore[attr-defined]  # of a device's backend
        return bring(self.sent, put, work=work)


@dataclass(frozen=True, slots=True)
class _Given:
    """A slot that results are on their way to."""

    one: Arrived
    slot: Slot


@dataclass(slots=True)
class _ResultRoom(Room):
    """A room for results, and the event behind what fills it."""

    filled: Event


class WayBack:
    """One pass over rows of the host that are mapped on a device and brought back.

    Parameters
    ----------
    device : Device
        Where the map is applied.
    host : Blocks
        The rows, of numbers; their lengths are known.
    row_map : RowMap
        Gives numbers, and is not applied on the host.
    mapped : Blocks
        The same on the device's backend; its ``read`` names what is wrong with a block.
    """

    def __init__(self, device: Device, host: Blocks, row_map: RowMap, mapped: Blocks) -> None:
        self.device = device
        self.mapped = mapped
        self.row_map = row_map
        self._shape = tuple(mapped.shape[1:])
        self._row_bytes = int(np.prod(self._shape, dtype=np.int64)) * mapped.dtype.itemsize
        self.ring = Ring(device, Table(host), back_bytes=max(1, self._row_bytes))
        self.rows = max((task.rows for task in self.ring.tasks), default=0)
        self.slot_bytes = self._count_at(self.rows) + _COUNT.itemsize
        busy = sum(task.rows > 0 for task in self.ring.tasks)
        self.writers = min(self.ring.readers, busy)
        # One for each writer, one that is copied to, and one for what the calling thread is at.
        self.slots = min(self.writers + 2, busy)
        self.rooms = min(ROOMS, busy)
        self._failures: dict[int, tuple[Arrived, BaseException]] = {}
        self._unfilled = False

    def _count_at(self, rows: int) -> int:
        """Return where the number of refused cells stands, behind so many rows."""
        return -(-rows * self._row_bytes // _ALIGN) * _ALIGN

    def memory(self) -> tuple[int, int]:
        """Return the bytes of pinned host memory and of device memory that blocks and results take."""
        pinned, on_device = self.ring.memory()
        return pinned + self.slots * self.slot_bytes, on_device + self.rooms * self.slot_bytes

    def bring(self, put: Put, /, *, work: Work) -> None:
        """Give all rows to `put`, from several threads and in any order."""
        error: Exception | None = None
        failed: BaseException | None = None
        try:
            try:
                self._bring(put, work)
            except Exception as raised:  # noqa: BLE001  (raised below, unless an earlier block has failed, too)
                error = raised
            if self._failures:
                one, failed = self._failures[min(self._failures)]
                if isinstance(failed, DataError):
                    # What is wrong is named as it is where each block is mapped by itself.
                    for i in one.blocks:
                        self.mapped.read(i)
                raise failed
            if error is not None:
                raise error
            if self._unfilled:
                raise BackendError("the device did not fill what it was to send back; the result is not complete")
        finally:
            # An error holds the frames that it came through, and with them pinned memory and the device's.
            error = failed = None
            self._failures.clear()

    def _bring(self, put: Put, work: Work) -> None:
        device = self.device
        with self.ring.working():
            rooms = [
                _ResultRoom(device.room(self.slot_bytes), device.event(), device.event()) for _ in range(self.rooms)
            ]
            slots = [Slot(device.pinned(self.slot_bytes), device.event()) for _ in range(self.slots)]
            crew = _Writers(partial(self._write, put, work), slots, self.writers)
            with crew, closing(self.ring.arriving(work)) as arriving:
                turn = 0
                for one in arriving:
                    if not one.rows.n:
                        continue
                    slot = crew.slot()
                    if self._failures or self._unfilled:
                        break
                    room = rooms[turn % len(rooms)]
                    turn += 1
                    with record(work, "transform", one.blocks[0]):
                        device.computing.wait(room.free)
                        device.launch(partial(self._map, one, room.memory))
                        device.computing.record(room.filled)
                        device.fetching.wait(room.filled)
                        self._fetch(one, room, slot)
                    crew.give(_Given(one, slot))
            device.launch(_nothing)()  # where what was launched has failed late, it says so here

    def _map(self, one: Arrived, room: Any) -> None:
        """Put what the map makes of some rows into a room; nothing but work of the device is given."""
        try:
            out, refused = launched(self.row_map, one.rows.X)
            n = one.rows.n
            if isinstance(out, np.ndarray):
                out = self.mapped.backend.from_host(out)
            declared = self.mapped.dtype
            if tuple(out.shape) != (n, *self._shape) or not np.can_cast(host_dtype(out), declared, "same_kind"):
                raise DataError(
                    f"a map gave an array of shape {tuple(out.shape)} and {host_dtype(out)} where "
                    f"{(n, *self._shape)} and {declared} were declared",
                    source=self.mapped.name,
                    block=one.blocks[0],
                )
        except DataError as error:
            self._failures[one.start] = (one, error)
            raise
        if host_dtype(out) != declared:
            xp = namespace(out)
            out = xp.astype(out, xp.bool if declared.kind == "b" else getattr(xp, declared.name))
        self.device.view(room, 0, tuple(out.shape), declared)[...] = out
        self.device.view(room, self._count_at(n), (), _COUNT)[...] = refused

    def _fetch(self, one: Arrived, room: _ResultRoom, slot: Slot) -> None:
        """Have what a room holds copied to a slot; the room may be used again behind that."""
        device = self.device
        nbytes = self._count_at(one.rows.n) + _COUNT.itemsize
        device.fetch(room.memory, 0, slot.memory[:nbytes])
        device.ledger.down += nbytes
        device.fetching.record(slot.copied)
        device.fetching.record(room.free)

    def _write(self, put: Put, work: Work, given: _Given) -> None:
        """Bring what comes to a slot to where it belongs; in a writer, where it raises nothing."""
        try:
            self._bring_on(put, work, given.one, given.slot)
        except BaseException as failed:  # noqa: BLE001  (it is raised by the thread that asked)
            self._failures[given.one.start] = (given.one, failed)

    def _bring_on(self, put: Put, work: Work, one: Arrived, slot: Slot) -> None:
        n = one.rows.n
        slot.copied.synchronize()
        at = self._count_at(n)
        refused = float(slot.memory[at : at + _COUNT.itemsize].view(_COUNT)[0])
        if np.isnan(refused):
            self._unfilled = True
            return
        if refused:
            raise DataError(
                f"a map refuses {refused:,.0f} cells, and none where it is applied again; has the source changed?",
                source=self.mapped.name,
                block=one.blocks[0],
                rows=(one.start, one.start + n),
            )
        if self._failures or self._unfilled:
            return
        values = slot.memory[: n * self._row_bytes].view(self.mapped.dtype).reshape(n, *self._shape)
        with record(work, "write", one.blocks[0], n, values.nbytes):
            put(one.blocks, one.start, values)


def numbered(row_map: RowMap, /) -> tuple[RowMap, Array | None]:
    """Return a map, and None; of one that gives labels no device has, such as text, their positions, and the labels."""
    last = row_map.maps[-1] if isinstance(row_map, Chain) else row_map
    function = getattr(last, "function", None)
    classes = function.keywords.get("classes") if isinstance(function, partial) else None
    if not isinstance(last, Rowwise) or not isinstance(function, partial) or classes is None:
        return row_map, None
    if not isinstance(classes, np.ndarray) or classes.dtype.kind in "fiub" or last.out_dtype != classes.dtype:
        return row_map, None
    counted = partial(function.func, *function.args, **{**function.keywords, "classes": np.arange(len(classes))})
    positions = replace(last, function=counted, out_dtype=np.dtype(np.int64))
    return Chain((*row_map.maps[:-1], positions)) if isinstance(row_map, Chain) else positions, classes


def _nothing() -> None:
    """Stand behind all that was launched before."""


class _Writers(Threads):
    """Threads that bring results to where they belong, and give their slots back."""

    def __init__(self, write: Callable[[_Given], None], slots: Sequence[Slot], n: int) -> None:
        super().__init__(n, "writer")
        self._write = write
        self._given: SimpleQueue[_Given | None] = SimpleQueue()
        self._free: SimpleQueue[Slot] = SimpleQueue()
        for slot in slots:
            self._free.put(slot)

    def _stop(self) -> None:
        # What was given is looked at to the end, so that of several blocks that fail the first is named.
        for _ in range(len(self._threads)):
            self._given.put(None)

    def _work(self) -> None:
        while (given := self._given.get()) is not None:
            try:
                self._write(given)
            finally:
                self._free.put(given.slot)
            del given

    def slot(self) -> Slot:
        """Return a slot that is free, waiting for one."""
        return self._free.get()

    def give(self, given: _Given) -> None:
        """Let a writer bring what comes to a slot to where it belongs."""
        self._given.put(given)
