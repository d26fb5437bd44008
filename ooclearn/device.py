"""What streaming between a host and a device asks of the device: streams, events, pinned memory, rooms.

An adapter gives it, and :class:`ooclearn.testing.device.FakeDevice` plays it without hardware.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from ooclearn.types import Array

__all__ = ["Device", "Event", "Ledger", "Slot", "Stream"]

T = TypeVar("T")


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

    @property
    def fetching(self) -> Stream:
        """The stream that results are copied back on."""

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

    def fetch(self, room: Any, start: int, target: Array, /) -> None:
        """Have bytes of a room, from byte `start` on, copied to pinned memory, on the fetching stream."""

    def is_pinned(self, values: Array, /) -> bool:
        """Say whether a host array lies in page-locked memory as a whole, whoever has made it."""

    def launch(self, work: Callable[[], T], /) -> Callable[[], T]:
        """Do what gives the device work, on the computing stream; the function returned gives its result."""

    def let_go(self, room: Any, /) -> None:
        """Take note, on the computing stream, that what lies in a room is not looked at any more."""

    def free_bytes(self) -> int:
        """Return how much memory the device has left."""


@dataclass(slots=True)
class Slot:
    """Pinned memory that is used again and again, and the event behind the last copy from or to it."""

    memory: Array
    copied: Event
