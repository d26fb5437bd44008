"""Finding the first cell that is not a number, once a sum has shown that there is one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ooclearn._namespace import namespace
from ooclearn.backend import backend_of
from ooclearn.exceptions import DataError, NonFiniteError
from ooclearn.types import Array

__all__ = [
    "missing_labels",
    "refuse_infinite",
    "refuse_missing_labels",
    "refuse_negative",
    "refuse_nonfinite",
    "refuse_weights",
]

_INFINITE = "infinity or a value too large for its dtype"


def refuse_infinite(block: Array, /, columns: bool | Array = True) -> None:
    """Raise if a block, or these columns of it, holds an infinity; NaN may be there. Sparse rows too."""
    try:
        if hasattr(block, "tocsr"):
            _refuse_entries(block.tocsr(), "X", missing_allowed=True)
            return
        xp = namespace(block)
        if xp.isdtype(block.dtype, ("real floating", "complex floating")):
            infinite = backend_of(block).to_host(xp.isinf(block))
            _refuse(infinite if isinstance(columns, bool) else infinite & columns, _INFINITE)
    except NonFiniteError as error:
        error.missing_allowed = True
        raise


def refuse_nonfinite(block: Array, /, *, role: str = "X") -> None:
    """Raise if a block holds NaN or an infinity, with the first row and column and how many there are.

    Parameters
    ----------
    block : array
        Of any library; sparse rows too.
    role : {"X", "y", "sample_weight"}
        What it is of the table.

    Raises
    ------
    NonFiniteError
        With the row counted within the block.
    """
    if hasattr(block, "tocsr"):
        _refuse_entries(block.tocsr(), role)
        return
    xp = namespace(block)
    if not xp.isdtype(block.dtype, ("real floating", "complex floating")):
        return
    if not isinstance(block, np.ndarray) and bool(xp.all(xp.isfinite(block))):
        return  # one value comes back from a device, not a mask of the block
    nan = xp.isnan(block)
    if bool(xp.any(nan)):
        _refuse(nan, "NaN", role)
    _refuse(xp.isinf(block), _INFINITE, role)


def refuse_negative(block: Array, /) -> None:
    """Raise if a block holds a negative number, with the first row and column and how many there are."""
    negative: Any = block < 0
    if hasattr(negative, "tocsr"):
        places = np.stack(negative.tocsr().nonzero(), axis=1)
    else:
        negative = backend_of(negative).to_host(negative)
        places = np.argwhere(negative)
    if len(places):
        row, column = (int(place) for place in places[0])
        raise DataError(
            f"Negative values in data passed as X: {len(places):,} among the {negative.shape[0]:,} rows that were looked "
            "at together; expected counts, 0 or more. This is the first",
            rows=(row, row + 1),
            column=column,
            part="X",
        )


def _refuse_entries(rows: Any, role: str, *, missing_allowed: bool = False) -> None:
    """Look through the stored cells of sparse rows."""
    if rows.dtype.kind not in "fc":
        return
    bad = np.flatnonzero(np.isinf(rows.data) if missing_allowed else ~np.isfinite(rows.data))
    if not len(bad):
        return
    nan = bad[np.isnan(rows.data[bad])]
    found, what = (nan, "NaN") if len(nan) else (bad, _INFINITE)
    row = int(np.searchsorted(rows.indptr, found[0], side="right")) - 1
    raise _found(what, role, len(found), rows.shape[0], row, int(rows.indices[found[0]]))


def _refuse(bad: Array, what: str, role: str = "X") -> None:
    bad = backend_of(bad).to_host(bad)
    if bad.any():  # places are looked for only then: that takes longer than all sums
        places = np.argwhere(bad)
        column = int(places[0][1]) if bad.ndim > 1 else None
        raise _found(what, role, len(places), bad.shape[0], int(places[0][0]), column)


def _found(what: str, role: str, count: int, n: int, row: int, column: int | None) -> NonFiniteError:
    advice = "Fill or drop these rows first" if what == "NaN" else "Clip, drop or repair these rows first"
    found = "This is the only such cell" if count == 1 else f"This is the first of {count:,} such cells"
    among = f"among the {n:,} rows that were looked at together" if n > 1 else "in its row"
    # "Input X contains NaN." is how scikit-learn says it, and what its users search for.
    return NonFiniteError(
        f"Input {role} contains {what}. {found} {among}. {advice}",
        rows=(row, row + 1),
        column=column,
        part=role,
    )


def missing_labels(y: Array, /) -> Array:
    """Return which labels, Python objects, are None, NaN or the like."""
    missing: Array = np.frompyfunc(_is_missing, 1, 1)(y).astype(bool)
    return missing


def refuse_missing_labels(missing: Array, /) -> None:
    """Raise if one of the labels is missing, as :func:`missing_labels` has found."""
    _refuse(missing, "NaN", "y")


def _is_missing(label: Any) -> bool:
    if label is None:
        return True
    # NaN, and pandas' NaT, are not equal to themselves; pandas' NA does not know.
    equal = label == label  # noqa: PLR0124  (what NaN is known by)
    return equal is not True and not (isinstance(equal, np.bool_) and equal)


def refuse_weights(w: Array, /) -> None:
    """Raise if a sample weight is negative, NaN or infinite."""
    if w.shape[0] == 0:
        return
    xp = namespace(w)
    # Strict libraries do not compare truth values with numbers.
    if xp.isdtype(w.dtype, "bool") or bool(xp.all((w >= 0) & xp.isfinite(w))):
        return
    refuse_nonfinite(w, role="sample_weight")
    negative = backend_of(w).to_host(w) < 0
    row = int(np.argmax(negative))
    count = int(negative.sum())
    raise DataError(
        f"sample_weight has negative entries, {count:,} among the {len(negative):,} rows that were looked at together; "
        "weights must be 0 or more. This is the first",
        rows=(row, row + 1),
        part="sample_weight",
    )
