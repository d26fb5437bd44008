"""From what users pass to tables: who owns it, is it two-dimensional, numeric, named as before."""

from __future__ import annotations

import copy
import numbers
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from ooclearn.backend import get_backend, owner_of
from ooclearn.blocks import Blocks
from ooclearn.config import get_config
from ooclearn.exceptions import DataError
from ooclearn.sources import warn_of_small_blocks
from ooclearn.statistics.checks import refuse_nonfinite
from ooclearn.storage.arrays import host_dtype
from ooclearn.storage.scanning import is_lazy_frame, scan
from ooclearn.table import Table
from ooclearn.types import Array

__all__ = [
    "as_table",
    "blocks_of",
    "checked_rows",
    "checked_table",
    "host_array",
    "host_dtype",
    "is_lazy",
    "is_plain",
    "is_sparse",
    "split_target",
]


def is_plain(x: object, /) -> bool:
    """Say whether `x` is for scikit-learn to check: a NumPy array in memory, a data frame, a list, sparse rows."""
    if isinstance(x, np.ndarray):
        return not isinstance(x, np.memmap)
    owner = owner_of(x)
    return owner is None or (owner.name == "numpy" and not isinstance(x, Blocks))


def is_lazy(x: object, /) -> bool:
    """Say whether results for `x` are computed later: Blocks, memory maps, Dask."""
    return isinstance(x, (Blocks, np.memmap)) or hasattr(x, "__dask_graph__")


def is_sparse(x: object, /) -> bool:
    """Say whether `x` holds sparse rows: one of SciPy's, Blocks of them, or a Dask array of such chunks."""
    return hasattr(x, "tocsr") or hasattr(getattr(x, "_meta", None), "tocsr") or bool(getattr(x, "sparse", False))


def checked_rows(estimator: Any, X: Any, /, *, reset: bool, sparse: bool = False, finite: bool = False) -> Any:
    """Return `X` as a container that a backend owns, checked against what `estimator` was fitted with.

    Parameters
    ----------
    estimator : estimator
        Its ``n_features_in_`` and ``feature_names_in_`` are set or compared.
    X : container
        What the user passed.
    reset : bool
        Whether this is a fit.
    sparse : bool
        Whether sparse rows are taken.
    finite : bool
        Refuse NaN and infinities in what is in memory anyway.
    """
    X = _opened(X)
    if not sparse and is_sparse(X):
        _refuse_sparse(estimator, X)
    if is_plain(X):
        return _checked_plain(estimator, X, reset=reset, sparse=sparse, finite=finite)
    names = getattr(X, "names", None)
    if not hasattr(X, "dtype"):
        # A lazy data frame: its columns become those of an array; the Blocks know their names.
        frame = blocks_of(X, "X")
        names = frame.names
        X = frame if reset else frame.on(frame.backend_name)
    shape: tuple[Any, ...] = getattr(X, "shape", ())
    if len(shape) != 2:
        raise DataError(_not_a_table(shape))
    if shape[1] == 0:
        raise DataError(f"Found array with 0 feature(s) (shape={tuple(shape)}) while a minimum of 1 is required.")
    if reset and shape[0] == 0:
        raise DataError(_no_rows(shape, blocks_of(X, "X").name))
    _refuse_dtype(X, X.name if isinstance(X, Blocks) else None)
    if finite and not is_lazy(X):
        refuse_nonfinite(X)
    if names is None or reset:
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        if names is not None:
            estimator.feature_names_in_ = np.asarray(names, dtype=object)
    else:
        _check_names(estimator, X, names)
    return X


def _refuse_sparse(estimator: Any, X: Any) -> None:
    """Refuse sparse rows, with what to do; `estimator` may know better."""
    why = getattr(estimator, "_why_dense", None)
    raise DataError(
        "Sparse data was passed for X, but dense data is required: "
        f"{type(estimator).__name__} takes dense rows; make them dense with .toarray(), by blocks if they are many"
        if why is None
        else why(),
        source=X.name if isinstance(X, Blocks) else None,
    )


