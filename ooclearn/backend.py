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
    """What the adapter of an array library does: cut, fold, stream, map, and copy blocks to the host and back.

    Attributes
    ----------
    name : str
        What it is registered and configured by.
    generic : bool
        Whether it is asked last, after every backend that knows its library by name.
    """

    name: str
    generic: bool  # asked last, after every backend that knows its library by name

    def owns(self, x: object, /) -> bool:
        """Say whether an object is a container or a block of this library, by its type, importing nothing.

        Parameters
        ----------
        x : object
            Anything.

        Returns
        -------
        bool
            Whether the other verbs take it.
        """

    def blocks(self, x: Any, /, *, name: str | None = None) -> Blocks:
        """Return a container, cut into row blocks, without reading it.

        Parameters
        ----------
        x : container
            One that this backend owns.
        name : str, optional
            What messages call it.

        Returns
        -------
        Blocks
            Its rows.
        """

    def adopt(self, blocks: Blocks, /) -> Any:
        """Return blocks of the host as a lazy container that this backend works on.

        Parameters
        ----------
        blocks : Blocks
            Of host arrays; not read.

        Returns
        -------
        container
            One that this backend owns, or Blocks of its arrays.
        """

    def fold(self, table: Table, statistic: Statistic[Any], /, *, work: Work) -> Any:
        """Read a table once and return the state of a statistic.

        Parameters
        ----------
        table : Table
            X, y and weights.
        statistic : Statistic
            What is asked.
        work : Work
            The pass, for those who watch it.

        Returns
        -------
        state
            Merged in block order in the tree of :class:`ooclearn.statistics.MergeTree`, whoever finished first.
        """

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
        """Yield what a function returns for groups of blocks, in order.

        Parameters
        ----------
        table : Table
            X, y and weights.
        groups : sequence of sequence of int
            Numbers of the blocks of each group; its rows are theirs, one block after the other.
        function : callable
            Takes the number of the group and its :class:`~ooclearn.table.Rows`; runs in a worker.
        ahead : int
            How many groups are worked on early, at most: the memory is that of so many.
        work : Work
            The pass, for those who watch it.

        Yields
        ------
        object
            The result for the next group.
        """

    def map(self, row_map: RowMap, x: Any, /) -> Any:
        """Apply a row map to a container.

        Parameters
        ----------
        row_map : RowMap
            What is done to the rows of a block.
        x : container
            One that this backend owns.

        Returns
        -------
        container
            Of the same kind, as lazy as `x` was.
        """

    def to_host(self, block: Array, /) -> np.ndarray[Any, Any]:
        """Copy one block to host memory, if it is not there.

        Parameters
        ----------
        block : array
            Of this library.

        Returns
        -------
        ndarray
            The block itself, or a view of it, where it lies on the host. The caller does not write to it.
        """

    def from_host(self, values: Array, /, *, like: Array | None = None) -> Array:
        """Copy host values to this library.

        Parameters
        ----------
        values : array
            NumPy's.
        like : array, optional
            A block whose device they are copied to; the default device without it.

        Returns
        -------
        array
            Of this library, of the same shape.
        """


_lock = threading.Lock()
_registered: dict[str, Backend] | None = None


@in_a_child
def _nobody_loads() -> None:
    """Let go of the lock: the thread that held it is not there in a child of ``fork``."""
    global _lock
    _lock = threading.Lock()


def backends() -> dict[str, Backend]:
    """Return the installed backends, those that know one library before the general ones.

    Returns
    -------
    dict of str to Backend
        By name; NumPy's is the first.
    """
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
    """Add a backend for this process, or put another in the place of one of that name.

    Parameters
    ----------
    backend : Backend
        Known by its ``name`` from now on, and asked before the general backends unless it is one.
    """
    global _registered
    found = dict(backends())
    found[backend.name] = backend
    with _lock:
        _registered = _ordered(found)


def get_backend(name: str, /) -> Backend:
    """Return the backend of that name.

    Parameters
    ----------
    name : str
        Such as ``"numpy"``, ``"dask"``, ``"cupy"`` or ``"array_api"``.

    Returns
    -------
    Backend
        The adapter.

    Raises
    ------
    BackendError
        No backend of that name is installed.

    Examples
    --------
    >>> from ooclearn.backend import get_backend
    >>> get_backend("numpy").name
    'numpy'
    """
    try:
        return backends()[name]
    except KeyError:
        instead = ", the one for GPUs is 'cupy'" if name.lower() in _MEANT else ""
        raise BackendError(_missing(f"there is no backend named {name!r}{instead}")) from None


def owner_of(x: object, /) -> Backend | None:
    """Return the backend that owns a container or block, if any does.

    Parameters
    ----------
    x : object
        Judged by its type; not read.

    Returns
    -------
    Backend or None
        None if no installed backend knows the type.
    """
    for backend in backends().values():
        if backend.owns(x):
            return backend
    return None


def backend_of(x: object, /) -> Backend:
    """Return the backend that owns `x`.

    Parameters
    ----------
    x : object
        A container or a block; judged by its type, not read.

    Returns
    -------
    Backend
        The adapter.

    Raises
    ------
    BackendError
        No installed backend owns a container of this type.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.backend import backend_of
    >>> backend_of(np.ones(3)).name
    'numpy'
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
