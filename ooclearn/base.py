"""What estimators share: fits that run passes and commit at the end, mergeable fits, maps over any container."""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import repeat
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from ooclearn._forking import in_a_child
from ooclearn.backend import backend_of, get_backend
from ooclearn.config import get_config
from ooclearn.exceptions import BusyError, DataError
from ooclearn.passes import Fit, Request, Stage, run
from ooclearn.plan import Plan, planned
from ooclearn.rowmaps import Kind, RowMap, compose
from ooclearn.statistics.protocol import Statistic
from ooclearn.table import Schema, Table
from ooclearn.validation import checked_rows, checked_table, is_lazy, is_plain

__all__ = [
    "Estimator",
    "Mergeable",
    "MergeableTransformer",
    "RowMapTransformer",
    "busy",
    "commit",
    "commit_all",
    "gives_frames",
    "mapped",
    "replace_contents",
    "require_alike",
    "unfitted_copy",
]

_busy_lock = threading.Lock()
_busy: dict[int, int] = {}


@in_a_child
def _nobody_is_busy() -> None:
    """Forget the fits under way: a child of ``fork`` has none of the threads that they run in."""
    global _busy_lock
    _busy_lock = threading.Lock()
    _busy.clear()


@contextmanager
def busy(*estimators: object) -> Iterator[None]:
    """Refuse that two threads fit one estimator at a time: updates would be lost without a word."""
    me = threading.get_ident()
    mine: list[int] = []
    try:
        # Inside, so that a Ctrl-C at any moment leaves no estimator marked for good.
        with _busy_lock:
            for estimator in estimators:
                if _busy.get(id(estimator), me) != me:
                    raise BusyError(
                        f"this {type(estimator).__name__} is being fitted by another thread; "
                        "fit copies (sklearn.base.clone) and merge them, or take turns"
                    )
            mine += [id(estimator) for estimator in estimators if id(estimator) not in _busy]
            _busy.update(dict.fromkeys(mine, me))
        yield
    finally:
        with _busy_lock:
            for key in mine:
                _busy.pop(key, None)


def _is_fitted_name(name: str) -> bool:
    return name.endswith("_") and not name.startswith("__")


def unfitted_copy(estimator: Any, /) -> Any:
    """Return a shallow copy without what a fit has set: a fit works on it and commits at the end.

    With ``warm_start``, one of this library finds what the last fit has set in ``_learned``.
    """
    working = copy.copy(estimator)
    if isinstance(estimator, Estimator) and getattr(estimator, "warm_start", False):
        working._learned = {name: value for name, value in vars(estimator).items() if _is_fitted_name(name)}
    for name in [name for name in vars(working) if _is_fitted_name(name)]:
        delattr(working, name)
    return working


def _is_learned(estimator: Any, name: str) -> bool:
    """Say whether a fit sets an attribute; a subclass of scikit-learn's tells which others its parent's does."""
    return _is_fitted_name(name) or name in getattr(estimator, "_also_learned", ())


def commit(estimator: Any, working: Any, /) -> None:
    """Give `estimator` what a fit has set on its working copy, in place of what it had; all of it or nothing."""
    commit_all([(estimator, working)])


def commit_all(pairs: Iterable[tuple[Any, Any]], /, *, others: Iterable[tuple[Any, dict[str, Any]]] = ()) -> None:
    """Do as :func:`commit` for several estimators and their working copies, for all of them or for none.

    In the same step, `others` are given other attributes altogether.
    """
    estimators = []
    contents = []
    for estimator, working in pairs:
        kept = {name: value for name, value in vars(estimator).items() if not _is_learned(estimator, name)}
        estimators.append(estimator)
        contents.append(kept | {name: value for name, value in vars(working).items() if _is_learned(estimator, name)})
    for one, attributes in others:
        estimators.append(one)
        contents.append(attributes)
    replace_contents(estimators, contents)


def replace_contents(objects: Sequence[Any], contents: Sequence[dict[str, Any]], /) -> None:
    """Give each object other attributes, in one step that no signal can come between."""
    # What is replaced lives on until all is done, so that no destructor runs Python code in between.
    before = [vars(one) for one in objects]
    # Ctrl-C is looked for between the operations of the interpreter, and this, in C, is one of them.
    deque(map(object.__setattr__, objects, repeat("__dict__"), contents), maxlen=0)
    del before


