"""The ring: host blocks go to a device through memory that is used again and again, copied while others are worked on.

Reader threads fill slots of page-locked host memory; an array that lies in such memory is sent from where it is. The
thread that called has each slot copied to one of a few rooms on the device, on a stream of its own, and gives the device
its work, on another. It never waits: events tell the one stream how far the other has come, and a reader when a slot may
be filled again.

It is written against :class:`~ooclearn.device.Device`, which an adapter gives, and which
:class:`ooclearn.testing.device.FakeDevice` plays without hardware, with random delays and poison in what was let go.
How results come back the same way is in :mod:`ooclearn.returning`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np

from ooclearn.config import get_config, n_workers
from ooclearn.device import Device, Event, Ledger, Slot, Stream
from ooclearn.events import Work, record
from ooclearn.exceptions import DataError
from ooclearn.residents import Residents, dtype_there, row_bytes_of
from ooclearn.table import Rows, Table
from ooclearn.types import Array
from ooclearn.workers import ordered

__all__ = ["Arrived", "Device", "Event", "Ledger", "Residents", "Ring", "Room", "Stream"]

T = TypeVar("T")

# So many blocks of `block_bytes` are copied as one. With the default these are 64 MiB: at 50 GB/s 1.3 ms, long beside
# what it costs to give the device its work; and a power of two, to which CUDA's pool of page-locked memory rounds up.
_BLOCKS = 4
# Rooms on the device: one is copied to, one is worked on, one takes up what either is late by.
ROOMS = 3
# Threads that fill slots. One copies 5 to 18 GB/s, and the bus takes 25 to 55.
READERS = 6
# Bytes of rows that are on the device already, and are worked on as one.
_RESIDENT_RUN = 2**30
# Parts of a slot begin at multiples of this.
_ALIGN = 256


@dataclass(slots=True)
class Room:
    """Memory of the device that is used again and again, and the event behind the last use of it."""

    memory: Any
    free: Event


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a part of some rows lies in a slot."""

    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class _Task:
    """Blocks whose rows are worked on as one, and what of them has to be copied to the device."""

    blocks: tuple[int, ...]
    start: int
    rows: int
    missing: tuple[str, ...]
    stays: bool


@dataclass(frozen=True, slots=True)
class _Filled:
    """What a reader has made of a task: what is to be copied to the device, and labels that stay on the host.

    The first `nbytes` of what is to be copied lie in the slot; the rest are sent from where they are.
    """

    slot: Slot | None
    nbytes: int
    places: dict[str, _Place]
    labels: Array | None


@dataclass(frozen=True, slots=True)
class Arrived:
    """Rows on the device, and which they are."""

    blocks: tuple[int, ...]
    start: int
    rows: Rows


