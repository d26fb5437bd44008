"""Streams and events of the stand-in's device."""

import threading
import time

import gpu_stand_in as stand_in
from gpu_stand_in import gpu

from cupy.cuda.runtime import CUDARuntimeError

_local = threading.local()


def current_device():
    """Return the number of the device that is current in this thread."""
    return getattr(_local, "device", 0)


def use_device(number):
    _local.device = number


class Event:
    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self._timed = not disable_timing
        self._clock = None
        self._time = None

    def record(self, stream=None):
        if stream is None:
            stream = get_current_stream()
        self._clock = stream._queue.mark()
        self._time = time.perf_counter()

    def synchronize(self):
        if self._clock is not None:
            gpu.ledger.event_waits += 1
            stand_in.known(self._clock)

    @property
    def done(self):
        return self._clock is None or all(gpu.host.get(k, 0) >= tick for k, tick in self._clock.items())


def get_elapsed_time(start_event, end_event):
    if not start_event._timed or not end_event._timed or end_event._time is None:
        raise CUDARuntimeError(400)
    if not end_event.done:
        raise CUDARuntimeError(600)
    return (end_event._time - start_event._time) * 1e3


class Stream:
    null: "Stream"

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        here = current_device()
        self._queue = stand_in.null[here] if null else stand_in.Queue(blocking=not non_blocking, device=here)

    def __eq__(self, other):
        return isinstance(other, Stream) and self._queue is other._queue

    def __hash__(self):
        return hash(self._queue)

    def __enter__(self):
        before = getattr(_local, "before", None)
        if before is None:
            before = _local.before = []
        before.append(get_current_stream())
        self.use()
        return self

    def __exit__(self, *args):
        _local.before.pop().use()

    def use(self):
        if self._queue.device != current_device():
            text = (
                f"This stream was created on device {self._queue.device} but the current device is {current_device()}"
            )
            raise RuntimeError(text)
        setattr(_local, f"stream{self._queue.device}", self)
        return self

    @property
    def is_non_blocking(self):
        return not self._queue.blocking

    def synchronize(self):
        self._queue.synchronize()

    def record(self, event=None):
        if event is None:
            event = Event()
        event.record(self)
        return event

    def wait_event(self, event):
        if event._clock is not None:
            with stand_in.lock:
                stand_in._join(self._queue.clock, event._clock)


Stream.null = Stream(null=True)


def get_current_stream(device_id=-1):
    device = current_device() if device_id == -1 else device_id
    found = getattr(_local, f"stream{device}", None)
    if found is None:
        found = Stream.__new__(Stream)
        found._queue = stand_in.null[device]
    return found