def _check_names(estimator: Any, X: Any, names: Array) -> None:
    """Compare the columns of a container with names that scikit-learn cannot see, in its own words."""
    fitted = getattr(estimator, "feature_names_in_", None)
    if fitted is None:
        message = f"X has feature names, but {type(estimator).__name__} was fitted without feature names"
        warnings.warn(message, UserWarning, stacklevel=2)
        validate_data(estimator, X, reset=False, skip_check_array=True)
        return
    if list(fitted) == list(names):
        return
    message = "The feature names should match those that were passed during fit.\n"
    for what, found in (
        ("Feature names unseen at fit time", set(names) - set(fitted)),
        ("Feature names seen at fit time, yet now missing", set(fitted) - set(names)),
    ):
        if found:
            message += f"{what}:\n" + "".join(f"- {name}\n" for name in sorted(found)[:5])
    if set(names) == set(fitted):
        message += "Feature names must be in the same order as they were in fit.\n"
    # A Dask array made of a data frame has a name of this library's making.
    raise DataError(message, source=X.name if isinstance(X, Blocks) else "X")


def _opened(X: Any) -> Any:
    """Scan what is not an array yet: paths, callables; refuse what can be read only once."""
    made = isinstance(X, Iterator) or (callable(X) and not hasattr(X, "shape"))
    if made or hasattr(X, "__fspath__") or is_lazy_frame(X):
        return scan(X)
    if isinstance(X, str):
        raise DataError(f"got text where rows were expected; to read a file pass ooclearn.scan({X!r})")
    return X


def _checked_plain(estimator: Any, X: Any, *, reset: bool, sparse: bool, finite: bool) -> Any:
    _refuse_kinds(X)
    try:
        out = validate_data(
            estimator, X, reset=reset, accept_sparse="csr" if sparse else False, ensure_all_finite=False
        )
    except ValueError as error:
        _retell(str(error), X)
        raise
    if not hasattr(out, "tocsr") and out.dtype.kind == "O":
        # Numbers of a polars frame that NumPy has no dtype for: decimals, truth values with gaps.
        out = _from_objects(X, out)
    if finite:
        try:
            refuse_nonfinite(out)
        except DataError as error:
            raise error.located(source="X", names=getattr(estimator, "feature_names_in_", None)) from None
    return out


def _retell(text: str, X: Any) -> None:
    """Raise in other words what scikit-learn says with cells in it: a whole array, or the text that is no number."""
    said = None
    if text.startswith("Expected 2D array"):
        said = _not_a_table(np.shape(X))
    elif text.startswith("Found array with dim"):
        said = f"{text} {_not_a_table(np.shape(X))}"
    elif text.startswith("Found array with 0 sample"):
        said = f"{text.rstrip('.')}: there are no rows in X"
    elif text.startswith("Complex data not supported"):
        said = "Complex data not supported: X has complex numbers; expected real numbers"
    elif "inhomogeneous shape" in text:
        said = "the rows of X have different lengths; expected as many numbers in each"
    elif "could not convert string" in text:
        said = f"could not convert string to float: {_columns_of_text(X)}; {_NUMBERS}"
    if said is not None:
        raise DataError(said) from None


def _from_objects(X: Any, values: Array) -> Array:
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        raise DataError(f"could not convert to float: {_columns_of_text(X)}; {_NUMBERS}") from None


_NUMBERS = (
    "expected numbers: select the numeric columns, encode text and categories, and make dates numbers "
    "(for example seconds as float64) first"
)
# So many columns are named in a message.
_NAMED = 10


def _not_a_table(shape: tuple[int, ...]) -> str:
    hint = (
        "reshape(-1, 1) if it is one column, reshape(1, -1) if it is one row"
        if len(shape) < 2
        else "reshape(len(X), -1) puts all that belongs to a row side by side"
    )
    return f"Expected 2D array of rows and columns, got an array of shape {tuple(shape)}. Reshape your data: {hint}"


