"""The backend protocol and the registry of backends.

A backend is the adapter of one array library, and the only code that names it. Adapters are found by the entry
point group ``ooclearn.backends``; those in this distribution are registered exactly as a stranger's would be.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from ooclearn._forking import in_a_child
from ooclearn.exceptions import BackendError, OoclearnWarning, warn
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.blocks import Blocks
    from ooclearn.events import Work
    from ooclearn.rowmaps import RowMap
    from ooclearn.statistics.protocol import Statistic
    from ooclearn.table import Rows, Table

__all__ = ["Backend", "backend_of", "backends", "get_backend", "owner_of", "register"]

T = TypeVar("T")
GROUP = "ooclearn.backends"

# Names that are tried for a GPU.
_MEANT = ("cuda", "gpu", "nvidia")


class Backend(Protocol):
    """What an adapter does: cut, fold, stream, map, and move blocks to the host and back."""

    name: str
    generic: bool  # asked last, after every backend that knows its library by name

    def owns(self, x: object, /) -> bool:
        """Say whether `x` is a container or a block of this library, by its type, importing nothing."""

    def blocks(self, x: Any, /, *, name: str | None = None) -> Blocks:
        """Return the container, cut into row blocks, without reading it."""

    def adopt(self, blocks: Blocks, /) -> Any:
        """Return host `blocks` as a lazy container that this backend works on."""

    def fold(self, table: Table, statistic: Statistic[Any], /, *, work: Work) -> Any:
        """Read the table once; return the state of `statistic`, merged in block order in a fixed tree."""

    def stream(
        self,
        table: Table,
        groups: Sequence[Sequence[int]],
        function: Callable[[int, Rows], T],
        /,
        *,
        ahead: int,
        work: Work,
    ) -> Iterator[T]:
        """Yield ``function(i, rows)`` for each group of blocks, in order, at most `ahead` groups early.

        The rows of a group are those of its blocks, one block after the other. `function` runs in a worker.
        """

    def map(self, row_map: RowMap, x: Any, /) -> Any:
        """Apply `row_map` to a container: the same kind of container comes out, as lazy as it was."""

    def to_host(self, block: Array, /) -> np.ndarray[Any, Any]:
        """Copy one block to host memory, if it is not there."""

    def from_host(self, values: Array, /, *, like: Array | None = None) -> Array:
        """Copy host values to the library and device of the block `like`."""


_lock = threading.Lock()
_registered: dict[str, Backend] | None = None


@in_a_child
def _nobody_loads() -> None:
    """Let go of the lock: the thread that held it is not there in a child of ``fork``."""
    global _lock
    _lock = threading.Lock()


def backends() -> dict[str, Backend]:
    """Return the installed backends by name, those that know a library before the general ones."""
    global _registered
    if _registered is None:
        with _lock:
            if _registered is None:
                found: dict[str, Backend] = {}
                for point in entry_points(group=GROUP):
                    loaded = _loaded(point)
                    if loaded is not None:
                        found.setdefault(point.name, loaded)
                _registered = _ordered(found)
    return _registered


def _loaded(point: EntryPoint) -> Backend | None:
    """Return the backend of an entry point; one that is broken must not keep the others from working."""
    try:
        backend: Backend = point.load()
    except Exception as error:  # noqa: BLE001  (importing a stranger's module may raise anything)
        package = point.dist.name if point.dist is not None else point.value
        warn(
            f"the backend {point.name!r} of the package {package} cannot be loaded ({type(error).__name__}: {error}); "
            "arrays of its library are not understood. Repair or remove that package",
            OoclearnWarning,
        )
        return None
    return backend


def _ordered(found: dict[str, Backend]) -> dict[str, Backend]:
    # NumPy is asked first, since nearly every block is its; general backends last.
    return dict(sorted(found.items(), key=lambda item: (item[1].generic, item[0] != "numpy", item[0])))


def register(backend: Backend, /) -> None:
    """Add a backend for this process, or put another in the place of one of that name."""
    global _registered
    found = dict(backends())
    found[backend.name] = backend
    with _lock:
        _registered = _ordered(found)


def get_backend(name: str, /) -> Backend:
    """Return the backend of that name.

    Raises
    ------
    BackendError
        No backend of that name is installed.
    """
    try:
        return backends()[name]
    except KeyError:
        instead = ", the one for GPUs is 'cupy'" if name.lower() in _MEANT else ""
        raise BackendError(_missing(f"there is no backend named {name!r}{instead}")) from None


def owner_of(x: object, /) -> Backend | None:
    """Return the backend that owns `x`, or None."""
    for backend in backends().values():
        if backend.owns(x):
            return backend
    return None


def backend_of(x: object, /) -> Backend:
    """Return the backend that owns `x`.

    Raises
    ------
    BackendError
        No installed backend owns a container of this type.
    """
    backend = owner_of(x)
    if backend is None:
        kind = f"{type(x).__module__}.{type(x).__qualname__}"
        raise BackendError(_missing(f"no backend owns a {kind}"))
    return backend


def _missing(what: str) -> str:
    names = ", ".join(backends()) or "none"
    return (
        f"{what}; installed are: {names}. Install ooclearn itself (pip install ooclearn), or the package of the backend"
    )
