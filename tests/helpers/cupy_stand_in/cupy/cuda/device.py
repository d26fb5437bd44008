"""The devices of the stand-in, of which there are as many as a test says."""

import threading

from gpu_stand_in import gpu

from cupy.cuda.runtime import CUDARuntimeError, memGetInfo
from cupy.cuda.stream import current_device, use_device

_local = threading.local()


class Device:
    __hash__ = None  # as CuPy's, which cannot be a key

    def __init__(self, device=None):
        self.id = current_device() if device is None else int(device)

    def __int__(self):
        return self.id

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    def __repr__(self):
        return f"<CUDA Device {self.id}>"

    def __enter__(self):
        if not hasattr(_local, "before"):
            _local.before = []
        _local.before.append(current_device())
        return self.use()

    def __exit__(self, *args):
        use_device(_local.before.pop())

    def use(self):
        if not 0 <= self.id < gpu.devices:
            raise CUDARuntimeError(101)
        use_device(self.id)
        return self

    def synchronize(self):
        for queue in list(gpu.queues):
            if queue.device == self.id:
                queue.synchronize()

    @property
    def mem_info(self):
        return memGetInfo()