def _refuse_kinds(X: Any) -> None:
    """Refuse what scikit-learn would take for numbers, or refuse in words that do not say where."""
    if X is None:
        raise DataError("Expected 2D array of rows and columns, got None for X")
    if hasattr(X, "columns") and hasattr(X, "dtypes"):
        _refuse_columns(X)
    elif isinstance(X, np.ma.MaskedArray):
        raise DataError("got a masked array, whose mask would be lost; fill what is masked first: X.filled(np.nan)")
    elif isinstance(X, np.ndarray) and X.dtype.kind not in "cO":
        _refuse_dtype(X, None)


def _refuse_columns(X: Any) -> None:
    """Refuse a data frame with columns of text or dates, naming them."""
    import narwhals as nw  # scikit-learn brings it; only data frames need it

    try:
        frame = nw.from_native(X, eager_only=True)
    except TypeError:
        return
    # Beside columns that have gaps, pandas leaves the imaginary parts out.
    complex_numbers = [
        name for name, dtype in zip(X.columns, X.dtypes, strict=True) if getattr(dtype, "kind", "") == "c"
    ]
    if complex_numbers:
        raise DataError(f"Complex data not supported: {_named(X, complex_numbers)} not real; expected real numbers")
    # pandas' object columns may hold numbers, which scikit-learn converts.
    bad = [
        name
        for name, dtype in frame.schema.items()
        if not (dtype.is_numeric() or dtype in {nw.Boolean, nw.Object, nw.Unknown})
    ]
    if bad:
        raise DataError(f"could not convert string to float: {_named(X, bad)} not numeric; {_NUMBERS}")


def _named(X: Any, columns: Sequence[Any]) -> str:
    """Return columns of a data frame with their dtypes, as the subject of a sentence."""
    dtypes = dict(zip(X.columns, X.dtypes, strict=True))
    listed = ", ".join(f"{name!r} ({dtypes[name]})" for name in columns[:_NAMED])
    more = f" and {len(columns) - _NAMED} more" if len(columns) > _NAMED else ""
    return f"columns {listed}{more} are" if len(columns) > 1 else f"column {listed} is"


def _columns_of_text(X: Any) -> str:
    """Say which columns of objects hold something that is no number."""
    if hasattr(X, "columns") and hasattr(X, "dtypes"):
        bad = [
            name
            for name, dtype in zip(X.columns, X.dtypes, strict=True)
            if str(dtype) == "object" and _is_text(X[name])
        ]
        return f"{_named(X, bad)} not numeric" if bad else "X holds text"
    values = np.asarray(X)
    if values.ndim != 2:
        return "X holds text"
    numbers_of = [str(j) for j in range(values.shape[1]) if _is_text(values[:, j])]
    more = f" and {len(numbers_of) - _NAMED} more" if len(numbers_of) > _NAMED else ""
    plural = "s" if len(numbers_of) > 1 else ""
    return f"column{plural} {', '.join(numbers_of[:_NAMED])}{more} of dtype {values.dtype} hold{'' if plural else 's'} text"


def _is_text(column: Any) -> bool:
    try:
        np.asarray(column, dtype=object).astype(np.float64)
    except (TypeError, ValueError):
        return True
    return False


def _refuse_dtype(X: Any, source: str | None) -> None:
    dtype = host_dtype(X)
    kind = dtype.kind
    if kind in "fiub":
        return
    if kind == "c":
        raise DataError("Complex data not supported: X has a complex dtype; expected real numbers", source=source)
    if kind in "mM":
        raise DataError(f"X has dtype {dtype}, dates or durations; {_NUMBERS}", source=source)
    if kind in "US":
        raise DataError(
            f"X has dtype {dtype}, text: dtype='numeric' is not compatible with arrays of bytes/strings; {_NUMBERS}",
            source=source,
        )
    raise DataError(f"X has dtype {dtype}; {_NUMBERS}", source=source)


def checked_table(
    estimator: Any, X: Any, y: Any = None, sample_weight: Any = None, *, reset: bool, sparse: bool = False
) -> Table:
    """Return the table of what the user passed to ``fit``, checked and cut at the same rows."""
    X, y = split_target(X, y)
    rows = checked_rows(estimator, X, reset=reset, sparse=sparse)
    return as_table(rows, y, sample_weight, names=getattr(estimator, "feature_names_in_", None))