class Ring:
    """One pass over a table whose blocks lie on the host, on a device.

    Parameters
    ----------
    device : Device
        Where the work is done.
    table : Table
        Of host blocks, whose lengths are known.
    residents : Residents, optional
        What stays on the device for the next pass.
    back_bytes : int
        Of a row that comes back, where rows do: they have as many slots of their own, and share the memory limit.
    """

    def __init__(
        self, device: Device, table: Table, residents: Residents | None = None, *, back_bytes: int = 0
    ) -> None:
        self.device = device
        self.table = table
        self.residents = residents
        self._parts: dict[str, Any] = {
            role: part for role, part in (("X", table.X), ("y", table.y), ("w", table.w)) if part is not None
        }
        self._pinned = self._already_pinned()
        self.readers = max(1, min(n_workers(), READERS))
        self._row = max(1, sum(map(self._row_bytes, self._parts)), back_bytes)
        self.tasks = self._tasks(_slot_bytes((self.readers + 2) * (2 if back_bytes else 1)))
        streamed = [task for task in self.tasks if task.missing]
        self.streamed = len(streamed)
        self.slot_bytes = max((self._bytes(task, filled=True) for task in streamed), default=0)
        self.room_bytes = max((self._bytes(task) for task in streamed), default=0)
        self._staying = {role for task in streamed if task.stays for role in task.missing}
        # Slots and rooms, which libraries give to others when they are let go, though work on them is under way.
        self._held: list[Slot | Room] = []

    def _already_pinned(self) -> dict[str, Array]:
        """Return the parts that lie in page-locked memory as they are to be sent, as bytes."""
        found: dict[str, Array] = {}
        for role, part in self._parts.items():
            source = getattr(part, "source", None)
            values = getattr(source, "array", None) if getattr(source, "in_memory", False) else None
            if not isinstance(values, np.ndarray) or not values.size or values.dtype != dtype_there(part, role):
                continue
            if values.flags.c_contiguous and values.dtype.isnative and self.device.is_pinned(values):
                found[role] = values.reshape(-1).view(np.uint8)
        return found

    def _tasks(self, limit: int) -> list[_Task]:
        """Return what is worked on as one: runs of blocks of at most so many bytes, unless a block alone has more.

        Of rows that are on the device already, longer runs: there they are worked through a hundred times as fast as
        they are copied, and giving the device its work must not take longer.
        """
        lengths, starts = self.table.X.lengths, self.table.X.starts()
        assert lengths is not None
        row_bytes = self._row
        staying = 0 if self.residents is None else self.residents.rows
        roles = tuple(role for role, part in self._parts.items() if dtype_there(part, role) is not None)
        # What lies in page-locked memory already stands behind what slots are filled with.
        roles = tuple(sorted(roles, key=lambda role: role in self._pinned))
        missing = tuple(role for role in roles if not staying or not self._is_here(role))
        tasks: list[_Task] = []
        run: list[int] = []

        def end_run() -> None:
            if run:
                start, stop = starts[run[0]], starts[run[-1] + 1]
                stays = 0 < stop <= staying
                tasks.append(_Task(tuple(run), start, stop - start, missing if stays else roles, stays))
                run.clear()

        for i, n in enumerate(lengths):
            stays = starts[i] + n <= staying
            most = _RESIDENT_RUN if stays and not missing else limit
            begun = starts[i] - starts[run[0]] if run else 0
            # Blocks without rows go with those before them.
            if begun and n and ((begun + n) * row_bytes > most or stays != (starts[i] <= staying)):
                end_run()
            run.append(i)
        end_run()
        return tasks

    def _is_here(self, role: str) -> bool:
        return self.residents is not None and self.residents.has(role, self._parts[role])

    def _bytes(self, task: _Task, *, filled: bool = False) -> int:
        """Return the bytes of a task that have to be copied; of those alone that a slot is filled with, if asked so."""
        roles = [role for role in task.missing if not filled or role not in self._pinned]
        return sum(_aligned(self._place(role, task, 0).nbytes) for role in roles)

    @property
    def slots(self) -> int:
        """How many slots of pinned memory there are."""
        # One for each result that may be waiting, and one for what is in the caller's hands.
        return min(self.readers + 2, self.streamed)

    @property
    def rooms(self) -> int:
        """How many rooms there are on the device."""
        return min(ROOMS, sum(bool(task.missing) and not task.stays for task in self.tasks))

    def memory(self) -> tuple[int, int]:
        """Return the bytes of pinned host memory and of device memory that blocks take, without residents."""
        return self.slots * self.slot_bytes, self.rooms * self.room_bytes

    def deliver(self, take: Callable[[int, Rows], None], end: Callable[[], T], /, *, work: Work) -> T:
        """Give all blocks to `take`, in order, then call `end`; both where the work of the device is given."""
        device = self.device
        with self.working(), closing(self.arriving(work)) as arriving:
            for one in arriving:
                with record(work, "fold", one.blocks[0], one.rows.n):
                    device.launch(partial(take, one.blocks[0], one.rows))
            result = device.launch(end)()
        for role in self._staying:
            assert self.residents is not None
            self.residents.note(role, self._parts[role])
        return result

    @contextmanager
    def working(self) -> Iterator[None]:
        """Have the device ready for the length of a ``with`` block, and keep slots and rooms until it is done."""
        try:
            with self.device.working():
                yield
        finally:
            self._held.clear()

    def arriving(self, work: Work, /) -> Generator[Arrived]:
        """Yield runs of rows, in order, inside :meth:`working`.

        Work on them that is given to the computing stream before the next run is asked for finds them there.
        """
        device = self.device
        slots: SimpleQueue[Slot] = SimpleQueue()
        for _ in range(self.slots):
            memory = device.pinned(self.slot_bytes) if self.slot_bytes else np.empty(0, dtype=np.uint8)
            self._held.append(slot := Slot(memory, device.event()))
            slots.put(slot)
        rooms = [Room(device.room(self.room_bytes), device.event()) for _ in range(self.rooms)]
        self._held += rooms
        self._make_room()
        read = partial(self._read, slots, work)
        filled = ordered(read, len(self.tasks), workers=self.readers, ahead=1, name="reader")
        with closing(filled):  # type: ignore[type-var]  # `ordered` is a generator
            turn = 0
            for task, item in zip(self.tasks, filled, strict=True):
                room = None
                if item.slot is not None:
                    if not task.stays:
                        room = rooms[turn % len(rooms)]
                        turn += 1
                    self._send(task, item, room)
                    slots.put(item.slot)
                yield Arrived(task.blocks, task.start, self._rows(task, item, room))
                if room is not None:
                    device.let_go(room.memory)
                    device.computing.record(room.free)

    def _make_room(self) -> None:
        """Take the memory that rows stay in, in one piece for each part of the table."""
        rows = sum(task.rows for task in self.tasks if task.stays)
        for role in sorted(self._staying):
            assert self.residents is not None
            self.residents.memory[role] = self.device.room(rows * self._row_bytes(role))

    def _send(self, task: _Task, item: _Filled, room: Room | None) -> None:
        """Have what a slot holds copied to the device, and let what is computed from now on wait for it."""
        device, slot = self.device, item.slot
        assert slot is not None
        if room is not None:
            device.copying.wait(room.free)
            if item.nbytes:
                self._copy(slot.memory[: item.nbytes], room.memory, 0)
        for role, place in item.places.items():
            start = task.start * self._row_bytes(role)
            pinned = self._pinned.get(role)
            if pinned is not None:
                source = pinned[start : start + place.nbytes]
            elif room is None:
                source = slot.memory[place.start : place.start + place.nbytes]
            else:
                continue  # copied above, with all that lies in the slot
            if room is not None:
                self._copy(source, room.memory, place.start)
            else:
                assert self.residents is not None
                self._copy(source, self.residents.memory[role], start)
        device.copying.record(slot.copied)
        device.computing.wait(slot.copied)

    def _copy(self, source: Array, room: Any, start: int) -> None:
        self.device.copy(source, room, start)
        self.device.ledger.up += source.nbytes

    def _rows(self, task: _Task, item: _Filled, room: Room | None) -> Rows:
        """Return the rows of a task on the device."""
        views: dict[str, Array] = {}
        for role, part in self._parts.items():
            if dtype_there(part, role) is None:
                continue
            place = self._place(role, task, 0)
            if room is not None:
                views[role] = self.device.view(room.memory, item.places[role].start, place.shape, place.dtype)
            else:
                assert self.residents is not None
                start = task.start * self._row_bytes(role)
                views[role] = self.device.view(self.residents.memory[role], start, place.shape, place.dtype)
        return Rows(views["X"], views.get("y", item.labels), views.get("w"), labels=item.labels)

    def _read(self, slots: SimpleQueue[Slot], work: Work, k: int) -> _Filled:
        """Fill a slot with what has to be copied of the blocks of a task; in a reader."""
        task = self.tasks[k]
        y = self._parts.get("y")
        with record(work, "read", task.blocks[0]) as span:
            # Classes are told apart on the host, where they were read.
            labels = None if y is None or y.dtype.kind == "f" else y.gather(task.blocks)
            if not task.missing:
                return _Filled(None, 0, {}, labels)
            slot = slots.get()
            slot.copied.synchronize()
            places: dict[str, _Place] = {}
            start = filled = 0
            for role in task.missing:
                place = places[role] = self._place(role, task, start)
                start += _aligned(place.nbytes)
                if role in self._pinned:
                    continue
                filled = start
                room = slot.memory[place.start : place.start + place.nbytes].view(place.dtype).reshape(place.shape)
                part = self._parts[role]
                values = labels if role == "y" and labels is not None else part.gather(task.blocks, _lent(room))
                if values.shape != place.shape:
                    raise DataError(
                        f"got rows of shape {values.shape} where {place.shape} was declared; scan it again",
                        source=part.name,
                        block=task.blocks[0],
                    )
                if not np.shares_memory(values, room):
                    room[...] = values
            span.bytes = filled
        return _Filled(slot, filled, places, labels)

    def _row_bytes(self, role: str) -> int:
        return row_bytes_of(self._parts[role], role)

    def _place(self, role: str, task: _Task, start: int) -> _Place:
        part = self._parts[role]
        dtype = dtype_there(part, role)
        assert dtype is not None
        return _Place(start, (task.rows, *part.shape[1:]), dtype)


def _lent(room: Array) -> Callable[[tuple[int, ...], np.dtype[Any]], Array]:
    def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        return room if (shape, dtype) == (room.shape, room.dtype) else np.empty(shape, dtype=dtype)

    return empty


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGN) * _ALIGN


def _slot_bytes(slots: int) -> int:
    """Return how large so many slots may be."""
    settings = get_config()
    size: int = _BLOCKS * settings["block_bytes"]
    limit: int | None = settings["memory_limit"]
    return size if limit is None else max(1, min(size, limit // slots))
