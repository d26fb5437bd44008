"""Dask arrays and data frames as Blocks: a chunk is a block."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import accumulate
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from ooclearn.blocks import Blocks, concatenated
from ooclearn.config import get_config
from ooclearn.exceptions import BlockMemoryError, DataError, PerformanceWarning, warn
from ooclearn.mapped import MappedBlocks
from ooclearn.rowmaps import RowMap
from ooclearn.sources import SourceBlocks
from ooclearn.storage.arrays import ArraySource
from ooclearn.types import Array
from ooclearn.workers import ordered
from ooclearn_backends._dask_graph import Graph, Groups, dask_array, new_name, optimized, scheduler_for
from ooclearn_backends._dask_tasks import (
    Cuts,
    Mapping,
    Promise,
    Settings,
    lengths_in,
    map_chunk,
    read_block,
    rows_of,
    values_of,
)

if TYPE_CHECKING:
    import os

__all__ = ["DaskBlocks", "lazily_read", "mapped_array", "promise_of"]

# Chunks are put together from so many on, if on average they are smaller than this share of a block: what
# Dask and we do for each then takes longer than what is done with its rows.
_MANY_CHUNKS = 512
_TINY_SHARE = 64


def meta_of(array: Any, ndim: int, dtype: np.dtype[Any]) -> Any:
    """Return an empty chunk of the library of `array`."""
    from dask.array.utils import meta_from_array

    return meta_from_array(array, ndim=ndim, dtype=dtype)


def lengths_of(array: Any, /) -> tuple[int, ...] | None:
    """Return the rows of each chunk, or None where only computing tells."""
    lengths = array.chunks[0]
    return None if any(isnan(length) for length in lengths) else tuple(int(length) for length in lengths)


def promise_of(blocks: Blocks, /) -> Promise:
    """Return what the chunks of `blocks` are to be."""
    cuts = None if blocks.lengths is None else Cuts(blocks.lengths)
    return Promise(blocks.name, blocks.shape[1:], blocks.dtype, cuts, blocks.names)


# Containers in.


def as_array(x: Any, /) -> tuple[Any, Array | None]:
    """Return a Dask array, data frame or series as a Dask array, and the names of its columns."""
    if hasattr(x, "chunks") and hasattr(x, "dtype"):
        return x, None
    names = names_of(x)
    dtype = _frame_dtype(x)
    da = dask_array()
    # Not `x.to_dask_array()`: what X and y have in common is one task here, and one dtype rules all parts.
    frame = x.optimize(fuse=False)
    if frame.npartitions != x.npartitions:
        # Parts of a Parquet file of which few columns are read were put together: y would be cut elsewhere than X.
        frame = x.simplify()
    name = new_name("values")
    row = () if x.ndim == 1 else (len(x.columns),)
    keys = list(frame.__dask_keys__())
    tasks = {(name, i, *(0 for _ in row)): (values_of, key, dtype) for i, key in enumerate(keys)}
    from dask.highlevelgraph import HighLevelGraph

    # Under a name of its own: Dask's `from_collections` takes the id() of the frame, which is gone at the end of this
    # function, and may be that of the frame of y.
    source = new_name("frame")
    layers = {source: dict(frame.__dask_graph__()), name: tasks}
    graph = HighLevelGraph(layers, {source: set(), name: {source}})
    chunks = ((np.nan,) * len(keys), *((n,) for n in row))
    return da.Array(graph, name, chunks, dtype=dtype), names


def names_of(x: Any, /) -> Array | None:
    """Return the names of the columns of a data frame if all are text, as scikit-learn has it."""
    columns = list(x.columns) if x.ndim == 2 else []
    if not columns or not all(isinstance(name, str) for name in columns):
        return None
    return np.asarray(columns, dtype=object)


def _frame_dtype(x: Any) -> np.dtype[Any]:
    """Return the one dtype that holds the columns of a data frame, or a series."""
    if x.ndim == 1:
        return _column_dtype(x.dtype)
    dtypes = {name: _column_dtype(dtype) for name, dtype in x.dtypes.items()}
    odd = [name for name, dtype in dtypes.items() if dtype.kind == "O"]
    if odd and len(odd) < len(dtypes):
        listed = ", ".join(f"{name!r} ({x.dtypes[name]})" for name in odd)
        raise DataError(
            f"could not convert string to float: columns {listed} are not numeric; "
            "select the numeric columns, or encode these first"
        )
    return np.result_type(*dtypes.values()) if dtypes else np.dtype(np.float64)


def _column_dtype(dtype: Any) -> np.dtype[Any]:
    if isinstance(dtype, np.dtype):
        return dtype if dtype.kind in "fiub" else np.dtype(object)
    # pandas' own numbers may be missing, which only floats can say.
    kind = getattr(dtype, "kind", "O")
    return np.dtype(np.float64) if kind in "fiub" else np.dtype(object)


def one_column_chunk(array: Any, name: str, /) -> Any:
    """Return `array` cut by rows alone."""
    if not array.ndim:
        raise DataError("Expected 2D array of rows and columns, got a Dask array of shape ()", source=name)
    pieces = max((len(chunks) for chunks in array.chunks[1:]), default=1)
    if pieces == 1:
        return array
    message = (
        f"the columns of {name} are split into {pieces} chunks, which are put together each time they are "
        "read; cut it by rows alone where it is made, or rechunk it: x.rechunk({1: -1})"
    )
    warn(message, PerformanceWarning)
    return array.rechunk(dict.fromkeys(range(1, array.ndim), -1))


def _coalesced(array: Any, name: str) -> Any:
    """Return `array` with thousands of tiny chunks put together into blocks."""
    lengths = lengths_of(array)
    n = array.numblocks[0]
    if lengths is None or n < _MANY_CHUNKS:
        return array
    row_bytes = max(1, int(np.prod(array.shape[1:], dtype=np.int64)) * array.dtype.itemsize)
    block_bytes = get_config()["block_bytes"]
    if sum(lengths) * row_bytes >= n * (block_bytes // _TINY_SHARE):
        return array
    # Where chunks begin, so that none is cut in two.
    most = max(1, block_bytes // row_bytes)
    together: list[int] = []
    for length in lengths:
        if together and together[-1] + length <= most:
            together[-1] += length
        else:
            together.append(length)
    message = (
        f"{name} has {n:,} chunks of {sum(lengths) * row_bytes // n:,} bytes on average; they are put "
        f"together into {len(together):,} blocks, but each still costs Dask a task. Cut it coarser where "
        "it is made"
    )
    warn(message, PerformanceWarning)
    return array.rechunk({0: tuple(together)})


class DaskBlocks(Blocks):
    """The chunks of a Dask array as Blocks; nothing is computed until they are read.

    Parameters
    ----------
    array : dask.array.Array
        Cut into chunks by rows alone.
    name : str
        For messages.
    names : ndarray of str, optional
        Names of the columns.
    """

    backend_name = "dask"

    def __init__(self, array: Any, *, name: str, names: Array | None = None) -> None:
        self.array = array
        self.name = name
        self.names = names
        self.lengths = lengths_of(array)
        self.n_blocks = array.numblocks[0]
        self.dtype = np.dtype(array.dtype)
        rows = None if self.lengths is None else sum(self.lengths)
        self.shape = (rows, *(int(n) for n in array.shape[1:]))
        self._lock = threading.Lock()
        self._graph: Graph | None = None
        self._counted: DaskBlocks | None = None

    @classmethod
    def of(cls, x: Any, *, name: str | None = None, coalesce: bool = True) -> DaskBlocks:
        """Return a Dask array, data frame or series as Blocks; columns and tiny chunks are put together."""
        dask_array()
        array, names = as_array(x)
        name = name or f"Dask {'array' if array is x else 'data frame' if x.ndim > 1 else 'series'}"
        array = one_column_chunk(array, name)
        return cls(_coalesced(array, name) if coalesce else array, name=name, names=names)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in {"_lock", "_graph"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()
        self._graph = None

    # Reading.

    def read(self, i: int, /) -> Array:
        """Compute block `i`."""
        with self._lock:
            if self._graph is None:
                self._graph = Graph([self.array])
        key = self._graph.keys[i]
        ((chunk,),) = scheduler_for(self.array).small(self._graph.part([key]), [key])
        return promise_of(self).kept(chunk, i)

    def to_npy(self, path: str | os.PathLike[str], /) -> None:
        """Compute all blocks in parallel and write them to one ``.npy`` file.

        As :meth:`ooclearn.Blocks.to_npy`. Where the number of rows is not known, all is computed twice.
        """
        with closing(_Sweep(self.counted("to_npy"))) as sweep:
            Blocks.to_npy(sweep, path)

    def to_numpy(self) -> np.ndarray[Any, Any]:
        """Compute all blocks into one NumPy array; refused where it is larger than ``memory_limit``."""
        limit = get_config()["memory_limit"]
        if limit is not None and self.nbytes is not None and self.nbytes > limit:
            raise BlockMemoryError(
                f"{self.name} as one array takes {self.nbytes:,} bytes, memory_limit is {limit:,}; "
                "work by blocks, write it with to_npy, or raise the limit"
            )
        with closing(_Sweep(self)) as sweep:
            return sweep.whole()

    # Cutting.

    def counted(self, purpose: str) -> DaskBlocks:
        """Return these blocks with known lengths, for which they are all computed once."""
        if self.lengths is not None:
            return self
        with self._lock:
            if self._counted is None:
                message = (
                    f"the chunk sizes of {self.name} are not known, and {purpose} needs them: all of it is "
                    "computed once to count rows. Call compute_chunk_sizes() yourself, once"
                )
                warn(message, PerformanceWarning)
                self._counted = self._count()
        return self._counted

    def _count(self) -> DaskBlocks:
        da = dask_array()
        ndim = self.array.ndim
        ones = ((1,) * self.n_blocks, *((1,) for _ in range(ndim - 1)))
        counts = da.map_blocks(
            rows_of,
            self.array,
            chunks=ones,
            dtype=np.int64,
            meta=np.empty((0,) * ndim, np.int64),
            name=new_name("count"),
        )
        # Not compute_chunk_sizes(), which changes the array that the user holds.
        tasks, keys = optimized(counts)
        name = new_name("counts")
        tasks[name] = (lengths_in, keys)
        lengths = scheduler_for(self.array).whole(tasks, name)
        array = da.Array(self.array.dask, self.array.name, (lengths, *self.array.chunks[1:]), meta=self.array)
        return DaskBlocks(array, name=self.name, names=self.names)

    def recut(self, lengths: Sequence[int], /) -> Blocks:
        """Return the same rows in blocks of these lengths."""
        blocks = self.counted("cutting it elsewhere")
        lengths = tuple(int(length) for length in lengths)
        if blocks.lengths == lengths:
            return blocks
        if sum(lengths) != blocks.n_rows:
            raise DataError(f"{sum(lengths)} rows asked of {blocks.n_rows}", source=self.name)
        return DaskBlocks(_rechunked(blocks.array, lengths), name=self.name, names=self.names)

    def align(self, role: str, part: Blocks, /) -> Blocks:
        """Return `part` (y or sample_weight) cut where these blocks are cut.

        Where lengths are not known but there are as many chunks, they are taken to be alike, and
        compared when they are computed. Else they are counted first.
        """
        lazy = isinstance(part, DaskBlocks)
        unknown = self.lengths is None or part.lengths is None
        if unknown and part.n_blocks == self.n_blocks and (lazy or self.n_blocks == 1):
            return part
        if isinstance(part, DaskBlocks) and part.lengths is None:
            part = part.counted(f"putting {role} beside X")
        if self.lengths is None:
            return self.counted(f"putting {role} beside it").align(role, part)
        return super().align(role, part)

    def map(self, row_map: RowMap, /) -> Blocks:
        """Return blocks to which `row_map` is applied when they are computed."""
        return DaskBlocks(mapped_array(row_map, self.array, promise_of(self)), name=self.name)


class _Sweep(Blocks):
    """Blocks that are read once, in order, several at a time; what they share is computed once."""

    backend_name = "dask"

    def __init__(self, blocks: DaskBlocks) -> None:
        self._promise = promise_of(blocks)
        self.name, self.shape, self.dtype = blocks.name, blocks.shape, blocks.dtype
        self.lengths, self.n_blocks, self.names = blocks.lengths, blocks.n_blocks, blocks.names
        self._scheduler = scheduler_for(blocks.array)
        each = [(i,) for i in range(blocks.n_blocks)]
        self._groups = Groups([blocks.array], each, self._scheduler, ahead=self._scheduler.workers())

    def read(self, i: int, /) -> Array:
        ((chunk,),) = self._groups.compute(i)
        chunk = self._promise.kept(chunk, i)
        if self.dtype.kind in "US" and chunk.dtype.itemsize > self.dtype.itemsize:
            raise DataError(
                f"got text of dtype {chunk.dtype} where {self.dtype} was declared, which would cut it off; "
                "give the right dtype or meta where the Dask array is made",
                source=self.name,
                block=i,
            )
        return chunk

    def recut(self, lengths: Sequence[int], /) -> Blocks:
        if tuple(lengths) != self.lengths:
            raise DataError("blocks under way cannot be cut elsewhere", source=self.name)
        return self

    def whole(self) -> np.ndarray[Any, Any]:
        """Return all rows as one array."""
        to_host = self.backend.to_host
        blocks = self._read_all()
        if self.lengths is None or self.dtype.hasobject:
            return np.asarray(concatenated([to_host(block) for block in blocks]))
        out = np.empty(self.shape, dtype=self.dtype)
        for start, block in zip(accumulate(self.lengths, initial=0), blocks, strict=False):
            out[start : start + block.shape[0]] = to_host(block)
        return out

    def _read_all(self) -> Iterator[Array]:
        return ordered(self.read, self.n_blocks, workers=self._scheduler.workers(), name="reader")

    def close(self) -> None:
        self._groups.close()


def _rechunked(array: Any, lengths: tuple[int, ...]) -> Any:
    """Return `array` in chunks of these lengths, some of which may be of no rows."""
    there = [i for i, length in enumerate(lengths_of(array) or ()) if length]
    if len(there) < array.numblocks[0]:
        # Dask cannot rechunk what holds empty chunks: leave them out.
        array = _chosen(array, there)
    some = tuple(length for length in lengths if length)
    if some:
        array = array.rechunk({0: some})
    if len(some) == len(lengths):
        return array
    numbers = iter(range(len(some)))
    return _chosen(array, [next(numbers) if length else None for length in lengths])


def _chosen(array: Any, chunks: Sequence[int | None]) -> Any:
    """Return these chunks of `array`, one after the other; None is a chunk of no rows."""
    from dask.highlevelgraph import HighLevelGraph

    name = new_name("chosen")
    zeros = (0,) * (array.ndim - 1)
    empty = np.empty_like(meta_of(array, array.ndim, array.dtype), shape=(0, *array.shape[1:]))
    tasks = {
        (name, i, *zeros): empty if chunk is None else (array.name, chunk, *zeros)
        for i, chunk in enumerate(chunks or [None])
    }
    lengths = tuple(0 if chunk is None else array.chunks[0][chunk] for chunk in chunks or [None])
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[array])
    return dask_array().Array(graph, name, (lengths, *array.chunks[1:]), meta=array)


# Containers out.


def mapped_array(row_map: RowMap, array: Any, promise: Promise, /) -> Any:
    """Return `array` mapped chunk by chunk, lazily; it is called on no made-up rows."""
    import dask

    da = dask_array()
    columns = row_map.columns(int(array.shape[1]) if array.ndim > 1 else None)
    dtype = row_map.dtype(np.dtype(array.dtype))
    # One task holds the map, so that a large model is sent to each worker once, and not with every chunk.
    mapping = Mapping(row_map, promise, Settings.current(), columns)
    spec = dask.delayed(mapping, name=new_name("map-of"), pure=False, traverse=False)
    # A result of one dimension is made as one column and taken out of it: to drop a dimension, Dask copies
    # the rows.
    out = da.map_blocks(
        map_chunk,
        array,
        spec=spec,
        chunks=(array.chunks[0], (1 if columns is None else columns,)),
        dtype=dtype,
        meta=meta_of(array, 2, dtype),
        name=new_name("map"),
        **({} if array.ndim > 1 else {"new_axis": 1}),
    )
    return out[:, 0] if columns is None else out


def lazily_read(blocks: Blocks, /) -> Any:
    """Return Blocks as a Dask array of one chunk a block; each task reads its own block when it runs.

    Of a file the graph holds the path, never data. Arrays in memory stand in the graph as views.
    """
    da = dask_array()
    if isinstance(blocks, DaskBlocks):
        return blocks.array
    if isinstance(blocks, MappedBlocks):
        array = lazily_read(blocks.blocks)
        return mapped_array(blocks.row_map, array, promise_of(blocks.blocks))
    lengths = blocks.lengths if blocks.lengths is not None else (np.nan,) * blocks.n_blocks
    chunks = (lengths, *((n,) for n in blocks.shape[1:]))
    name = new_name("read")
    zeros = (0,) * (blocks.ndim - 1)
    if isinstance(blocks, SourceBlocks) and isinstance(blocks.source, ArraySource):
        # Not `from_array`, which copies all of it.
        tasks = {(name, i, *zeros): blocks.read(i) for i in range(blocks.n_blocks)}
        return da.Array(tasks, name, chunks, dtype=blocks.dtype)
    import dask

    spec = dask.delayed(blocks, name=new_name("source"), pure=False, traverse=False)
    meta = np.empty((0,) * blocks.ndim, dtype=blocks.dtype)
    return da.map_blocks(read_block, spec=spec, chunks=chunks, dtype=blocks.dtype, meta=meta, name=name)