class Estimator(BaseEstimator):
    """An estimator whose fit is a coroutine that asks for passes.

    A subclass gives ``_requests`` (what the fit asks for, in order, as far as it is known beforehand), ``_passes``
    (the fit itself) and ``_row_map`` (what it does to rows once fitted).
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}
    _doc_link_module = "ooclearn"

    def _requests(self, schema: Schema) -> Sequence[Request]:
        """Return what ``_passes`` will ask for, in order."""
        raise NotImplementedError(f"{type(self).__name__} must define _requests")  # a subclass's duty, not a path

    def _passes(self, schema: Schema) -> Fit:
        """Fit: yield requests, be sent answers, set fitted attributes."""
        raise NotImplementedError(f"{type(self).__name__} must define _passes")  # a subclass's duty, not a path

    def _row_map(self) -> RowMap | None:
        """Return what ``transform`` does to rows."""
        raise NotImplementedError(f"{type(self).__name__} must define _row_map")  # a subclass's duty, not a path

    def _map_kind(self) -> Kind | None:
        """Return what kind of map this will be, known before it is fitted; None if statistics cannot be seen through it."""
        return None

    def _table(self, X: Any, y: Any = None, sample_weight: Any = None, *, reset: bool = True) -> Table:
        """Return what was passed to ``fit`` as a table, checked; sets ``n_features_in_`` on `self`."""
        return checked_table(self, X, y, sample_weight, reset=reset, sparse=_takes_sparse(self))

    def _take_params(self, params: dict[str, Any]) -> None:
        """Take what a pipeline passes to this step's ``fit``, sample weights excepted."""
        if params:
            raise TypeError(f"{type(self).__name__}.fit() got an unexpected keyword argument {next(iter(params))!r}")

    def _fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        with busy(self):
            self._validate_params()
            working = unfitted_copy(self)
            table = working._table(X, y, sample_weight)
            run([Stage(type(self).__name__, working._passes(table.schema))], table)
            commit(self, working)
        return self

    def explain(self, X: Any, y: Any = None, sample_weight: Any = None) -> Plan:
        """Return the passes that ``fit`` will make, without reading any data.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks of shape (n_samples,) or (n_samples, n_targets), optional
            The targets, where ``fit`` takes any.
        sample_weight : array-like or Blocks of shape (n_samples,), optional
            Weights of the rows, where ``fit`` takes any.

        Returns
        -------
        Plan
            The passes: what each answers, what it reads, its memory, and why it is needed. A plan prints itself.
        """
        self._validate_params()
        working = unfitted_copy(self)
        table = working._table(X, y, sample_weight)
        requests = working._requests(table.schema)
        return planned([Stage(type(self).__name__, (request for request in requests))], table)


class RowMapTransformer(OneToOneFeatureMixin, TransformerMixin, Estimator):
    """A transformer that is a row map: ``transform`` takes any container and gives the same kind back."""

    def _transform_map(self) -> RowMap | None:
        """Return what ``transform`` applies to rows: the row map, and checks of what comes out where there are any."""
        return self._row_map()

    def _inverse_row_map(self) -> RowMap | None:
        return None

    def _method_map(self, method: str, *, n_columns: int | None, dtype: Any) -> RowMap:  # noqa: ARG002  (the protocol's)
        return compose(self._transform_map() if method == "transform" else self._inverse_row_map())

    def transform(self, X: Any) -> Any:
        """Transform the rows of `X`, by blocks, in parallel.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows. They are not written to.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_features_out)
            Computed at once for arrays in memory; lazily, reading nothing yet, for Blocks, memory maps and Dask arrays.
            Lists and data frames give NumPy arrays, or what ``set_output`` says. float32 stays float32.

        Raises
        ------
        NonFiniteError
            A cell is infinite, or missing where missing values are not allowed; the message says where. A lazy result
            raises when it is computed.
        """
        check_is_fitted(self)
        X = checked_rows(self, X, reset=False, sparse=_takes_sparse(self))
        framed = gives_frames(self, X)
        out = mapped(self._transform_map(), X)
        # Data frames are made of host arrays.
        return backend_of(out).to_host(out) if framed else out


def gives_frames(estimator: Any, X: Any, /) -> bool:
    """Say whether ``set_output`` turns the result for `X` into a data frame; refuse that of a lazy one."""
    settings = getattr(estimator, "_sklearn_output_config", {})
    from sklearn import get_config

    output = settings.get("transform", get_config()["transform_output"])
    if output != "default" and is_lazy(X):
        raise DataError(
            f"set_output asks for {output} and the result is lazy: it would be read into memory whole. "
            'Use set_output(transform="default"), or turn a part of it into an array first'
        )
    return bool(output != "default")


def mapped(row_map: RowMap | None, X: Any, /) -> Any:
    """Apply a row map to a container, through the backend that owns it, or the device that works on what the host has."""
    if row_map is None:
        return X
    owner = backend_of(X)
    chosen = get_config()["backend"]
    if chosen is not None and owner.name == "numpy":
        # Of a device; other backends are asked for lazy containers of their own.
        on_device = getattr(get_backend(chosen), "map_for_host", None)
        if on_device is not None:
            return on_device(row_map, X)
    return owner.map(row_map, X)


