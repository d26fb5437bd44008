"""One body for a test, every container: the fixture ``backend``. And what every test may ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import pytest

import ooclearn
from ooclearn.backend import Backend, get_backend, owner_of
from ooclearn.testing import nothing_left
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
        return owner.blocks(x).to_numpy()

    def has(self, dtype: Any) -> bool:
        """Say whether this library has the dtype of NumPy's, on this device."""
        try:
            return self.back(self.make(np.zeros((1, 1), dtype=dtype))).dtype == dtype
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

    return torch.asarray(np.array(values))


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

    host, device = get_backend("numpy"), get_backend("array_api")
    if name == "dask":
        pytest.importorskip("dask.array", reason="the extra `dask` is not installed")
        return Container(name, get_backend("dask"), _dask, lazy=True)
    if name == "torch":
        pytest.importorskip("torch", reason="PyTorch is large; ci/test --torch installs it")
        return Container(name, device, _torch)
    return {
        "numpy": Container(name, host, _read_only),
        "memmap": Container(name, host, memmap, lazy=True),
        "scan": Container(name, host, scanned, lazy=True),
        "strict": Container(name, device, _strict("CPU_DEVICE")),
        "strict-device1": Container(name, device, _strict("device1")),
        "strict-no_float64": Container(name, device, _strict("no_float64"), rounding=2.0**-23),
    }[name]


# A distribution of its own, installed by the tests that use it.
collect_ignore = ["plugin"]

HOST = ("numpy", "memmap", "scan", "dask")
CONTAINERS = (*HOST, "strict", "strict-device1", "strict-no_float64", "torch")


@pytest.fixture(scope="module", params=CONTAINERS)
def backend(request, tmp_path_factory) -> Container:
    """Every container in turn."""
    return _container(request.param, tmp_path_factory.mktemp("backend"))


@pytest.fixture(scope="module", params=HOST)
def host_backend(request, tmp_path_factory) -> Container:
    """The containers whose blocks are NumPy arrays, so that bits can be compared."""
    return _container(request.param, tmp_path_factory.mktemp("backend"))


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
