"""Arrays in memory, and memory maps, as sources of rows."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ooclearn._namespace import run_of
from ooclearn.exceptions import DataError, SourceChangedError
from ooclearn.storage.npy import FileSource, open_npy
from ooclearn.types import Array

__all__ = ["ArraySource", "common_dtype", "converted", "host_dtype", "map_source", "stored_bytes"]


class ArraySource:
    """An array of any library in memory: reading is slicing, and copies nothing."""

    in_memory = True

    def __init__(self, array: Array, *, name: str = "array") -> None:
        self.array = array
        self.name = name
        self.shape = tuple(array.shape)
        self.dtype = host_dtype(array)
        self.row_bytes = None
        self.sparse = hasattr(array, "tocsr")
        if self.sparse:
            self.row_bytes = max(1, stored_bytes(array) // max(1, array.shape[0]))

    def read(self, start: int, stop: int, /, out: Array | None = None) -> Array:  # noqa: ARG002  (nothing to fill)
        """Return rows `start` to `stop`, a view."""
        if start == 0 and stop == self.shape[0]:
            return self.array
        return run_of(self.array, start, stop)


class MapSource:
    """A memory map whose file cannot be read instead (of changes kept private, say): rows are copied out of it.

    The size of the file is looked at before each run of rows, since touching a page that the file has lost would
    kill the process. A file that shrinks in the instant between cannot be guarded against.
    """

    in_memory = False

    def __init__(self, array: np.memmap[Any, Any], *, name: str) -> None:
        self.array = array
        self.name = name
        self.shape = array.shape
        self.dtype = array.dtype.newbyteorder("=")
        self._refuse_shrunk()

    def read(self, start: int, stop: int, /, out: Array | None = None) -> Array:
        """Return rows `start` to `stop`."""
        self._refuse_shrunk()
        rows = self.array[start:stop]
        if out is None:
            return np.array(rows, dtype=self.dtype, subok=False)
        out[...] = rows
        return out

    def _refuse_shrunk(self) -> None:
        size, needed = _mapped_size(self.array), _last_mapped(self.array)
        if size is not None and needed is not None and size < needed:
            raise SourceChangedError(
                f"the file has shrunk to {size:,} bytes since it was mapped, and its rows go up to {needed:,}; "
                "load it again",
                source=self.name,
            )


def stored_bytes(array: Array, /) -> int:
    """Return the bytes that an array takes in memory, of sparse rows what is stored."""
    if hasattr(array, "tocsr"):
        array = array.tocsr()
        return int(array.data.nbytes + array.indices.nbytes + array.indptr.nbytes)
    return int(getattr(array, "nbytes", 0))


def host_dtype(array: Array, /) -> np.dtype[Any]:
    """Return the NumPy dtype that matches the dtype of an array of any library."""
    out: np.dtype[Any]
    try:
        out = np.dtype(array.dtype)
    except TypeError:
        # array-api-strict and torch print their dtypes as "array_api_strict.float32" and "torch.float32".
        name = str(array.dtype).rpartition(".")[2]
        if not hasattr(np, name):
            raise DataError(
                f"got an array of {array.dtype}, which NumPy does not have; convert it, to float32 for example"
            ) from None
        out = np.dtype(name)
    if out.isbuiltin == 2:  # made by another package: what it means is not known, and NumPy has few functions for it
        raise DataError(f"got an array of {out}, which NumPy does not have; convert it, to float32 for example")
    return out


def common_dtype(dtypes: Iterable[np.dtype[Any]], /, *, source: str) -> np.dtype[Any]:
    """Return a dtype for values of all of these; numbers, text and dates do not go together."""
    found = sorted(set(dtypes), key=str)
    kinds = {"text" if dtype.kind in "SU" else "dates" if dtype.kind in "mM" else "numbers" for dtype in found}
    if len(kinds) > 1:
        raise DataError(
            f"blocks of the dtypes {', '.join(map(str, found))} cannot be one table: {' and '.join(sorted(kinds))} do not "
            "go together; make them all of one kind",
            source=source,
        )
    return np.result_type(*found)


# float64 holds every whole number up to here, and not every one beyond.
_EXACT = 2**53


def converted(rows: Array, dtype: np.dtype[Any], /) -> Array:
    """Return host rows, sparse ones too, in the dtype of the table that they are part of.

    Raises
    ------
    DataError
        A whole number would become another: blocks of 64-bit integers beside blocks of floats are one table of
        floats. With the first row concerned, counted within `rows`.
    """
    if rows.dtype == dtype:
        return rows
    values = rows.data if hasattr(rows, "tocsr") else rows
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and dtype.kind == "f" and values.size:
        low, high = int(values.min()), int(values.max())
        if low < -_EXACT or high > _EXACT:
            _refuse_altered(rows.toarray() if hasattr(rows, "tocsr") else rows, dtype)
    return rows.astype(dtype)


def _refuse_altered(rows: Array, dtype: np.dtype[Any]) -> None:
    # Not compared as floats: both would be rounded. The greatest of 64 bits round up to what these cannot hold.
    there = rows.astype(dtype)
    over = there >= float(2**63 if rows.dtype.kind == "i" else 2**64)
    altered = over | (np.where(over, 0, there).astype(rows.dtype) != rows)
    places = np.argwhere(altered)
    if len(places):
        row = int(places[0][0])
        raise DataError(
            f"whole numbers of dtype {rows.dtype} would be altered in a table of {dtype}, in {len(places):,} cells of the "
            f"{len(rows):,} rows that were looked at together; this is the first. Other parts of the table hold fractions: "
            "store these numbers as text or codes, or as float64 if they may be rounded",
            rows=(row, row + 1),
            column=int(places[0][1]) if rows.ndim > 1 else None,
        )


def map_source(array: np.memmap[Any, Any], /) -> FileSource | MapSource:
    """Return a source that reads the file under a memory map, or the map where that is not the same.

    Page faults read a cold file at a third of the speed of plain reads, and a file that shrinks kills the process.
    So the file is read where the rows are a shared view of it, whole or a part, of any strides that do not run
    backwards, and it was not replaced under its name by another.
    """
    name = str(array.filename) if array.filename is not None else "memmap"
    mapped = MapSource(array, name=name)
    if array is _root(array) and name.endswith(".npy"):
        _look_at_header(name)
    at = _place(array)
    if at is None or array.mode == "c" or array.dtype.hasobject or array.dtype.names is not None:
        return mapped
    try:
        source = FileSource(name, array.shape, array.dtype, at, array.strides)
        same = _is_mapped_file(mapped, source)
    except OSError:
        return mapped
    return source if same else mapped


def _look_at_header(name: str) -> None:
    """Say what :func:`ooclearn.scan` would say of the file: bytes after the array, Fortran order."""
    try:
        open_npy(name)
    except (OSError, DataError):
        return  # another file lies there now, or the array was mapped by hand


def _root(array: Array) -> np.memmap[Any, Any] | None:
    """Return the memory map that `array` is a view of, or is."""
    while array is not None and not isinstance(getattr(array, "base", None), mmap.mmap):
        array = getattr(array, "base", None)
    return array if isinstance(array, np.memmap) else None


def _place(array: np.memmap[Any, Any]) -> int | None:
    """Return where in its file the first element of `array` lies; None if that cannot be told, or rows run backwards."""
    root = _root(array)
    if root is None or root.filename is None or min(array.strides) < 0:
        return None
    within = array.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    return int(root.offset + within)


def _last_mapped(array: np.memmap[Any, Any]) -> int | None:
    """Return how long the file must be for every element of `array` to be in it."""
    root = _root(array)
    if root is None or array.size == 0:
        return None
    last = np.lib.array_utils.byte_bounds(array)[1] - root.__array_interface__["data"][0]
    return int(root.offset + last)


def _mapped_size(array: np.memmap[Any, Any]) -> int | None:
    """Return the size that the mapped file has now, whatever has its name."""
    root = _root(array)
    mapping: Any = None if root is None else root.base
    return None if mapping is None else int(mapping.size())


def _is_mapped_file(mapped: MapSource, source: FileSource) -> bool:
    """Say whether the file that has the name now is the one that was mapped."""
    stat = os.stat(source.path)
    if _mapped_size(mapped.array) != stat.st_size:
        return False
    inode = _mapped_inode(mapped.array)
    return _same_rows(mapped, source) if inode is None else inode == stat.st_ino


# What a mapping maps does not change, and asking takes a millisecond.
_inodes: WeakKeyDictionary[mmap.mmap, int | None] = WeakKeyDictionary()


def _mapped_inode(array: np.memmap[Any, Any]) -> int | None:
    """Return the inode of the mapped file; None where the system does not tell."""
    root = _root(array)
    assert root is not None
    mapping: Any = root.base
    if mapping not in _inodes:
        _inodes[mapping] = _inode_at(root.__array_interface__["data"][0])
    return _inodes[mapping]


def _inode_at(address: int) -> int | None:
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            for line in maps:
                start, _, stop = line.partition(" ")[0].partition("-")
                if int(start, 16) <= address < int(stop, 16):
                    return int(line.split(maxsplit=5)[4])
    except OSError:
        pass
    return None


def _same_rows(mapped: MapSource, source: FileSource) -> bool:
    """Compare some rows, where the system does not tell which file is mapped."""
    n = source.shape[0]
    rows = np.unique(np.linspace(0, n - 1, min(n, _COMPARED)).astype(np.int64)).tolist()
    with source.opened() as read:
        return all(read(row, row + 1).tobytes() == mapped.read(row, row + 1).tobytes() for row in rows)


# Rows that are compared to know whether the file under a name is still the mapped one.
_COMPARED = 16
