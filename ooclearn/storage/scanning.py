"""``scan``: one door to every source of rows."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ooclearn.backend import owner_of
from ooclearn.blocks import Blocks
from ooclearn.exceptions import DataError, DataWarning, warn
from ooclearn.sources import SourceBlocks, warn_of_small_blocks
from ooclearn.storage.callables import CallableBlocks
from ooclearn.storage.joined import JoinedSource
from ooclearn.storage.npy import open_npy

__all__ = ["is_lazy_frame", "scan"]

# What to do with files of other kinds that are often met.
_INSTEAD = {
    ".csv": ". Read it with dask.dataframe.read_csv, and pass the frame",
    ".parquet": ". Read it with dask.dataframe.read_parquet, and pass the frame",
    ".npz": ". Save its arrays with np.save, each to a file of its own",
}


def scan(source: Any, /, *, block_rows: int | None = None) -> Blocks:
    """Return the rows of `source` as :class:`Blocks`, without reading them.

    Parameters
    ----------
    source : path, array, callable or list
        A ``.npy`` file; a folder of ``.npy`` files (one after the other, by name: ``10.npy``
        comes before ``2.npy``, with a warning; files of other kinds are left out); an array of any installed
        backend (NumPy, ``np.memmap``, Dask, ...); a callable without arguments that returns an iterator of
        blocks (it is run once here, to count rows); or a list of files or arrays, one after the other.
    block_rows : int, optional
        Rows of a block. By default blocks have ``block_bytes`` bytes (see :func:`ooclearn.set_config`).

    Returns
    -------
    Blocks
        Lazy, re-readable, of bounded memory in every use.

    Raises
    ------
    DataError
        A file is damaged or of another kind, or the source can be read only once.
    FileNotFoundError
        There is no such file or folder.

    Examples
    --------
    >>> import numpy as np, ooclearn
    >>> ooclearn.scan(np.ones((1000, 3)), block_rows=400)
    Blocks('array': 1,000 x 3 float64, 2.4e-05 GB, 3 blocks)
    """
    blocks = _scanned(source)
    if block_rows is None:
        if blocks is not source:
            warn_of_small_blocks(blocks)
        return blocks
    if not isinstance(block_rows, (int, np.integer)) or block_rows < 1:
        raise ValueError(f"block_rows must be a whole number above 0, got {block_rows!r}")
    n = len(blocks)
    lengths = [int(block_rows)] * (n // int(block_rows))
    if n - sum(lengths) or not lengths:
        lengths.append(n - sum(lengths))
    return blocks.recut(lengths)


def _scanned(source: Any) -> Blocks:
    if isinstance(source, Blocks):
        return source
    if isinstance(source, (str, bytes, os.PathLike)):
        return _from_path(_path(source))
    if isinstance(source, (list, tuple)) and source and all(_is_part(part) for part in source):
        return SourceBlocks(JoinedSource([_scanned(part) for part in source]))
    backend = owner_of(source)
    if backend is not None:
        return backend.blocks(source)
    if isinstance(source, Iterator):
        raise DataError(
            f"a {type(source).__name__} can be read once, and fits may need several passes; "
            "pass a callable that makes it anew each time, such as the generator function itself"
        )
    if isinstance(source, Callable):  # type: ignore[arg-type]  # Callable is a class to isinstance
        return CallableBlocks(source)
    if is_lazy_frame(source):
        raise DataError(
            f"got a {type(source).__name__}, which has no rows before it is computed; pass its collect(), or write it to "
            ".npy files by parts where it is larger than memory, and scan these"
        )
    if hasattr(source, "columns"):
        raise DataError(
            f"cannot scan a {type(source).__name__}, which is in memory: pass it to fit, transform or predict as it is, "
            "or scan its array of numbers (to_numpy())"
        )
    what = "an empty list" if isinstance(source, list) and not source else f"a {type(source).__name__}"
    raise DataError(
        f"cannot scan {what}; expected a path to a .npy file, an array, "
        "a callable that returns an iterator of blocks, or a list of these"
    )


def is_lazy_frame(source: object, /) -> bool:
    """Say whether `source` is a query for a data frame, as polars has them; its columns are not asked for, which takes long."""
    return hasattr(type(source), "collect_schema") and not hasattr(type(source), "shape")


def _is_part(part: Any) -> bool:
    return isinstance(part, (str, bytes, os.PathLike, Blocks)) or getattr(part, "ndim", 0) > 0


def _path(source: str | bytes | os.PathLike[Any]) -> Path:
    name = os.fsdecode(source)
    if not name:  # which Path takes for the folder we are in
        raise FileNotFoundError(errno.ENOENT, "the path is empty; expected a .npy file, or a folder of them", name)
    if "://" in name and not os.path.exists(name):
        raise DataError("only files of this machine are read; download it, or mount where it lies", source=name)
    return Path(name)


def _from_path(path: Path) -> Blocks:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix == ".npy")
        if not files:
            raise DataError("the folder has no .npy file", source=os.fspath(path))
        _warn_of_numbers(files)
        return _from_files(files)
    if any(sign in path.name for sign in "*?[") and not path.exists():
        raise DataError(
            "patterns are not looked up; pass the folder, or sorted(glob.glob(...))", source=os.fspath(path)
        )
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
    if path.suffix != ".npy":
        raise DataError(
            f"files of the kind {path.suffix or 'without a suffix'} cannot be scanned; expected .npy"
            + _INSTEAD.get(path.suffix.lower(), ""),
            source=os.fspath(path),
        )
    return SourceBlocks(open_npy(path))


def _from_files(files: Sequence[Path]) -> Blocks:
    parts = [_from_path(file) for file in files]
    return parts[0] if len(parts) == 1 else SourceBlocks(JoinedSource(parts))


def _warn_of_numbers(files: Sequence[Path]) -> None:
    """Warn where the order by name is not the order by number: y may well be in the other."""
    for one, other in pairwise(files):
        if _by_number(one) > _by_number(other):
            warn(
                f"the files of {files[0].parent} are taken by name, {one.name} before {other.name}; if y or others are in "
                "the order of the numbers, pass a list of the files in that order, or pad the numbers with zeros",
                DataWarning,
            )
            return


def _by_number(file: Path) -> list[str | int]:
    # Text and digits take turns, so like is compared with like.
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", file.name))]