def require_alike(estimator: Any, other: Any, /) -> None:
    """Raise unless two estimators are fitted, of one class, and to as many columns, so that they can be merged."""
    name = type(estimator).__name__
    if type(other) is not type(estimator):
        raise TypeError(f"a {name} merges with its like, got a {type(other).__name__}")
    check_is_fitted(estimator)
    check_is_fitted(other)
    if estimator.n_features_in_ != other.n_features_in_:
        raise DataError(
            f"X has {other.n_features_in_} features in the other, but {name} is expecting {estimator.n_features_in_} "
            "features as input"
        )


class Mergeable(Estimator):
    """An estimator whose fit is one statistic, and so has ``partial_fit`` and ``merge`` for nothing.

    A subclass gives ``_statistic`` and ``_set_from(state)``, and ``_meet(schema)`` if it has to know more of the table.
    """

    def _meet(self, schema: Schema) -> None:
        """Look at what is known of a table before it is read."""

    def _statistic(self, schema: Schema) -> Statistic[Any]:
        raise NotImplementedError(f"{type(self).__name__} must define _statistic")  # a subclass's duty, not a path

    def _set_from(self, state: Any) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define _set_from")  # a subclass's duty, not a path

    def _requests(self, schema: Schema) -> Sequence[Request]:
        return [self._statistic(schema)]

    def _passes(self, schema: Schema) -> Fit:
        self._meet(schema)
        self._take((yield self._statistic(schema)), schema.dtype)

    def _take(self, state: Any, *dtypes: np.dtype[Any]) -> None:
        self._remember(state, *dtypes)
        self._set_from(state)

    def _remember(self, state: Any, *dtypes: np.dtype[Any]) -> None:
        """Keep what the fit can be grown from."""
        self._dtype_ = np.result_type(*(dtype if dtype.kind == "f" else np.float64 for dtype in dtypes))
        self._state_ = state

    def _grow(self, X: Any, sample_weight: Any = None, y: Any = None) -> Self:
        with busy(self), ExitStack():
            self._validate_params()
            first = not hasattr(self, "_state_")
            working = unfitted_copy(self) if first else copy.copy(self)
            table = working._table(X, y, sample_weight, reset=first)
            working._meet(table.schema)
            statistic = working._statistic(table.schema)
            answer: list[Any] = []

            def ask() -> Fit:
                answer.append((yield statistic))

            run([Stage(type(self).__name__, ask())], table)
            state = answer[0] if first else statistic.merge(self._state_, answer[0])
            working._take(state, table.schema.dtype, *([] if first else [self._dtype_]))
            commit(self, working)
        return self

    def merge(self, other: Self, /) -> Self:
        """Add what `other` has learned, as if `self` had been fitted to the rows of both. Reads no data.

        Parameters
        ----------
        other : estimator of the same class, fitted
            Its `n_features_in_` must be the same. It is not changed.

        Returns
        -------
        self : object
            This estimator, with the rows of both.

        Raises
        ------
        TypeError
            `other` is of another class.
        DataError
            It was fitted to another number of columns.
        """
        require_alike(self, other)
        with busy(self):
            working = copy.copy(self)
            statistic = working._statistic(None)  # type: ignore[arg-type]  # merging needs no schema
            state = statistic.merge(self._state_, other._state_)
            working._take(state, self._dtype_, other._dtype_)
            commit(self, working)
        return self


class MergeableTransformer(RowMapTransformer, Mergeable):
    """A transformer whose fit is one statistic; it can be undone."""

    def inverse_transform(self, X: Any) -> Any:
        """Map transformed rows back to the original columns, by blocks, in parallel.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features_out)
            Transformed rows. They are not written to.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_features)
            At once or lazily, as :meth:`transform` does it.
        """
        check_is_fitted(self)
        # What comes back may lack the names: only the number of columns is compared.
        X = np.asarray(X) if hasattr(X, "columns") and is_plain(X) else X
        X = checked_rows(_nameless(self), X, reset=False, sparse=_takes_sparse(self))
        return mapped(self._inverse_row_map(), X)


def _takes_sparse(estimator: Any) -> bool:
    return bool(get_tags(estimator).input_tags.sparse)


def _nameless(estimator: Any) -> Any:
    """Return a copy of `estimator` that expects what comes out of it, without names of columns."""
    working = copy.copy(estimator)
    vars(working).pop("feature_names_in_", None)
    working.n_features_in_ = getattr(estimator, "_n_features_out", estimator.n_features_in_)
    return working
