"""``.npy`` files: read in any place by several threads, written in parallel and whole or not at all."""

from __future__ import annotations

import errno
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ooclearn.config import n_workers
from ooclearn.events import Work, record, within, working
from ooclearn.exceptions import DataError, DataWarning, PerformanceWarning, SourceChangedError, warn
from ooclearn.tiles import run_of_rows
from ooclearn.types import Array
from ooclearn.workers import one_blas_thread, ordered

if TYPE_CHECKING:
    from ooclearn.blocks import Blocks

__all__ = ["FileSource", "c_strides", "open_npy", "write_npy"]

# Bytes that are asked of the system in one call: macOS refuses 2 GiB and more, where others give a part.
_AT_ONCE = 2**30


class FileSource:
    """Rows of one array that lies in a file, read with plain reads and never through a mapping.

    A file that shrinks kills a process that has it mapped; a plain read comes up short and says so.

    Parameters
    ----------
    path : str
        The file.
    shape, dtype
        Of the array in it. Rows are given in this machine's byte order.
    offset : int
        Where its first element lies.
    strides : tuple of int, optional
        Bytes from one element to the next along each axis, none of them negative; C order by default.
    """

    in_memory = False

    def __init__(
        self,
        path: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        offset: int,
        strides: tuple[int, ...] | None = None,
    ) -> None:
        self.path = os.path.abspath(path)
        self.name = path
        self.shape = shape
        self.dtype = dtype.newbyteorder("=")
        self.offset = offset
        self._stored = dtype
        self._strides = strides or c_strides(shape, dtype.itemsize)
        steps = zip(shape[1:], self._strides[1:], strict=True)
        self._extent = sum((n - 1) * step for n, step in steps) + dtype.itemsize
        self._identity = _identity(os.stat(path))

    def read(self, start: int, stop: int, /, out: Array | None = None) -> Array:
        """Return rows `start` to `stop`."""
        with self.opened() as read:
            return read(start, stop, out)

    @contextmanager
    def opened(self) -> Iterator[Callable[..., Array]]:
        """Give a ``read`` that opens the file once for several runs of rows."""
        try:
            file = open(self.path, "rb", buffering=0)  # noqa: SIM115  (closed by the `with` below)
        except FileNotFoundError as error:
            raise SourceChangedError("the file is gone since it was scanned", source=self.name) from error
        with file:
            yield partial(self._read, file)

    def expect(self, runs: Sequence[tuple[int, int]], /) -> None:
        """Have the system fetch runs of rows from the disk while others are worked on.

        It sees by itself where a file is read from front to back, and not where runs lie all over it: then it waits for
        each, and fetches far more than is asked for.
        """
        row = self._strides[0]
        if not hasattr(os, "posix_fadvise") or row < self._extent:
            return
        # A wish: what is wrong with the file, its reading will tell.
        with suppress(OSError), open(self.path, "rb", buffering=0) as file:
            fd = file.fileno()
            places = [(self.offset + start * row, (stop - start) * row) for start, stop in runs if stop > start]
            # To ask for what is there would cost a fifth of reading it; some places tell.
            if all(_is_there(fd, at) for at, _ in places[:: max(1, len(places) // 3)]):
                return
            for at, n in places:
                os.posix_fadvise(fd, at, n, os.POSIX_FADV_WILLNEED)

    def read_runs(self, runs: Sequence[tuple[int, int]], out: Array, /) -> bool:
        """Read runs of rows into `out`, one behind the other; say whether it went well.

        For many short runs, which cost more to ask for one by one than to read. What goes wrong is for :meth:`read` to
        find and to name.
        """
        row = self._strides[0]
        plain = hasattr(os, "preadv") and self._stored.isnative and out.flags.c_contiguous
        if not plain or not out.nbytes or row * len(out) != out.nbytes:
            return False
        view, at = _bytes_of(out), 0
        try:
            with open(self.path, "rb", buffering=0) as file, within("read"):
                fd = file.fileno()
                for start, stop in runs:
                    n = (stop - start) * row
                    if n and os.preadv(fd, [view[at : at + n]], self.offset + start * row) != n:
                        return False
                    at += n
                return _identity(os.fstat(fd)) == self._identity
        except OSError:
            return False

    def _read(self, file: Any, start: int, stop: int, out: Array | None = None) -> Array:
        if out is None:
            out = np.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        if out.nbytes == 0:
            return out
        missing = self._fill(out, file, start, stop)
        # Looked at after reading, so that what was read is from before any change.
        stat = os.fstat(file.fileno())
        if _identity(stat) == self._identity and not missing:
            return out
        size, expected = stat.st_size, self._identity[0]
        what = (
            f"it has {size:,} bytes and had {expected:,}" if size != expected else "its time or place on disk differs"
        )
        raise SourceChangedError(
            f"the file is not the one that was scanned: {what}. Scan it again, and do not write to it during a fit",
            source=self.name,
            rows=(start, stop),
        )

    def _fill(self, out: Array, file: Any, start: int, stop: int) -> int:
        """Read rows into `out`; return how many bytes were missing."""
        row = self._strides[0]
        at = self.offset + start * row
        if row < self._extent:
            return self._fill_by_columns(out, file, at)
        # One row after the other: what lies between the first byte and the last is read at once.
        nbytes = (stop - start - 1) * row + self._extent
        if nbytes == out.nbytes and self._stored.isnative and out.flags.c_contiguous:
            return nbytes - _read_at(file, _bytes_of(out), at)
        buffer = bytearray(nbytes)
        missing = nbytes - _read_at(file, memoryview(buffer), at)
        out[...] = np.ndarray(out.shape, self._stored, buffer, strides=self._strides)
        return missing

    def _fill_by_columns(self, out: Array, file: Any, at: int) -> int:
        """Read a run of each column, where the rows lie between one another."""
        n, row = len(out), self._strides[0]
        buffer = bytearray((n - 1) * row + self._stored.itemsize)
        missing = 0
        for place in np.ndindex(self.shape[1:]):
            first = at + sum(i * step for i, step in zip(place, self._strides[1:], strict=True))
            missing += len(buffer) - _read_at(file, memoryview(buffer), first)
            out[(slice(None), *place)] = np.ndarray(n, self._stored, buffer, strides=(row,))
        return missing


def c_strides(shape: tuple[int, ...], itemsize: int, /) -> tuple[int, ...]:
    """Return the strides of an array of that shape in C order."""
    strides = [itemsize]
    for n in reversed(shape[1:]):
        strides.append(strides[-1] * n)
    return tuple(reversed(strides))


def _is_there(fd: int, at: int) -> bool:
    """Say whether a byte of a file is in memory; False where the system does not tell."""
    try:
        return hasattr(os, "RWF_NOWAIT") and os.preadv(fd, [bytearray(1)], at, os.RWF_NOWAIT) == 1
    except OSError:
        return False


def _identity(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _bytes_of(values: Array) -> memoryview:
    """Return the memory of a C-ordered array; by way of a view, since text has no format that can be cast."""
    return memoryview(values.reshape(-1).view(np.uint8)) if values.size else memoryview(b"")


def _read_at(file: Any, view: memoryview, offset: int) -> int:
    """Fill `view` from `offset`; return how many bytes there were."""
    with within("read"):
        return _filled(file, view, offset)


def _filled(file: Any, view: memoryview, offset: int) -> int:
    got = 0
    if hasattr(os, "preadv"):
        fd = file.fileno()
        while got < len(view):
            n = os.preadv(fd, [view[got : got + _AT_ONCE]], offset + got)
            if n == 0:
                break
            got += n
        return got
    file.seek(offset)
    while got < len(view):
        n = file.readinto(view[got:])
        if not n:
            break
        got += n
    return got


def open_npy(path: str | os.PathLike[str], /) -> FileSource:
    """Return the array in a ``.npy`` file as a source; only the header is read.

    Raises
    ------
    DataError
        The file is not a whole ``.npy`` file of numbers or fixed-width text.
    """
    name = os.fspath(path)
    with open(name, "rb") as file:
        try:
            shape, fortran, dtype = _read_header(file)
        except Exception as error:
            # NumPy parses headers as Python literals, and a damaged one may fail in any way.
            text = str(error).partition("\n")[0][:200]
            raise DataError(f"not a .npy file that can be read (not fully written?): {text}", source=name) from error
        offset = file.tell()
        size = os.fstat(file.fileno()).st_size
    if dtype.hasobject or dtype.names is not None:
        what = "Python objects, which only pickle can read" if dtype.hasobject else "records of several fields"
        raise DataError(f"the file holds {what}; save one array of numbers or fixed-width text", source=name)
    if not shape:
        raise DataError("the file holds a single number; expected an array of rows", source=name)
    expected = offset + math.prod(shape) * dtype.itemsize
    if size < expected:
        raise DataError(
            f"the file is truncated: its header promises {expected:,} bytes, it has {size:,} (not fully written?)",
            source=name,
        )
    if size > expected:
        warn(
            f"{name} has {size - expected:,} bytes after the array its header describes; they are ignored", DataWarning
        )
    if not fortran or len(shape) == 1:
        return FileSource(name, shape, dtype, offset)
    warn(
        f"{name} is in Fortran order (column after column): each block of rows is read from "
        f"{math.prod(shape[1:]):,} places. Save it with np.ascontiguousarray for speed",
        PerformanceWarning,
    )
    return FileSource(name, shape, dtype, offset, c_strides(shape[::-1], dtype.itemsize)[::-1])


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version} of the format")
    if min(shape, default=0) < 0:
        raise ValueError(f"a shape of {shape}")
    return shape, fortran, dtype


def write_npy(blocks: Blocks, path: str | os.PathLike[str], /) -> None:
    """Write `blocks` to one ``.npy`` file, in parallel; see :meth:`ooclearn.Blocks.to_npy`."""
    target = _target(path)
    _refuse_unwritable(blocks)
    blocks = blocks.returned()
    header = _header(blocks.shape, blocks.dtype)
    starts = blocks.starts()
    size = len(header) + starts[-1] * blocks.row_bytes
    free = shutil.disk_usage(target.parent).free
    if size > free:
        raise OSError(
            errno.ENOSPC, f"{size:,} bytes are to be written and {free:,} are free; choose another place", str(target)
        )
    # Part of the name only, since a file system has names of 255 bytes, and a letter may take four.
    temporary = target.with_name(f".{target.name[:48]}.{secrets.token_hex(4)}.tmp")
    workers = n_workers()
    work = Work("write", f"write {target.name}", starts[-1], blocks.nbytes, blocks.n_blocks)
    try:
        with open(temporary, "xb", buffering=0) as file, one_blas_thread():
            _allocate(file, size)
            _write_at(file, header, 0)

            def task(i: int) -> None:
                rows = starts[i + 1] - starts[i]
                with record(work, "transform", i, rows, rows * blocks.row_bytes):
                    _write_block(file, blocks, i, (starts[i], starts[i + 1]), len(header))

            def put(_: Sequence[int], start: int, values: Array) -> None:
                _write_at(file, _as_declared(values, blocks, 0), len(header) + start * blocks.row_bytes)

            if not blocks.bring(put, work=work):
                with working(work):
                    for _ in ordered(task, blocks.n_blocks, workers=workers, name="writer"):
                        pass
        os.replace(temporary, target)
    except OSError as error:
        if error.filename is None and not isinstance(error, DataError):
            # The system does not say which file it could not write.
            raise OSError(error.errno, f"{error.strerror}, while {size:,} bytes were written", str(target)) from error
        raise
    finally:
        blocks.release()
        with suppress(FileNotFoundError):
            temporary.unlink()


def _target(path: str | os.PathLike[str]) -> Path:
    """Return the file to write; refuse, before anything is computed, a place that will not do."""
    # The file that a link leads to is replaced, as by any other way of writing.
    target = Path(os.path.realpath(os.fsdecode(path)))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "there is a folder of this name; give the name of a file", str(target))
    if not target.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, f"there is no folder {target.parent}; make it first, to write into it", str(target)
        )
    return target


def _refuse_unwritable(blocks: Blocks) -> None:
    """Refuse, before anything is computed, what the format cannot hold."""
    if blocks.dtype.hasobject:
        raise DataError(
            f"{blocks.name} gives Python objects, which .npy stores only by pickling; "
            "make the labels numbers or fixed-width text (np.asarray(labels, dtype=str))"
        )
    if blocks.sparse:
        raise DataError(
            "sparse rows cannot be written to .npy, which holds every cell; write each block by itself with "
            "scipy.sparse.save_npz, or make the rows dense first",
            source=blocks.name,
        )
    if blocks.lengths is None:
        raise DataError(
            "the number of rows is known only after computing; compute_chunk_sizes() first", source=blocks.name
        )


def _write_block(file: Any, blocks: Blocks, i: int, rows: tuple[int, int], offset: int) -> None:
    """Write block `i`, which is these rows of the whole, tile by tile to its place."""
    to_host = blocks.backend.to_host
    at = offset + rows[0] * blocks.row_bytes
    done = 0
    for tile in blocks.tiles(i, run_of_rows(max(blocks.row_bytes, _read_bytes(blocks)))):
        values = _as_declared(to_host(tile), blocks, i)
        with within("write"):
            _write_at(file, values, at + done)
        done += values.nbytes
    declared = rows[1] - rows[0]
    if done != declared * blocks.row_bytes:
        raise DataError(
            f"got {done // max(1, blocks.row_bytes)} rows where {declared} were declared",
            source=blocks.name,
            block=i,
            rows=rows,
        )


def _as_declared(values: Array, blocks: Blocks, i: int) -> Array:
    """Return rows in the dtype that `blocks` has declared; refuse what would be cut off."""
    declared = blocks.dtype
    if hasattr(values, "tocsr"):
        raise DataError(
            "sparse rows cannot be written to .npy, which holds every cell; write each block by itself with "
            "scipy.sparse.save_npz, or make the rows dense first",
            source=blocks.name,
            block=i,
        )
    cut_off = values.dtype.kind in "US" and values.dtype.itemsize > declared.itemsize
    if cut_off or not np.can_cast(values.dtype, declared, "same_kind"):
        raise DataError(
            f"got values of dtype {values.dtype} where {declared} was declared, which cannot hold them",
            source=blocks.name,
            block=i,
        )
    return np.ascontiguousarray(values, dtype=declared)


def _read_bytes(blocks: Blocks) -> int:
    """Bytes of a row before it is mapped, by which tiles are measured."""
    parent = getattr(blocks, "blocks", blocks)
    return int(parent.row_bytes)


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    import io

    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        out, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(map(int, shape))}
    )
    return out.getvalue()


def _allocate(file: Any, size: int) -> None:
    # A full disk then shows before hours are spent, as an OSError.
    if hasattr(os, "posix_fallocate") and size:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            # Some file systems cannot; then a full disk shows when it is full.
            if error.errno not in {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}:
                raise


def _write_at(file: Any, values: Array | bytes, offset: int) -> None:
    view = memoryview(values) if isinstance(values, bytes) else _bytes_of(values)
    if hasattr(os, "pwrite"):
        while view:
            n = os.pwrite(file.fileno(), view[:_AT_ONCE], offset)
            view, offset = view[n:], offset + n
        return
    with open(file.name, "r+b", buffering=0) as own:  # a position of its own, where there is no pwrite
        own.seek(offset)
        while view:
            n = own.write(view) or 0
            view = view[n:]
