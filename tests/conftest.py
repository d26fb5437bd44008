"""One body for a test, every container: the fixture ``backend``. And what every test may ask for."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import array_api_compat
import numpy as np
import pytest

import ooclearn
from ooclearn.backend import Backend, get_backend, owner_of
from ooclearn.testing import nothing_left
from ooclearn.testing.device import register_fake
from ooclearn.testing.tables import uneven_cut


@dataclass(frozen=True)
class Container:
    """How to make and to read back one kind of container.

    ``make`` takes a NumPy array; where the container has blocks, they are uneven, some of one row and of
    none. ``rounding`` is the coarsest that arithmetic on it gets: that of float64, or of float32 where there
    is no more.
    """

    name: str
    backend: Backend
    make: Callable[[np.ndarray], Any]
    lazy: bool = False
    rounding: float = 2.0**-52

    def back(self, x: Any) -> np.ndarray:
        """Read a result into a NumPy array; it must be of this backend."""
        owner = owner_of(x)
        assert owner is self.backend, f"a {type(x).__name__} of {owner and owner.name} where {self.name} was given"
        if owner.generic:
            assert array_api_compat.device(x) == array_api_compat.device(self.make(np.zeros(1)))
        return owner.blocks(x).to_numpy()

    def has(self, dtype: Any) -> bool:
        """Say whether this library has the dtype of NumPy's, on this device."""
        try:
            blocks = self.backend.blocks(self.make(np.zeros((1, 1), dtype=dtype)))
            return self.backend.to_host(blocks.read(0)).dtype == dtype
        except TypeError:
            return False

    def within(self, roundings: float) -> float:
        """Return a tolerance of so many roundings."""
        return roundings * self.rounding


def _read_only(values: np.ndarray) -> np.ndarray:
    values = np.array(values)
    values.flags.writeable = False
    return values


def _dask(values: np.ndarray) -> Any:
    import dask.array as da

    return da.from_array(np.array(values), chunks=(uneven_cut(len(values)), *values.shape[1:]))


def _strict(device: str) -> Callable[[np.ndarray], Any]:
    def make(values: np.ndarray) -> Any:
        import array_api_strict as xp

        if device == "no_float64" and values.dtype == np.float64:
            values = values.astype(np.float32)
        return xp.asarray(np.array(values), device=xp.Device(device))

    return make


def _torch(values: np.ndarray) -> Any:
    import torch

    return torch.asarray(np.array(values), device="cpu")


def _jax(*, wide: bool) -> Callable[[np.ndarray], Any]:
    def make(values: np.ndarray) -> Any:
        import jax

        values = np.array(values)
        if not wide:  # what it does by itself, without a word
            values = values.astype({"float64": "float32", "int64": "int32"}.get(values.dtype.name, values.dtype))
        return jax.numpy.asarray(values, device=jax.devices()[1])

    return make


@contextmanager
def _settings_of(name: str) -> Iterator[None]:
    """Set up a library so that what is made on no device in particular is not on that of the table."""
    if name == "torch":
        import torch

        with torch.device("meta"):  # which has shapes and no values
            yield
    elif name.startswith("jax"):
        import jax

        before = jax.config.jax_enable_x64
        jax.config.update("jax_num_cpu_devices", 2)
        jax.config.update("jax_enable_x64", name == "jax-x64")
        yield
        jax.config.update("jax_enable_x64", before)
    else:
        yield


def _cupy(values: np.ndarray) -> Any:
    import cupy

    return cupy.asarray(values)


def _missing(name: str) -> str | None:
    """Return why a container cannot be had here; None if it can."""
    library, reason = {
        "dask": ("dask.array", "the extra `dask` is not installed"),
        "torch": ("torch", "PyTorch is large; ci/test --torch installs it"),
        "jax": ("jax", "JAX is large; ci/test --jax installs it"),
        "jax-x64": ("jax", "JAX is large; ci/test --jax installs it"),
        "cupy": ("cupy", "CuPy is not installed; ci/gpu runs what needs it"),
        "cupy-scan": ("cupy", "CuPy is not installed; ci/gpu runs what needs it"),
    }.get(name, ("", ""))
    if not library:
        return None
    try:
        found: Any = importlib.import_module(library)
    except ImportError:
        return reason
    return "there is no CUDA device" if library == "cupy" and not found.cuda.is_available() else None


