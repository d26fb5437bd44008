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
    """A mark in the work of a stream; one that was never recorded counts as reached."""

    def synchronize(self) -> None:
        """Wait on the host until the stream has come to the mark."""


class Stream(Protocol):
    """Work that a device does in order."""

    def wait(self, event: Any, /) -> None:
        """Let what is given to this stream from now on begin only after an event.

        Parameters
        ----------
        event : Event
            As it was last recorded, on any stream.
        """

    def record(self, event: Any, /) -> None:
        """Set an event behind what has been given to this stream so far.

        Parameters
        ----------
        event : Event
            Made by :meth:`Device.event`; it may have been recorded before.
        """


class Device(Protocol):
    """What streaming asks of a device: streams, events, pinned memory of the host and rooms of its own.

    ``copy``, ``fetch`` and ``launch``, and what streams do, only give the device work and never wait for it.
    """

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
        """Have the streams ready for the length of a ``with`` block.

        Returns
        -------
        context manager
            At its end the device is done with all that the streams were given.
        """

    def event(self) -> Event:
        """Make an event.

        Returns
        -------
        Event
            Not recorded yet.
        """

    def pinned(self, nbytes: int, /) -> Array:
        """Take page-locked memory of the host.

        Parameters
        ----------
        nbytes : int
            How much.

        Returns
        -------
        ndarray of uint8 of shape (nbytes,)
            Let go of when nobody refers to it.
        """

    def room(self, nbytes: int, /) -> Any:
        """Take memory of the device.

        Parameters
        ----------
        nbytes : int
            How much.

        Returns
        -------
        room
            What :meth:`view`, :meth:`copy` and :meth:`fetch` take; let go of when nobody refers to it.

        Raises
        ------
        MemoryError
            The device has not so much left.
        """

    def view(self, room: Any, start: int, shape: tuple[int, ...], dtype: np.dtype[Any], /) -> Array:
        """Return an array that lies in a room; nothing is copied.

        Parameters
        ----------
        room : room
            Of this device.
        start : int
            Byte of the room that it begins at.
        shape : tuple of int
            Of the array.
        dtype : dtype
            Of the array.

        Returns
        -------
        array
            Of the device's library.
        """

    def copy(self, source: Array, room: Any, start: int, /) -> None:
        """Have bytes of pinned memory copied to a room, on the copying stream.

        Parameters
        ----------
        source : ndarray
            What is copied; in pinned memory, and left alone until the copy is done.
        room : room
            Of this device.
        start : int
            Byte of the room that they go to.
        """

    def fetch(self, room: Any, start: int, target: Array, /) -> None:
        """Have bytes of a room copied to pinned memory, on the fetching stream.

        Parameters
        ----------
        room : room
            Of this device.
        start : int
            Byte of the room that they begin at.
        target : ndarray
            Where to, as many bytes as it has; in pinned memory.
        """

    def is_pinned(self, values: Array, /) -> bool:
        """Say whether a host array lies in page-locked memory as a whole, whoever has made it.

        Parameters
        ----------
        values : ndarray
            A contiguous array.

        Returns
        -------
        bool
            Whether it can be copied from where it lies.
        """

    def launch(self, work: Callable[[], T], /) -> Callable[[], T]:
        """Have a function give the device its work on the computing stream.

        Parameters
        ----------
        work : callable
            Called without arguments; looks at no value.

        Returns
        -------
        callable
            Gives what `work` has returned.
        """

    def let_go(self, room: Any, /) -> None:
        """Take note, on the computing stream, that what lies in a room is not looked at any more.

        Parameters
        ----------
        room : room
            Of this device.
        """

    def free_bytes(self) -> int:
        """Return how much memory the device has left.

        Returns
        -------
        int
            Bytes that :meth:`room` could give.
        """


@dataclass(slots=True)
class Slot:
    """Pinned memory that is used again and again, and the event behind the last copy from or to it.

    Attributes
    ----------
    memory : ndarray of uint8
        Made by :meth:`Device.pinned`.
    copied : Event
        Reached when the memory may be written to again.
    """

    memory: Array
    copied: Event
