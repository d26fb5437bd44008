"""Blocks: a re-readable sequence of row blocks. Lazy, immutable; a mapped ``Blocks`` is a ``Blocks``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ooclearn._namespace import namespace, run_of
from ooclearn.backend import Backend, get_backend
from ooclearn.config import get_config
from ooclearn.events import Work
from ooclearn.exceptions import BlockMemoryError, DataError
from ooclearn.not_arrays import ARRAY_NAMES, NoSubscript, no_attribute, warn_of_reading_whole
from ooclearn.rowmaps import RowMap
from ooclearn.types import Array

if TYPE_CHECKING:
    import os

__all__ = ["Blocks", "Buffered", "concatenated"]

Buffered = Callable[[tuple[int, ...], "np.dtype[Any]"], Array]


class Blocks:
    """A re-readable sequence of row blocks; made by :func:`ooclearn.scan`.

    Nothing is read until a fit, a result file or ``np.asarray`` asks for it. Blocks never change: every
    method returns new ones.

    Attributes
    ----------
    name : str
        Where the rows come from, for messages.
    shape : tuple
        Rows (None where only reading tells) and columns.
    dtype : dtype
        Of the elements.
    lengths : tuple of int or None
        Rows of each block; None where only reading tells.
    n_blocks : int
        How many blocks there are.
    names : ndarray of str or None
        Names of the columns.
    sparse : bool
        Whether the rows are known to be sparse before they are read.

    Examples
    --------
    >>> import numpy as np
    >>> import ooclearn
    >>> X = ooclearn.scan(np.arange(12.0).reshape(6, 2), block_rows=4)
    >>> X.lengths, X.shape
    ((4, 2), (6, 2))
    >>> [len(block) for block in X]
    [4, 2]
    >>> X.to_numpy()[-1]
    array([10., 11.])
    """

    name: str
    shape: tuple[Any, ...]
    dtype: np.dtype[Any]
    lengths: tuple[int, ...] | None
    n_blocks: int
    names: Array | None = None
    backend_name: str = "numpy"
    sparse: bool = False

    # What a subclass gives.

    def read(self, i: int, /) -> Array:
        """Read one block.

        Parameters
        ----------
        i : int
            Its number, from 0.

        Returns
        -------
        array of shape (n_rows, ...)
            The rows, in an array of the backend's library that the caller may keep.

        Raises
        ------
        DataError
            The source has changed since it was scanned, or the rows are not of the declared shape and dtype.
        ReadError
            The system could not read them, though it was asked again.
        """
        raise NotImplementedError(f"{type(self).__name__} must define read")  # a subclass's duty, not a path

    def recut(self, lengths: Sequence[int], /) -> Blocks:
        """Return the same rows in blocks of other lengths; nothing is read, if the number of rows is known.

        Parameters
        ----------
        lengths : sequence of int
            Rows of each new block; together all rows.

        Returns
        -------
        Blocks
            The rows, cut anew.
        """
        raise NotImplementedError(f"{type(self).__name__} must define recut")  # a subclass's duty, not a path

    def map(self, row_map: RowMap, /) -> Blocks:
        """Return blocks to which a row map is applied when they are read.

        Parameters
        ----------
        row_map : RowMap
            What is done to the rows of a block, such as :class:`ooclearn.rowmaps.Affine`.

        Returns
        -------
        Blocks
            As many rows; nothing is read or computed until they are.
        """
        from ooclearn.mapped import MappedBlocks  # it builds on this module

        return MappedBlocks(self, row_map)

    # What follows from it.

    @property
    def backend(self) -> Backend:
        """The adapter that works on these blocks."""
        return get_backend(self.backend_name)

    @property
    def n_rows(self) -> int | None:
        """How many rows there are; None where only reading tells."""
        return cast("int | None", self.shape[0])

    @property
    def n_columns(self) -> int | None:
        """How many columns there are; None for one-dimensional blocks."""
        return self.shape[1] if len(self.shape) > 1 else None

    @property
    def ndim(self) -> int:
        """Number of dimensions of a block."""
        return len(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row; for sparse rows, on average."""
        known = getattr(getattr(self, "source", None), "row_bytes", None)
        return known if known is not None else int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    @property
    def nbytes(self) -> int | None:
        """Bytes of all rows; None where only reading tells."""
        return None if self.n_rows is None else self.n_rows * self.row_bytes

    @property
    def cuttable(self) -> bool:
        """Whether cutting elsewhere costs nothing."""
        return False

    def starts(self) -> list[int]:
        """Return the first row of each block, counted over the whole, and the total at the end.

        Returns
        -------
        list of int
            ``n_blocks + 1`` numbers; ``[0]`` where the lengths are not known.
        """
        return [0, *accumulate(self.lengths or ())]

    def tiles(self, i: int, rows: int, /) -> Iterator[Array]:
        """Yield one block in runs of a few rows, which fit the processor's cache.

        Parameters
        ----------
        i : int
            Number of the block.
        rows : int
            Rows of a run, at most.

        Yields
        ------
        array
            Each is lent until the next is asked for; a block without rows gives one run without rows.
        """
        block = self.read(i)
        n = block.shape[0]
        for start in range(0, n, rows) if n else (0,):
            yield block if n <= rows else run_of(block, start, min(start + rows, n))

    def gather(self, group: Sequence[int], buffered: Buffered | None = None, /) -> Array:  # noqa: ARG002  (a subclass uses it)
        """Return the rows of several blocks as one array.

        Parameters
        ----------
        group : sequence of int
            Numbers of the blocks, in the order wanted.
        buffered : callable, optional
            Takes a shape and a dtype, returns an array to fill and return; without it a new array is made.

        Returns
        -------
        array
            The rows, one block after the other.
        """
        blocks = [self.read(i) for i in group]
        return blocks[0] if len(blocks) == 1 else concatenated(blocks)

    def expect(self, group: Sequence[int], /) -> None:
        """Announce that some blocks are read soon, so that what is slow to come can be sent for.

        Parameters
        ----------
        group : sequence of int
            Numbers of the blocks.
        """

    def counted(self, purpose: str, /) -> Blocks:  # noqa: ARG002  (a subclass uses it)
        """Return the same rows with known lengths; where only reading tells, one pass counts them, with a warning.

        Parameters
        ----------
        purpose : str
            What the lengths are needed for; the warning says it.

        Returns
        -------
        Blocks
            These blocks themselves where the lengths are known.
        """
        return self

    def align(self, role: str, part: Blocks, /) -> Blocks:
        """Return `y` or weights cut where these blocks are cut.

        Parameters
        ----------
        role : str
            What `part` is, for messages: ``"y"`` or ``"sample_weight"``.
        part : Blocks
            One entry for each row of these.

        Returns
        -------
        Blocks
            The entries of `part`, in blocks of these lengths.

        Raises
        ------
        DataError
            There are not as many entries as rows.
        """
        if part.n_rows is None:
            part = part.counted(f"putting {role} beside X")
        if part.n_rows != self.n_rows:
            raise DataError(
                f"X has {self.n_rows} rows and {role} has {part.n_rows}; there must be one entry for each row",
                source=part.name,
            )
        assert self.lengths is not None
        return part if part.lengths == self.lengths else part.recut(self.lengths)

    def name_at(self, row: int, /) -> str:  # noqa: ARG002  (a subclass uses it)
        """Return the name of the file that a row lies in, for messages.

        Parameters
        ----------
        row : int
            Number of the row, counted over the whole.

        Returns
        -------
        str
            `name`, where the rows come from one place.
        """
        return self.name

    def release(self) -> None:
        """Let go of what a pass has opened or kept; called at the end of each, also of one that failed."""

    def held(self, beside: Sequence[Blocks]) -> AbstractContextManager[None]:  # noqa: ARG002  (a subclass uses it)
        """Keep what later passes can use again, such as rows on a device, for the length of a ``with`` block.

        Parameters
        ----------
        beside : sequence of Blocks
            What is read with these rows: targets and weights.

        Returns
        -------
        context manager
            It lets go of all at its end.
        """
        return nullcontext()

    def on_host(self) -> Blocks:
        """Return the rows where they are read, if that is the host and they are copied to a device from there.

        Returns
        -------
        Blocks
            These themselves where nothing is copied to a device.
        """
        return self

    def returned(self, mapped: Blocks | None = None, /) -> Blocks:
        """Return blocks whose rows come to the host in the shortest way.

        Parameters
        ----------
        mapped : Blocks, optional
            What has been made of these by maps; by default these themselves.

        Returns
        -------
        Blocks
            The rows of `mapped`.
        """
        return self if mapped is None else mapped

    def bring(self, put: Callable[[Sequence[int], int, Array], None], /, *, work: Work) -> bool:  # noqa: ARG002  (a subclass uses it)
        """Hand all rows to a function, from several threads and in any order, if these blocks can do so.

        Parameters
        ----------
        put : callable
            Called as ``put(blocks, first_row, rows)``: the numbers of some blocks, their first row, a host array.
        work : Work
            The pass, for those who watch it.

        Returns
        -------
        bool
            False, and nothing done, if there is no better way than one block after the other.
        """
        return False

    def on(self, backend: str, /) -> Any:
        """Return these rows as a lazy container of another backend.

        Parameters
        ----------
        backend : str
            Name of an installed backend, such as ``"dask"`` or ``"cupy"``.

        Returns
        -------
        container
            What that backend works on: a Dask array, or Blocks whose rows are copied to the GPU when they are read.

        Raises
        ------
        BackendError
            No backend of that name is installed, or its library is not.
        ValueError
            The name stands for many libraries: ``"array_api"``.
        """
        return get_backend(backend).adopt(self)

    def to_dask(self) -> Any:
        """Return a Dask array of one chunk a block, whose tasks read the block when they run.

        ``dask.array.from_array(memmap)`` copies the file into the graph; this does not.

        Returns
        -------
        dask.array.Array
            Of this shape and dtype.

        Raises
        ------
        BackendError
            Dask is not installed.
        """
        return self.on("dask")

    def to_npy(self, path: str | os.PathLike[str], /) -> None:
        """Compute all blocks in parallel and write them to one ``.npy`` file.

        The file appears under its name when it is whole. Free space is checked first. One pass, memory for a
        few blocks.

        Parameters
        ----------
        path : path-like
            Where to; a file there is replaced.

        Raises
        ------
        OSError
            There is not enough free space (checked before anything is computed), or a write failed.
        DataError
            The dtype cannot be stored without pickling.
        """
        from ooclearn.storage.npy import write_npy  # storage is above blocks

        write_npy(self, path)

    def to_numpy(self) -> np.ndarray[Any, Any]:
        """Read all blocks into one NumPy array, sparse rows made dense, in one pass.

        Returns
        -------
        ndarray
            Of this shape and dtype.

        Raises
        ------
        BlockMemoryError
            It would be larger than the ``memory_limit`` of the configuration; nothing has been read.
        """
        limit = get_config()["memory_limit"]
        row_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        if limit is not None and self.n_rows is not None and self.n_rows * row_bytes > limit:
            raise BlockMemoryError(
                f"{self.name} as one array takes {self.n_rows * row_bytes:,} bytes, memory_limit is {limit:,}; "
                "work by blocks, write it with to_npy, or raise the limit"
            )
        return self.whole()

    def whole(self) -> np.ndarray[Any, Any]:
        """Read all blocks into one NumPy array, whatever memory that takes; see :meth:`to_numpy`.

        Returns
        -------
        ndarray
            Of this shape and dtype.
        """
        blocks = self.returned()
        to_host = _dense_on_host(blocks.backend)
        if self.lengths is None or self.dtype.hasobject:
            return cast("np.ndarray[Any, Any]", concatenated([to_host(blocks.read(i)) for i in range(self.n_blocks)]))
        out = np.empty(self.shape, dtype=self.dtype)

        def put(_: Sequence[int], start: int, rows: Array) -> None:
            out[start : start + len(rows)] = rows

        if blocks.bring(put, work=Work("map", f"read {self.name}", self.n_rows, self.nbytes, self.n_blocks)):
            return out
        for i, start in enumerate(self.starts()[:-1]):
            out[start : start + self.lengths[i]] = to_host(blocks.read(i))
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if copy is False:
            raise ValueError("Blocks become an array only by copying; do not pass copy=False")
        warn_of_reading_whole(self)
        out = self.to_numpy()
        return out if dtype is None else out.astype(dtype, copy=False)

    if not TYPE_CHECKING:  # these are not there

        def __getattr__(self, name: str) -> Any:
            if name in ARRAY_NAMES:
                raise no_attribute(self, name)
            return object.__getattribute__(self, name)

        __getitem__ = NoSubscript()

    def __len__(self) -> int:
        if self.n_rows is None:
            raise TypeError(f"the number of rows of {self.name} is known only after reading it")
        return self.n_rows

    def __iter__(self) -> Iterator[Array]:
        return (self.read(i) for i in range(self.n_blocks))

    def __eq__(self, other: object) -> bool:
        # By default two Blocks that are not one object are unlike, and `np.mean(predictions == y)` is 0.0 without a word.
        if other is self or other is None:
            return other is self
        if hasattr(other, "__array__") and not isinstance(other, Blocks):
            return NotImplemented  # an array compares cell by cell, and reads these blocks
        raise TypeError(
            "Blocks are not compared cell by cell; take arrays, np.asarray(a) == np.asarray(b), or a model's score, "
            "which reads by blocks"
        )

    __hash__ = object.__hash__

    def _size(self) -> str:
        rows = "?" if self.n_rows is None else f"{self.n_rows:,}"
        shape = " x ".join([rows, *(f"{n:,}" for n in self.shape[1:])])
        size = "" if self.nbytes is None else f", {self.nbytes / 1e9:.3g} GB"
        return f"{shape} {self.dtype}{size}, {self.n_blocks:,} block{'s' if self.n_blocks != 1 else ''}"

    def __repr__(self) -> str:
        return f"Blocks({self.name!r}: {self._size()})"


def _dense_on_host(backend: Backend) -> Callable[[Array], Array]:
    """Return what copies a block to the host as a dense array."""

    def dense(block: Array) -> Array:
        block = backend.to_host(block)
        return block.toarray() if hasattr(block, "tocsr") else block

    return dense


def concatenated(blocks: Sequence[Array], /) -> Array:
    """Return blocks, NumPy's, SciPy's sparse or the array API's, one after the other."""
    first = blocks[0]
    if isinstance(first, np.ndarray):
        return np.concatenate(blocks)
    if hasattr(first, "tocsr"):
        from scipy.sparse import vstack  # imported with the first sparse block, not with the library

        return vstack(blocks, format="csr")
    return namespace(first).concat(list(blocks))
