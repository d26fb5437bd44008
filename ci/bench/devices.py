"""What a device is, and what no program could beat on it: the rates of the bus, of its memory and of its arithmetic."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np

from ooclearn.backend import get_backend
from ooclearn.config import n_workers
from ooclearn.exceptions import BackendError
from ooclearn.types import Array

__all__ = ["Cuda", "Fake", "Limits", "Machine", "machine_of"]

REPEATS = 5


@dataclass(frozen=True)
class Limits:
    """Bytes or operations a second; None where the device has no such thing."""

    pinned: float | None = None
    pageable: float | None = None
    back: float | None = None
    memory: float | None = None
    float64: float | None = None
    float32: float | None = None


class Machine(Protocol):
    """What the benchmark asks of a device."""

    backend: str

    def about(self) -> dict[str, Any]:
        """Return what the device and its software are."""

    def limits(self, nbytes: int, /) -> Limits:
        """Measure the limits by so many bytes."""

    def pinned(self, values: Array, /) -> Array:
        """Return page-locked host memory with the same values."""

    def limited(self, nbytes: int, /) -> Any:
        """Let programs take only so much of the device's memory, for the length of a ``with`` block."""

    def tidy(self) -> None:
        """Give memory back that nothing uses."""

    def held(self) -> int | None:
        """Return the bytes that are taken of the device's memory."""


class Cuda:
    """The current CUDA device, by CuPy."""

    backend = "cupy"

    def __init__(self) -> None:
        import cupy
        import cupyx

        self.cp, self.cpx = cupy, cupyx
        if not cupy.cuda.is_available():
            raise BackendError("there is no CUDA device, or its driver is too old for this CuPy; look at nvidia-smi")
        self.pool = cupy.get_default_memory_pool()

    def about(self) -> dict[str, Any]:
        runtime = self.cp.cuda.runtime
        found = runtime.getDeviceProperties(self.cp.cuda.Device().id)
        return {
            "device": found["name"].decode(),
            "compute_capability": f"{found['major']}.{found['minor']}",
            "memory_gb": round(found["totalGlobalMem"] / 1e9, 1),
            "driver": _driver(),
            "driver_cuda": _dotted(runtime.driverGetVersion()),
            "runtime_cuda": _dotted(runtime.runtimeGetVersion()),
            "cupy": self.cp.__version__,
        }

    def _seconds(self, launch: Callable[[], object]) -> float:
        """Return what the device needs for what `launch` gives to the current stream."""
        begin, end = self.cp.cuda.Event(), self.cp.cuda.Event()
        seconds = []
        for _ in range(REPEATS + 1):
            begin.record()
            launch()
            end.record()
            end.synchronize()
            seconds.append(self.cp.cuda.get_elapsed_time(begin, end) / 1e3)
        return float(median(seconds[1:]))

    def limits(self, nbytes: int, /) -> Limits:
        nbytes = min(nbytes, 2**30)
        rates = self._copies(nbytes) | self._products(8192 if nbytes >= 2**29 else 1024)
        self.tidy()
        return Limits(**rates)

    def _copies(self, nbytes: int) -> dict[str, float]:
        """Return bytes a second over the bus and within the device."""
        cp = self.cp
        here, there = cp.ones(nbytes // 8), cp.empty(nbytes // 8)
        pageable = np.ones(here.shape)
        locked = self.pinned(pageable)
        stream = cp.cuda.get_current_stream()
        walls = []
        for _ in range(REPEATS + 1):
            start = time.perf_counter()
            here.set(pageable)
            stream.synchronize()
            walls.append(time.perf_counter() - start)
        return {
            "pageable": here.nbytes / median(walls[1:]),
            "pinned": here.nbytes / self._seconds(lambda: here.set(locked, stream=stream)),
            "back": here.nbytes / self._seconds(lambda: here.get(out=locked, stream=stream, blocking=False)),
            # Reading alone, or reading and writing: whichever shows more.
            "memory": max(
                here.nbytes / self._seconds(here.sum),
                2 * here.nbytes / self._seconds(lambda: cp.copyto(there, here)),
            ),
        }

    def _products(self, side: int) -> dict[str, float]:
        """Return operations a second of a product of two square matrices, by dtype."""
        found = {}
        for name in ("float64", "float32"):
            a = self.cp.random.standard_normal((side, side), dtype=name)
            found[name] = 2 * side**3 / self._seconds(lambda a=a: a @ a)  # type: ignore[misc]  # of a default
        return found

    def pinned(self, values: Array, /) -> Array:
        found: Array = self.cpx.empty_pinned(values.shape, values.dtype)
        found[...] = values
        return found

    @contextmanager
    def limited(self, nbytes: int, /) -> Iterator[None]:
        before = self.pool.get_limit()
        self.tidy()
        self.pool.set_limit(size=nbytes)
        try:
            yield
        finally:
            self.pool.set_limit(size=before)
            self.tidy()

    def tidy(self) -> None:
        self.cp.cuda.get_current_stream().synchronize()
        self.pool.free_all_blocks()
        self.cp.get_default_pinned_memory_pool().free_all_blocks()

    def held(self) -> int | None:
        return int(self.pool.total_bytes())


class Fake:
    """The device without hardware that the suite uses: it shows that the benchmark runs, and measures nothing."""

    backend = "device"

    def __init__(self) -> None:
        from ooclearn.testing.device import register_fake

        self.device = register_fake().device()

    def about(self) -> dict[str, Any]:
        return {"device": "none: a fake one", "cores": n_workers()}

    def limits(self, nbytes: int, /) -> Limits:
        del nbytes
        return Limits()

    def pinned(self, values: Array, /) -> Array:
        return values

    @contextmanager
    def limited(self, nbytes: int, /) -> Iterator[None]:
        before, self.device.memory = self.device.memory, nbytes  # type: ignore[attr-defined]  # the fake one's
        try:
            yield
        finally:
            self.device.memory = before  # type: ignore[attr-defined]  # the same

    def tidy(self) -> None:
        """Do nothing."""

    def held(self) -> int | None:
        return None


def machine_of(name: str) -> Machine:
    """Return the machine behind the backend of that name.

    Raises
    ------
    BackendError
        There is no such device.
    """
    if name == Fake.backend:
        return Fake()
    if name != Cuda.backend:
        get_backend(name)
        raise BackendError(f"the benchmark knows the devices {Cuda.backend!r} and {Fake.backend!r}, got {name!r}")
    try:
        return Cuda()
    except ImportError as error:
        raise BackendError(
            'CuPy is not installed: pip install "ooclearn[cuda12]", or "ooclearn[cuda13]", whichever the driver is for'
        ) from error


def _driver() -> str | None:
    """Return the version of the driver."""
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]  # as the user's PATH has it
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        return done.stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        file = Path("/proc/driver/nvidia/version")
        words = file.read_text(encoding="utf-8").split() if file.exists() else []
        return next((word for word in words if word[0].isdigit() and "." in word), None)


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
