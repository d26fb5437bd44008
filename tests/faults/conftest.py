"""Bad input and faults: what every test of this folder may ask for."""

from __future__ import annotations

import pickle
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from sklearn import preprocessing as sk
from sklearn.linear_model import SGDClassifier

import ooclearn
from ooclearn import Incremental
from ooclearn.backend import owner_of
from ooclearn.exceptions import DataError
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler

# Dask keeps the threads of its own scheduler for the life of the process.
POOLS = ("ThreadPoolExecutor", "Dask")


@dataclass(frozen=True)
class Container:
    """One kind of container, cut into blocks of about so many rows; made of NumPy values by calling it."""

    name: str
    folder: Path
    rows: int = 100

    def __call__(self, values: Any, name: str = "X", rows: int | None = None) -> Any:
        values = np.asarray(values)
        rows = rows or self.rows
        if self.name == "numpy":
            return values
        if self.name == "strict":
            import array_api_strict as xp

            return xp.asarray(np.array(values))
        if self.name == "dask":
            import dask.array as da

            return da.from_array(np.array(values), chunks=(uneven(len(values), rows), *values.shape[1:]))
        path = self.folder / f"{name}.npy"
        np.save(path, values)
        if self.name == "memmap":
            return np.load(path, mmap_mode="r")
        return ooclearn.scan(path, block_rows=rows)

    def source(self, name: str = "X") -> str:
        """Return what messages call a container of that name."""
        return name if self.name in {"numpy", "dask", "strict"} else str(self.folder / f"{name}.npy")

    def inside(self, name: str = "X") -> str:
        """Return how messages begin to say where in a container of that name."""
        return f"(in {self.source(name)}"

    def weights(self) -> str:
        """Return what messages call weights that lie in w.npy or nowhere."""
        return self.inside("w") if self.name in {"memmap", "scan"} else "(in sample_weight"

    @staticmethod
    def block_of(x: Any, row: int) -> int:
        """Return the number of the block of a container that a row lies in."""
        owner = owner_of(x)
        assert owner is not None
        starts = owner.blocks(x).starts()
        return max(i for i, start in enumerate(starts[:-1]) if start <= row)


def uneven(n: int, rows: int) -> tuple[int, ...]:
    """Return chunks of about so many rows, none like the one before it."""
    lengths: list[int] = []
    while (left := n - sum(lengths)) > 0:
        lengths.append(min(left, rows + (7 if len(lengths) % 2 else -9)))
    return tuple(lengths) or (0,)


@pytest.fixture(autouse=True)
def _small_blocks():
    """Cut arrays and files into blocks of about a hundred rows of five numbers."""
    # Not a context, which belongs to one thread; the fixture of all tests puts the configuration back.
    ooclearn.set_config(block_bytes=100 * 5 * 8)


HOST = ("numpy", "memmap", "scan", "dask")


@pytest.fixture(params=HOST)
def container(request, tmp_path) -> Container:
    """NumPy arrays, memory maps, scans of .npy files and Dask arrays."""
    return Container(request.param, tmp_path)


@pytest.fixture(params=(*HOST, "strict"))
def any_container(request, tmp_path) -> Container:
    """These, and arrays of the array API standard, which estimators that scikit-learn wrote cannot be fed."""
    return Container(request.param, tmp_path)


@pytest.fixture(params=("memmap", "scan"))
def file_container(request, tmp_path) -> Container:
    """The two ways to a .npy file."""
    return Container(request.param, tmp_path)


@pytest.fixture
def containers(tmp_path) -> Callable[[str], Container]:
    """Return the container of a name."""
    return lambda name: Container(name, tmp_path)


@pytest.fixture
def X() -> np.ndarray:  # noqa: N802  (a table is X in every test)
    """A thousand rows of five columns."""
    values = np.random.default_rng(0).normal(0.5, 1.0, (1000, 5))
    values.flags.writeable = False
    return values


@pytest.fixture
def y(X) -> np.ndarray:
    """Two classes."""
    values = (X @ [1.0, -1.0, 0.5, 0.0, 0.0] > 0.3).astype(np.int64)
    values.flags.writeable = False
    return values


