"""The ring: host blocks go to a device through memory that is used again and again, copied while others are worked on.

Reader threads fill slots of page-locked host memory. The thread that called has each slot copied to one of a few rooms
on the device, on a stream of its own, and gives the device its work, on another. It never waits: events tell the one
stream how far the other has come, and a reader when a slot may be filled again.

It is written against :class:`Device`, which an adapter gives, and which
:class:`ooclearn.testing.device.FakeDevice` plays without hardware, with random delays and poison in what was let go.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import numpy as np

from ooclearn.config import get_config, n_workers
from ooclearn.events import Work, record
from ooclearn.exceptions import DataError
from ooclearn.table import Rows, Table
from ooclearn.types import Array
from ooclearn.workers import ordered

__all__ = ["Device", "Event", "Ledger", "Residents", "Ring", "Stream"]

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
class Ledger:
    """What has gone over the bus.

    Attributes
    ----------
    up, down : int
        Bytes copied to the device, and back.
    waits : int
        How often the host has waited for the device to be done.
    """

    up: int = 0
    down: int = 0
    waits: int = 0


class Event(Protocol):
    """A mark in the work of a stream; one that was never recorded is behind everybody."""

    def synchronize(self) -> None:
        """Wait on the host until the stream has come to the mark."""


class Stream(Protocol):
    """Work that a device does in order."""

    def wait(self, event: Any, /) -> None:
        """Let what is given to this stream from now on begin after `event`, as it was last recorded."""

    def record(self, event: Any, /) -> None:
        """Set the mark behind what has been given to this stream."""


class Device(Protocol):
    """What the ring asks of a device."""

    @property
    def ledger(self) -> Ledger:
        """What has gone over the bus so far."""

    @property
    def copying(self) -> Stream:
        """The stream that blocks are copied on."""

    @property
    def computing(self) -> Stream:
        """The stream that work on blocks is done on."""

    def working(self) -> AbstractContextManager[Any]:
        """Have the streams ready for the length of a ``with`` block; at its end all they were given is done."""

    def event(self) -> Event:
        """Return a new event."""

    def pinned(self, nbytes: int, /) -> Array:
        """Return page-locked host memory, as bytes."""

    def room(self, nbytes: int, /) -> Any:
        """Return memory of the device; raises :class:`MemoryError` where there is none left."""

    def view(self, room: Any, start: int, shape: tuple[int, ...], dtype: np.dtype[Any], /) -> Array:
        """Return an array that lies in a room from byte `start` on."""

    def copy(self, source: Array, room: Any, start: int, /) -> None:
        """Have bytes of pinned memory copied to a room, from byte `start` on, on the copying stream."""

    def launch(self, work: Callable[[], T], /) -> Callable[[], T]:
        """Do what gives the device work, on the computing stream; the function returned gives its result."""

    def let_go(self, room: Any, /) -> None:
        """Take note, on the computing stream, that what lies in a room is not looked at any more."""

    def free_bytes(self) -> int:
        """Return how much memory the device has left."""


@dataclass(slots=True)
class _Slot:
    memory: Array
    copied: Event


@dataclass(slots=True)
class _Room:
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
    """What a reader has made of a task: what is to be copied to the device, and labels that stay on the host."""

    slot: _Slot | None
    places: dict[str, _Place]
    labels: Array | None


@dataclass(eq=False)
class Residents:
    """The first rows of a table, which stay on a device from one pass of a fit to the next.

    Each part of them lies in one piece of memory, so that later passes can work on long runs of them.

    Attributes
    ----------
    budget : int
        Bytes they may take.
    row_bytes : int
        Of a row with all parts of the table.
    """

    budget: int
    row_bytes: int
    memory: dict[str, Any] = field(default_factory=dict)
    _whole: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows may stay."""
        return self.budget // max(1, self.row_bytes)

    def has(self, role: str, part: Any, /) -> bool:
        """Say whether all of the rows that stay are there, of a part of the table."""
        return self._whole.get(role) is part

    def note(self, role: str, part: Any, /) -> None:
        """Take note that a part of the table is there now."""
        self._whole[role] = part


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
    """

    def __init__(self, device: Device, table: Table, residents: Residents | None = None) -> None:
        self.device = device
        self.table = table
        self.residents = residents
        self._parts: dict[str, Any] = {
            role: part for role, part in (("X", table.X), ("y", table.y), ("w", table.w)) if part is not None
        }
        self.readers = max(1, min(n_workers(), READERS))
        self.tasks = self._tasks(_slot_bytes(self.readers))
        streamed = [task for task in self.tasks if task.missing]
        self.streamed = len(streamed)
        self.slot_bytes = max((self._bytes(task) for task in streamed), default=0)
        self._staying = {role for task in streamed if task.stays for role in task.missing}

    def _tasks(self, limit: int) -> list[_Task]:
        """Return what is worked on as one: runs of blocks of at most so many bytes, unless a block alone has more.

        Of rows that are on the device already, longer runs: there they are worked through a hundred times as fast as
        they are copied, and giving the device its work must not take longer.
        """
        lengths, starts = self.table.X.lengths, self.table.X.starts()
        assert lengths is not None
        row_bytes = max(1, self.table.X.row_bytes)
        staying = 0 if self.residents is None else self.residents.rows
        roles = tuple(role for role, part in self._parts.items() if _dtype(part, role) is not None)
        missing = tuple(role for role in roles if not staying or not self._is_here(role))
        tasks: list[_Task] = []
        run: list[int] = []

        def end_run() -> None:
            if run:
                start, stop = starts[run[0]], starts[run[-1] + 1]
                stays = stop <= staying
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

    def _bytes(self, task: _Task) -> int:
        return sum(_aligned(self._place(role, task, 0).nbytes) for role in task.missing)

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
        return self.slots * self.slot_bytes, self.rooms * self.slot_bytes

    def deliver(self, take: Callable[[int, Rows], None], end: Callable[[], T], /, *, work: Work) -> T:
        """Give all blocks to `take`, in order, then call `end`; both where the work of the device is given."""
        device = self.device
        with device.working():
            slots: SimpleQueue[_Slot] = SimpleQueue()
            for _ in range(self.slots):
                slots.put(_Slot(device.pinned(self.slot_bytes), device.event()))
            rooms = [_Room(device.room(self.slot_bytes), device.event()) for _ in range(self.rooms)]
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
                    rows = self._rows(task, item, room)
                    with record(work, "fold", task.blocks[0], rows.n):
                        device.launch(partial(take, task.blocks[0], rows))
                    if room is not None:
                        device.let_go(room.memory)
                        device.computing.record(room.free)
            result = device.launch(end)()
        for role in self._staying:
            assert self.residents is not None
            self.residents.note(role, self._parts[role])
        return result

    def _make_room(self) -> None:
        """Take the memory that rows stay in, in one piece for each part of the table."""
        rows = sum(task.rows for task in self.tasks if task.stays)
        for role in sorted(self._staying):
            assert self.residents is not None
            self.residents.memory[role] = self.device.room(rows * self._row_bytes(role))

    def _send(self, task: _Task, item: _Filled, room: _Room | None) -> None:
        """Have what a slot holds copied to the device, and let what is computed from now on wait for it."""
        device, slot = self.device, item.slot
        assert slot is not None
        if room is not None:
            device.copying.wait(room.free)
            nbytes = sum(_aligned(place.nbytes) for place in item.places.values())
            device.copy(slot.memory[:nbytes], room.memory, 0)
            device.ledger.up += nbytes
        else:
            assert self.residents is not None
            for role, place in item.places.items():
                start = task.start * self._row_bytes(role)
                source = slot.memory[place.start : place.start + place.nbytes]
                device.copy(source, self.residents.memory[role], start)
                device.ledger.up += place.nbytes
        device.copying.record(slot.copied)
        device.computing.wait(slot.copied)

    def _rows(self, task: _Task, item: _Filled, room: _Room | None) -> Rows:
        """Return the rows of a task on the device."""
        views: dict[str, Array] = {}
        for role, part in self._parts.items():
            if _dtype(part, role) is None:
                continue
            place = self._place(role, task, 0)
            if room is not None:
                views[role] = self.device.view(room.memory, item.places[role].start, place.shape, place.dtype)
            else:
                assert self.residents is not None
                start = task.start * self._row_bytes(role)
                views[role] = self.device.view(self.residents.memory[role], start, place.shape, place.dtype)
        return Rows(views["X"], views.get("y", item.labels), views.get("w"), labels=item.labels)

    def _read(self, slots: SimpleQueue[_Slot], work: Work, k: int) -> _Filled:
        """Fill a slot with what has to be copied of the blocks of a task; in a reader."""
        task = self.tasks[k]
        y = self._parts.get("y")
        with record(work, "read", task.blocks[0]) as span:
            # Classes are told apart on the host, where they were read.
            labels = None if y is None or y.dtype.kind == "f" else y.gather(task.blocks)
            if not task.missing:
                return _Filled(None, {}, labels)
            slot = slots.get()
            slot.copied.synchronize()
            places: dict[str, _Place] = {}
            start = 0
            for role in task.missing:
                place = places[role] = self._place(role, task, start)
                room = slot.memory[start : start + place.nbytes].view(place.dtype).reshape(place.shape)
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
                start += _aligned(place.nbytes)
            span.bytes = start
        return _Filled(slot, places, labels)

    def _row_bytes(self, role: str) -> int:
        part = self._parts[role]
        dtype = _dtype(part, role)
        assert dtype is not None
        return int(np.prod(part.shape[1:], dtype=np.int64)) * dtype.itemsize

    def _place(self, role: str, task: _Task, start: int) -> _Place:
        part = self._parts[role]
        dtype = _dtype(part, role)
        assert dtype is not None
        return _Place(start, (task.rows, *part.shape[1:]), dtype)


def _lent(room: Array) -> Callable[[tuple[int, ...], np.dtype[Any]], Array]:
    def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        return room if (shape, dtype) == (room.shape, room.dtype) else np.empty(shape, dtype=dtype)

    return empty


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGN) * _ALIGN


def _dtype(part: Any, role: str) -> np.dtype[Any] | None:
    """Return the dtype in which a part of a table lies on the device; None for labels that are no numbers."""
    dtype: np.dtype[Any] = part.dtype
    if role != "X" and dtype.kind in "fiu":
        return np.dtype(np.float64 if dtype.kind == "f" else np.int64)
    return dtype if dtype.kind in "fiubc" else None


def _slot_bytes(readers: int) -> int:
    settings = get_config()
    size: int = _BLOCKS * settings["block_bytes"]
    limit: int | None = settings["memory_limit"]
    return size if limit is None else max(1, min(size, limit // (readers + 2)))
