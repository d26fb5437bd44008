"""What the stand-in's device says of itself."""

import gpu_stand_in as _stand_in

memoryTypeUnregistered = 0
memoryTypeHost = 1
memoryTypeDevice = 2


_TEXTS = {
    2: "cudaErrorMemoryAllocation: out of memory",
    101: "cudaErrorInvalidDevice: invalid device ordinal",
    400: "cudaErrorInvalidResourceHandle: invalid resource handle",
    600: "cudaErrorNotReady: device not ready",
}


class CUDARuntimeError(RuntimeError):
    def __init__(self, status):
        self.status = status
        super().__init__(_TEXTS[status])


class _PointerAttributes:
    def __init__(self, device, devicePointer, hostPointer, type):
        self.device, self.devicePointer, self.hostPointer, self.type = device, devicePointer, hostPointer, type


def pointerGetAttributes(ptr):
    if not isinstance(ptr, int):
        raise TypeError("an integer is required")
    if _stand_in.pinned.find(ptr) is None:
        return _PointerAttributes(-2, 0, ptr, memoryTypeUnregistered)
    return _PointerAttributes(0, ptr, ptr, memoryTypeHost)


def memGetInfo():
    return _stand_in.gpu.memory - _stand_in.pool.total, _stand_in.gpu.memory


def getDeviceCount():
    return _stand_in.gpu.devices


def getDeviceProperties(device):
    return {"name": b"a stand-in without hardware", "major": 9, "minor": 0, "totalGlobalMem": _stand_in.gpu.memory}


def driverGetVersion():
    return 13000


def runtimeGetVersion():
    return 12090
