"""Memory of the stand-in's device."""

import ctypes

import gpu_stand_in as stand_in
import numpy as np
from gpu_stand_in import gpu

from cupy.cuda import stream as _streams


class OutOfMemoryError(MemoryError):
    def __init__(self, size, total, limit=0):
        text = f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes"
        super().__init__(text + (f", limit set to: {limit:,} bytes)." if limit else ")."))


class PooledMemory:
    def __init__(self, chunk):
        self._chunk = chunk
        self.ptr, self.size, self.device_id = chunk.ptr, chunk.nbytes, chunk.device

    def __del__(self):
        stand_in.pool.returned.append(self._chunk)


class MemoryPointer:
    def __init__(self, mem, offset):
        self.mem, self.ptr, self.device_id = mem, mem.ptr + offset, mem.device_id

    @property
    def device(self):
        from cupy.cuda.device import Device

        return Device(self.device_id)

    def __int__(self):
        return self.ptr

    def __add__(self, offset):
        return MemoryPointer(self.mem, self.ptr - self.mem.ptr + int(offset))

    def _span(self, size):
        lo = self.ptr - self.mem.ptr
        if not 0 <= lo <= lo + size <= self.mem.size:
            gpu.hazard(f"{size} bytes from {lo} on of memory of {self.mem.size} bytes")
        return self.mem._chunk, lo, lo + size

    def copy_from_host_async(self, mem, size, stream=None):
        self._copy(_address(mem), size, stream, up=True)

    def copy_to_host_async(self, mem, size, stream=None):
        self._copy(_address(mem), size, stream, up=False)

    def _copy(self, ptr, size, stream, *, up):
        if not size:
            return
        chunk, lo, hi = self._span(size)
        host = stand_in.pinned.find(ptr, size)
        if host is None:
            gpu.hazard("an asynchronous copy of memory of the host that is not page-locked")
        queue = (_streams.get_current_stream() if stream is None else stream)._queue
        with stand_in.lock:
            tick = queue.begin()
            chunk.note(lo, hi, queue, tick, write=up)
            if up:
                before = host.copy()
            else:
                host[:] = stand_in.POISON

            def run():
                expected = before if up else np.uint8(stand_in.POISON)
                if not np.array_equal(host, np.broadcast_to(expected, host.shape)):
                    gpu.hazard("page-locked memory was written to before a copy of it was done")
                if up:
                    chunk.memory[lo:hi] = host
                else:
                    host[:] = chunk.memory[lo:hi]

            queue.later(tick, run)
            gpu.ledger.sent(size) if up else gpu.ledger.fetched(size)


def _address(mem):
    if isinstance(mem, ctypes.c_void_p):
        return mem.value
    if not isinstance(mem, int):
        raise TypeError(f"an integer is required, got {type(mem).__name__}")
    return mem


class MemoryPool:
    def malloc(self, size):
        chunk = stand_in.pool.get(max(1, size), _streams.get_current_stream()._queue)
        if chunk is None:
            raise OutOfMemoryError(size, stand_in.pool.total, stand_in.pool.limit)
        return MemoryPointer(PooledMemory(chunk), 0)

    def free_all_blocks(self, stream=None):
        stand_in.pool.free_all()

    def free_bytes(self):
        return stand_in.pool.free_bytes()

    def used_bytes(self):
        return stand_in.pool.total - stand_in.pool.free_bytes()

    def total_bytes(self):
        return stand_in.pool.total

    def get_limit(self):
        return stand_in.pool.limit

    def set_limit(self, size=None, fraction=None):
        if fraction is not None:
            if size is not None:
                raise ValueError("size and fraction cannot be specified at the same time")
            size = int(fraction * gpu.memory)
        if size is not None and size < 0:
            raise ValueError(f"memory limit size out of range: {size}")
        stand_in.pool.limit = size or 0