def split_target(X: Any, y: Any) -> tuple[Any, Any]:
    """Take a `y` that is given as the name of a column out of a data frame."""
    if not isinstance(y, str):
        return X, y
    columns = list(getattr(X, "columns", ()))
    if y not in columns:
        known = ", ".join(map(repr, columns[:_NAMED])) + (", ..." if len(columns) > _NAMED else "")
        what = f"the columns {known}" if columns else f"no names of columns (it is a {type(X).__name__})"
        instead = f"; to read a file pass ooclearn.scan({y!r})" if y.endswith(".npy") else "; pass the target itself"
        raise DataError(f"y={y!r} is taken for the name of a column, and X has {what}{instead}")
    rest = [name for name in columns if name != y]
    return X[rest], X[y]


def as_table(X: Any, y: Any = None, sample_weight: Any = None, *, names: Array | None = None) -> Table:
    """Return containers as a table, on the backend of the configuration or of `X`.

    Parameters
    ----------
    X, y, sample_weight : container
        The parts.
    names : array of str, optional
        Names of the columns, where `X` has been made of something that had them.
    """
    blocks = blocks_of(X, "X")
    if blocks is not X:
        warn_of_small_blocks(blocks)
    if names is not None and blocks.names is None and len(names) == blocks.n_columns:
        blocks = copy.copy(blocks)
        blocks.names = names
    backend = get_config()["backend"]
    if backend is not None and blocks.backend_name == "numpy":
        blocks = scan(get_backend(backend).adopt(blocks))
    if not blocks.n_rows and blocks.n_rows is not None:
        raise DataError(_no_rows(blocks.shape, blocks.name))
    target = None if y is None else blocks_of(_listed(y), "y")
    weights = None if sample_weight is None else _weights(sample_weight, blocks)
    return Table(blocks, target, weights)


def _no_rows(shape: tuple[int, ...], source: str) -> str:
    return (
        f"Found array with 0 sample(s) (shape={tuple(shape)}) while a minimum of 1 is required: "
        f"there are no rows in {source}"
    )


def blocks_of(x: Any, role: str) -> Blocks:
    """Return a container as Blocks."""
    if isinstance(x, Blocks):
        return x
    backend = owner_of(x)
    if backend is None:
        return scan(x)
    return backend.blocks(x, name=role)


def _listed(y: Any, role: str = "y") -> Any:
    """Return what no backend owns (a list, a series) as a NumPy array."""
    y = _opened(y)
    listed = y if owner_of(y) is not None else np.asarray(y)
    if getattr(listed, "ndim", None) == 0:
        raise DataError(f"{role} should be a 1d array, got an array of shape () instead: one entry for each row")
    return listed


def _weights(sample_weight: Any, X: Blocks) -> Blocks:
    if isinstance(sample_weight, numbers.Real):
        if X.n_rows is None:
            raise DataError("a single number for sample_weight needs a known number of rows; leave it out")
        sample_weight = np.full(X.n_rows, float(sample_weight))
    weights = _listed(sample_weight, "sample_weight")
    if isinstance(weights, np.ndarray) and weights.dtype.kind not in "fiub":
        dtype = weights.dtype
        try:
            weights = weights.astype(np.float64)
        except (TypeError, ValueError):
            raise DataError(f"sample_weight has dtype {dtype}; expected numbers, one for each row") from None
    blocks = blocks_of(weights, "sample_weight")
    if blocks.ndim != 1:
        raise DataError(f"Sample weights must be 1D array or scalar, got shape {blocks.shape}")
    return blocks


def host_array(x: Any, /) -> Array:
    """Return a whole container as one NumPy array."""
    owner = owner_of(x)
    if owner is None:
        return np.asarray(x)
    return owner.blocks(x).to_numpy() if not isinstance(x, np.ndarray) else np.asarray(x)
