"""Of CuPy's ``cuda``: what moves memory and work."""

from cupy.cuda import device, memory, pinned_memory, runtime, stream
from cupy.cuda.device import Device
from cupy.cuda.memory import MemoryPointer, MemoryPool
from cupy.cuda.pinned_memory import PinnedMemoryPool, alloc_pinned_memory
from cupy.cuda.stream import Event, Stream, get_current_stream, get_elapsed_time


def is_available():
    return True
