"""Row maps side by side: what column transformers and unions of features do to rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ooclearn._namespace import device_of, float_dtype, namespace
from ooclearn.rowmaps import Affine, Chain, Columns, RowMap, compose, launched
from ooclearn.types import Array

__all__ = ["Beside", "as_affine", "beside"]


@dataclass(frozen=True, eq=False)
class Beside:
    """The results of several maps of the same rows, side by side; made by :func:`beside`.

    Parameters
    ----------
    maps : tuple of RowMap or None
        None leaves the rows as they are.
    sparse : bool
        Put results together as sparse rows if one of them is sparse; otherwise all are made dense.
    """

    maps: tuple[RowMap | None, ...]
    sparse: bool = False

    def __call__(self, block: Array, /) -> Array:
        """Return the mapped rows of one block."""
        return self._together([block if row_map is None else row_map(block) for row_map in self.maps], block)

    def launched(self, block: Array, /) -> tuple[Array, Any]:
        """Return the mapped rows and how many cells are refused; see :func:`ooclearn.rowmaps.launched`."""
        found = [launched(row_map, block) for row_map in self.maps]
        return self._together([out for out, _ in found], block), sum(refused for _, refused in found)

    def _together(self, outs: list[Array], block: Array) -> Array:
        if any(hasattr(out, "tocsr") for out in outs):
            if self.sparse:
                from scipy.sparse import csr_array, hstack, issparse  # with the first sparse block

                stacked = hstack([out if issparse(out) else csr_array(out) for out in outs])
                return stacked.tocsr()
            outs = [out.toarray() if hasattr(out, "toarray") else out for out in outs]
        if not outs:
            return _no_columns(block)
        if all(isinstance(out, np.ndarray) for out in outs):
            return np.concatenate(outs, axis=1)
        xp = namespace(outs[0])
        if len({str(out.dtype) for out in outs}) > 1 and any(xp.isdtype(out.dtype, "real floating") for out in outs):
            # The standard does not say what whole numbers beside floating ones become.
            wide = float_dtype(block)
            outs = [xp.astype(out, wide, copy=False) for out in outs]
        return xp.concat(outs, axis=1)

    def columns(self, n_columns: int | None, /) -> int | None:
        """Return the number of columns that come out."""
        widths = [n_columns if row_map is None else row_map.columns(n_columns) for row_map in self.maps]
        known = [width for width in widths if width is not None]
        return sum(known) if len(known) == len(widths) else None

    def dtype(self, dtype: np.dtype[Any], /) -> np.dtype[Any]:
        """Return the dtype that comes out for one that goes in."""
        outs = [dtype if row_map is None else row_map.dtype(dtype) for row_map in self.maps]
        return np.result_type(*outs) if outs else np.dtype(np.float64)

    def behind(self, columns: Columns, /) -> RowMap:
        """Return `columns` followed by this map: each of the maps takes its own columns, once."""
        return Beside(tuple(compose(columns, row_map) for row_map in self.maps), self.sparse)


def _no_columns(block: Array) -> Array:
    if isinstance(block, np.ndarray) or hasattr(block, "tocsr"):
        return np.empty((block.shape[0], 0))
    return namespace(block).empty((block.shape[0], 0), dtype=float_dtype(block), device=device_of(block))


def beside(maps: Sequence[RowMap | None], /, *, n_columns: int | None, sparse: bool = False) -> RowMap | None:
    """Return the maps of the same rows side by side; maps of columns by themselves become one selection and one map.

    Parameters
    ----------
    maps : sequence of RowMap or None
        None leaves the rows as they are.
    n_columns : int or None
        Columns that come in.
    sparse : bool
        As for :class:`Beside`.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.beside import beside
    >>> from ooclearn.rowmaps import Affine, Columns, compose
    >>> halved = compose(Columns((0,)), Affine(np.array([2.0]), divide=True))
    >>> beside([halved, Columns((1,))], n_columns=2)(np.array([[4.0, 1.0]]))
    array([[2., 1.]])
    """
    found = [_by_column(row_map, n_columns) for row_map in maps]
    parts = [one for one in found if one is not None]
    if len(parts) < len(found) or not parts:
        return Beside(tuple(maps), sparse)
    positions = tuple(at for part, _ in parts for at in part)
    selection = None if n_columns is not None and positions == tuple(range(n_columns)) else Columns(positions)
    affine = _concatenated([(len(part), one) for part, one in parts])
    return None if selection is None and affine is None else compose(selection, affine)


def _by_column(row_map: RowMap | None, n_columns: int | None) -> tuple[tuple[int, ...], Affine | None] | None:
    """Return which columns a map takes, and what it does to each by itself; None if it does anything else."""
    maps = row_map.maps if isinstance(row_map, Chain) else () if row_map is None else (row_map,)
    positions: tuple[int, ...] | None = None if n_columns is None else tuple(range(n_columns))
    if maps and isinstance(maps[0], Columns):
        positions = maps[0].positions
        maps = maps[1:]
    if positions is None or len(maps) > 1:
        return None
    if not maps:
        return positions, None
    one = maps[0]
    plain = isinstance(one, Affine) and one.diagonal and not one.squeeze and one.out_dtype is None
    return (positions, one) if plain else None  # type: ignore[return-value]  # it is an Affine


def _concatenated(parts: Sequence[tuple[int, Affine | None]]) -> Affine | None:
    """Return maps of so many columns each as one map of all their columns."""
    given = [one for _, one in parts if one is not None]
    if not given:
        return None
    divide = all(one.divide for one in given if one.scale is not None)

    def along(name: str, neutral: float) -> Array | None:
        if all(value(one, name) is None for one in given):
            return None
        columns = []
        for width, one in parts:
            values = None if one is None else value(one, name)
            columns.append(np.broadcast_to(np.float64(neutral) if values is None else values, (width,)))
        return np.concatenate(columns).astype(np.float64)

    def value(one: Affine, name: str) -> Array | None:
        # Where some are divided by their factor and others multiplied, all are multiplied.
        return one.factor() if name == "scale" and not divide else getattr(one, name)

    scale = along("scale", 1.0)
    refused = np.concatenate(
        [np.broadcast_to(one is not None and one.refuses_infinite, (width,)) for width, one in parts]
    )
    return Affine(
        scale,
        along("center", 0.0),
        along("offset", 0.0),
        divide=divide and scale is not None,
        # Columns that are passed through may hold infinities.
        refuses_infinite=bool(refused.any()) if refused.all() or not refused.any() else refused,
    )


def as_affine(row_map: RowMap | None, n_columns: int, /) -> Affine:
    """Return a map that is affine throughout, of `n_columns` columns, as one affine map with a matrix.

    Statistics are carried through it. Rows are not: a missing value in a column would spread to all that comes out.
    """
    center, matrix, offset = _parts(row_map, n_columns)
    return Affine(matrix, center, offset)


def _parts(row_map: RowMap | None, n: int) -> tuple[Array, Array, Array]:
    """Return the centre, the matrix and the offset of an affine map of `n` columns."""
    if row_map is None:
        return np.zeros(n), np.eye(n), np.zeros(n)
    if isinstance(row_map, Columns):
        matrix = np.eye(n)[:, list(row_map.positions)]
        return np.zeros(n), matrix, np.zeros(matrix.shape[1])
    if isinstance(row_map, Affine):
        factor = row_map.factor()
        matrix = np.eye(n) if factor is None else np.asarray(factor, dtype=np.float64)
        if matrix.ndim == 1:
            matrix = np.diag(np.broadcast_to(matrix, (n,)))
        return _full(row_map.center, n), matrix, _full(row_map.offset, matrix.shape[1])
    if isinstance(row_map, Chain):
        center, matrix, offset = _parts(None, n)
        for one in row_map.maps:
            inner, factor, shift = _parts(one, matrix.shape[1])
            if matrix.shape[0] == matrix.shape[1] and not center.any() and np.array_equal(matrix, np.eye(n)):
                # Nothing but shifts so far: far from 0, the difference of two centres keeps digits that products lose.
                center, matrix, offset = inner - offset, factor, shift
            else:
                offset = (offset - inner) @ factor + shift
                matrix = matrix @ factor
        return center, matrix, offset
    assert isinstance(row_map, Beside), f"{row_map!r} is not affine"
    parts = [_parts(one, n) for one in row_map.maps]
    center = np.zeros(n)
    taken = np.zeros(n, dtype=bool)
    for own, matrix, _ in parts:
        # Of a column that several take, the centre of the first: those of the others lie near.
        new = np.any(matrix != 0, axis=1) & ~taken
        center[new] = own[new]
        taken |= new
    return (
        center,
        np.concatenate([matrix for _, matrix, _ in parts], axis=1),
        np.concatenate([(center - own) @ matrix + offset for own, matrix, offset in parts]),
    )


def _full(values: Array | None, n: int) -> Array:
    return np.zeros(n) if values is None else np.broadcast_to(np.asarray(values, dtype=np.float64), (n,))