def _container(name: str, folder: Any) -> Container:
    numbers = count()

    def path(values: np.ndarray) -> Any:
        file = folder / f"{next(numbers)}.npy"
        np.save(file, values)
        return file

    def memmap(values: np.ndarray) -> Any:
        return np.load(path(values), mmap_mode="r")

    def scanned(values: np.ndarray) -> Any:
        return ooclearn.scan(path(values)).recut(uneven_cut(len(values)))

    if (missing := _missing(name)) is not None:  # a test has asked for it by name
        pytest.skip(missing)
    host, device = get_backend("numpy"), get_backend("array_api")
    makers = {
        "dask": lambda: Container(name, get_backend("dask"), _dask, lazy=True),
        # Blocks of the host that are worked on by a device without hardware; memory that it lets go is poisoned.
        "device": lambda: Container(name, register_fake(), lambda values: scanned(values).on("device"), lazy=True),
        "cupy": lambda: Container(name, get_backend("cupy"), _cupy),
        "cupy-scan": lambda: Container(name, get_backend("cupy"), lambda values: scanned(values).on("cupy"), lazy=True),
        "torch": lambda: Container(name, device, _torch),
        "jax": lambda: Container(name, device, _jax(wide=False), rounding=2.0**-23),
        "jax-x64": lambda: Container(name, device, _jax(wide=True)),
    }
    if name in makers:
        return makers[name]()
    return {
        "numpy": Container(name, host, _read_only),
        "memmap": Container(name, host, memmap, lazy=True),
        "scan": Container(name, host, scanned, lazy=True),
        "strict": Container(name, device, _strict("CPU_DEVICE")),
        "strict-device1": Container(name, device, _strict("device1")),
        "strict-no_float64": Container(name, device, _strict("no_float64"), rounding=2.0**-23),
    }[name]


# A distribution of its own, installed by the tests that use it; and a module `cupy`, for processes of their own.
collect_ignore = ["plugin", "helpers/cupy_stand_in", "backends/on_cupy.py", "backends/on_cupy_streams.py"]

HOST = ("numpy", "memmap", "scan", "dask")
ALL = (
    *HOST,
    "strict",
    "strict-device1",
    "strict-no_float64",
    "device",
    "cupy",
    "cupy-scan",
    "torch",
    "jax",
    "jax-x64",
)
CONTAINERS = tuple(name for name in ALL if _missing(name) is None)


def pytest_report_header() -> list[str]:
    """Say which containers the tests cannot be run on here."""
    return [f"not on {name}: {why}" for name in ALL if (why := _missing(name)) is not None]


@pytest.fixture(scope="module", params=CONTAINERS)
def backend(request, tmp_path_factory) -> Iterator[Container]:
    """Every container in turn."""
    container = _container(request.param, tmp_path_factory.mktemp("backend"))
    with _settings_of(request.param):
        yield container


@pytest.fixture(scope="module", params=[name for name in HOST if name in CONTAINERS])
def host_backend(request, tmp_path_factory) -> Container:
    """The containers whose blocks are NumPy arrays, so that bits can be compared."""
    return _container(request.param, tmp_path_factory.mktemp("backend"))


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c():
    """Have Ctrl-C end what runs, even if the suite was started in the background: shells then ignore it for a program."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _same_config():
    """Put the configuration back as it was, whatever a test has set."""
    before = ooclearn.get_config()
    yield
    ooclearn.set_config(**before)


@pytest.fixture
def leaves_nothing(tmp_path):
    """Law 10: fail the test if it leaves a thread, an open file or a temporary file."""
    # Dask keeps its threads for the life of the process.
    with nothing_left(tmp_path, pools=("ThreadPoolExecutor", "Dask")):
        yield