def sgd(**params: Any) -> Incremental:
    """Return a classifier that is fed."""
    return Incremental(SGDClassifier(random_state=0), **params)


TRAINED: dict[str, Callable[[], Any]] = {
    "incremental": sgd,
    "in order": lambda: Incremental(SGDClassifier(random_state=0, shuffle=False)),
    "pipeline": lambda: make_pipeline(StandardScaler(), sgd()),
}
SCALERS: dict[str, Callable[[], Any]] = {
    "StandardScaler": StandardScaler,
    "MinMaxScaler": MinMaxScaler,
    "MaxAbsScaler": MaxAbsScaler,
}


@pytest.fixture(params=TRAINED)
def trained(request) -> Any:
    """Estimators that train on X and y."""
    return TRAINED[request.param]()


@pytest.fixture(params=SCALERS)
def scaler(request) -> Any:
    """Estimators that are fitted on X alone."""
    return SCALERS[request.param]()


PAIRS = {
    "StandardScaler": (StandardScaler, sk.StandardScaler),
    "MinMaxScaler": (MinMaxScaler, sk.MinMaxScaler),
    "MaxAbsScaler": (MaxAbsScaler, sk.MaxAbsScaler),
}


@pytest.fixture(params=PAIRS)
def pair(request) -> Any:
    """A scaler of ours and its counterpart."""
    return PAIRS[request.param]


def bits(thing: Any) -> Any:
    """Return everything that an object holds, down to the bytes, in a form that can be compared."""
    if isinstance(thing, np.ndarray) and not thing.dtype.hasobject:
        return thing.dtype.str, thing.shape, thing.tobytes()
    if isinstance(thing, dict):
        return {key: bits(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)) or (isinstance(thing, np.ndarray) and thing.dtype.hasobject):
        return type(thing).__name__, [bits(one) for one in thing]
    if isinstance(thing, np.random.RandomState):
        return bits(thing.get_state())
    if hasattr(thing, "__dict__") and not isinstance(thing, type) and not callable(thing):
        return type(thing).__name__, bits(vars(thing))
    return pickle.dumps(thing)


@pytest.fixture(name="bits")
def _bits() -> Callable[[Any], Any]:
    return bits


def opened() -> set[tuple[int, str]]:
    """Return the open files; without how far they are read, since the tests' own log grows meanwhile."""
    return {(one.fd, one.path) for one in psutil.Process().open_files()}


@contextmanager
def refused(
    estimator: Any, *says: str, error: type[BaseException] = DataError, never: tuple[str, ...] = ()
) -> Iterator[pytest.ExceptionInfo]:
    """Check that the body is refused in these words, with nothing half done.

    The message holds each of the texts `says` (as a word of its own, if it is a number) and none of `never`; the
    estimator is the same as before to the last bit; no thread and no open file is left.
    """
    before = bits(estimator)
    threads, files = set(threading.enumerate()), opened()
    with pytest.raises(error) as caught:
        yield caught
    for left in (set(threading.enumerate()) - threads, opened() - files):
        left -= {one for one in left if isinstance(one, threading.Thread) and one.name.startswith(POOLS)}
        assert not left, f"left behind: {left}"
    message = str(caught.value)
    for text in says:
        pattern = rf"(?<![\d.]){text}(?![\d.]*\d)" if text.isdigit() else re.escape(text)
        assert re.search(pattern, message), f"{text!r} is not in: {message}"
    for text in never:
        assert text not in message
    assert len(message) < 1000, message
    assert bits(estimator) == before, f"{estimator} is not as it was"


@pytest.fixture(name="refused")
def _refused() -> Any:
    return refused


@pytest.fixture
def same() -> Callable[[Any, Any], None]:
    """Return a function that checks that two estimators have learned the same, to the last bit."""

    def check(a: Any, b: Any) -> None:
        assert type(a) is type(b)
        assert bits(learned(a)) == bits(learned(b))

    return check


def learned(estimator: Any) -> Any:
    """Return the fitted attributes of an estimator, and of those inside it."""
    if hasattr(estimator, "steps"):
        return [learned(step) for _, step in estimator.steps]
    if isinstance(estimator, Incremental):
        return learned(estimator.estimator_)
    return {name: value for name, value in vars(estimator).items() if name.endswith("_")}
