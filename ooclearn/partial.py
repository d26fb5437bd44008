"""Driving ``partial_fit``: first calls, weights, and what scikit-learn's estimators need looked after."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn
from sklearn.base import BaseEstimator, is_classifier
from sklearn.utils import get_tags

from ooclearn.backend import backend_of
from ooclearn.blocks import concatenated
from ooclearn.exceptions import DataError, DataWarning, warn
from ooclearn.labels import Labels
from ooclearn.statistics.checks import refuse_nonfinite, refuse_weights
from ooclearn.storage.arrays import host_dtype
from ooclearn.table import Rows
from ooclearn.types import Array

__all__ = ["Check", "Trainer", "check_supported", "models_in", "takes"]

# How unlikely it must be, if rows came in random order, that a first block holds a single class, to say "sorted".
_CHANCE = 1e-6
# The same where the shares of the classes are not known.
_MANY_ROWS = 1_000


def takes_device_arrays(estimator: Any, /) -> bool:
    """Say whether ``partial_fit`` is to be given arrays of a device as they are.

    An estimator says so by an attribute ``takes_device_arrays``; RAPIDS cuML's do, and scikit-learn's that know the
    array API, when its ``array_api_dispatch`` is on. All others get host arrays.
    """
    said = getattr(estimator, "takes_device_arrays", None)
    if said is not None:
        return bool(said)
    if any(cls.__module__.partition(".")[0] == "cuml" for cls in type(estimator).__mro__):
        return True
    dispatched = bool(sklearn.get_config()["array_api_dispatch"]) and isinstance(estimator, BaseEstimator)
    return dispatched and bool(get_tags(estimator).array_api_support)


def leaves_rows(estimator: Any, /) -> bool:
    """Say whether ``partial_fit`` is known to write to no row: of scikit-learn's estimators that is tested."""
    models = list(models_in(estimator))
    theirs = all(type(model).__module__.startswith(("sklearn.", "ooclearn.")) for model in models)
    return theirs and all(getattr(model, name, True) for model in models for name in ("copy", "copy_x"))


def host(x: Array | None) -> Array | None:
    """Return an array on the host."""
    return x if x is None or isinstance(x, np.ndarray) or hasattr(x, "tocsr") else backend_of(x).to_host(x)


def models_in(estimator: Any, /) -> Iterator[Any]:
    """Yield an estimator and those among its parameters that are trained with it."""
    yield estimator
    if hasattr(estimator, "get_params"):
        for inner in estimator.get_params(deep=False).values():
            if hasattr(inner, "partial_fit") and not isinstance(inner, type):
                yield from models_in(inner)


def takes(estimator: Any, name: str, /) -> bool:
    """Say whether ``partial_fit`` takes a parameter of that name, by itself or for the estimator inside."""
    parameters = _parameters(estimator.partial_fit)
    if name in parameters:
        return True
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values()):
        return False
    # SelectFromModel and its like hand everything on.
    inner = [model for model in models_in(estimator) if model is not estimator]
    if inner:
        return any(takes(model, name) for model in inner)
    # And so does a method that a class of the user's puts around that of its base.
    methods = [getattr(cls, "partial_fit", None) for cls in type(estimator).__mro__]
    return name != "classes" or any(name in _parameters(method) for method in methods if method is not None)


def _parameters(method: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(method).parameters
    except ValueError:  # compiled, and does not say
        return {}


def check_supported(estimator: Any, /) -> None:
    """Refuse, before any data is read, settings with which ``partial_fit`` is known to go wrong."""
    for model in models_in(estimator):
        name = type(model).__name__
        if getattr(model, "early_stopping", False):
            raise ValueError(f"early_stopping should be False with partial_fit, which {name} is trained by here")
        averaged = getattr(model, "average", False) and getattr(model, "fit_intercept", False)
        if averaged and is_classifier(model) and type(model).__module__.startswith("sklearn."):
            raise ValueError(
                f"{name}(average={model.average!r}) loses its intercept from one partial_fit to the next (scikit-learn "
                "keeps only the average), so the result would be wrong. Use average=False, or fit_intercept=False on "
                "centred rows"
            )


def _is(estimator: Any, module: str, *names: str) -> bool:
    """Say whether an estimator is of these classes of scikit-learn, importing nothing."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(estimator, tuple(getattr(loaded, name) for name in names))


def _counts_only(estimator: Any) -> bool:
    """Say whether a classifier takes rows in any order to the same result."""
    bayes = ("BernoulliNB", "CategoricalNB", "ComplementNB", "GaussianNB", "MultinomialNB")
    return any(_is(model, "sklearn.naive_bayes", *bayes) for model in models_in(estimator))


@dataclass(frozen=True)
class Check:
    """Looks at the targets and weights of a block, in a worker: finite, not negative, none but the known labels."""

    labels: Labels

    def __call__(self, rows: Rows, /) -> None:
        """Raise if they will not do."""
        if rows.w is not None:
            refuse_weights(rows.w)
        y = host(rows.y) if rows.labels is None else rows.labels
        if y is None or hasattr(y, "tocsr"):
            return
        if y.dtype.kind == "f" and y.size and not np.isfinite(y.sum()):
            refuse_nonfinite(y, role="y")
        self.labels.check(y)


class Trainer:
    """Hands blocks to ``partial_fit``.

    Blocks without rows, or without a row that has weight, are left out: scikit-learn refuses them. The first are held
    back until there are rows enough for the estimator to begin with. All go in with the same floating dtype.

    Parameters
    ----------
    estimator : object
        Is trained in place.
    labels : Labels
        What can occur.
    params : dict
        Passed to every call.
    dtype : dtype or None
        Of the rows that it was trained on first.
    new : bool
        It was not trained before.
    mixed : bool
        Rows come in random order, as far as the container lets them.
    """

    def __init__(
        self,
        estimator: Any,
        labels: Labels,
        params: dict[str, Any],
        *,
        dtype: np.dtype[Any] | None = None,
        new: bool = True,
        mixed: bool = False,
    ) -> None:
        self.estimator = estimator
        self.labels = labels
        self.dtype = dtype
        self.n_columns: int | None = None
        self._params = params
        self._new = new
        self._mixed = mixed
        self._on_device = takes_device_arrays(estimator)
        self._look = new and isinstance(labels.classes, np.ndarray) and not _counts_only(estimator)
        self._held: list[Rows] = []
        self._calls = 0
        self._alone = False

    def consume(self, rows: Rows, /) -> None:
        """Train on one block."""
        w = host(rows.w)
        if not rows.n or (w is not None and not w.any()):
            return
        if self._on_device:
            self.dtype = self.dtype or host_dtype(rows.X)
            self.n_columns = rows.X.shape[1] if rows.X.ndim > 1 else None
        else:
            rows = Rows(self._cast(host(rows.X)), host(rows.y), w)
        if self._new and not self._calls:
            self._held.append(rows)
            if sum(held.n for held in self._held) < self._at_least(rows):
                return
            rows, self._held = _together(self._held), []
        self._train(rows)

    def _cast(self, X: Any) -> Any:
        if self.dtype is None:
            self.dtype = X.dtype
        self.n_columns = X.shape[1] if X.ndim > 1 else None
        if self.dtype == X.dtype or X.dtype.kind not in "fiub":
            return X
        # Coefficients keep the dtype of the first block, and scikit-learn's loops know no mixture.
        return X.astype(self.dtype if self.dtype in (np.float32, np.float64) else np.float64)

    def _at_least(self, rows: Rows) -> int:
        """Return how many rows the first call needs."""
        params = self.estimator.get_params(deep=False) if hasattr(self.estimator, "get_params") else {}
        wanted = [params.get(name) for name in ("n_clusters", "n_components")]
        if "n_components" in params and params["n_components"] is None and rows.X.ndim == 2:
            wanted.append(rows.X.shape[1])
        return max([1, *(int(n) for n in wanted if isinstance(n, (int, np.integer)))])

    def _train(self, rows: Rows) -> None:
        self.labels.see(host(rows.y))
        self._look_for_order(rows)
        args = [rows.X] if rows.y is None else [rows.X, rows.y]
        params = dict(self._params)
        if rows.w is not None:
            params["sample_weight"] = rows.w
        if self._new and not self._calls and self.labels.classes is not None:
            params["classes"] = self.labels.classes
        # Cells were looked at by the workers, in cache, while the block before was trained on; parameters are looked at
        # with the first block.
        with sklearn.config_context(assume_finite=True, skip_parameter_validation=self._calls > 0):
            self.estimator.partial_fit(*args, **params)
        self._calls += 1

    def _look_for_order(self, rows: Rows) -> None:
        """Warn at the second block if the first held one class alone, which random order makes next to impossible."""
        y = host(rows.y)
        if not self._look or self._calls > 1 or y is None or y.ndim != 1 or len(self.labels.classes) < 2:
            return
        if self._calls == 0:
            share = self.labels.share(y[0])
            rare = share**rows.n < _CHANCE if share is not None else rows.n >= _MANY_ROWS
            self._alone = rare and bool((y == y[0]).all())
        elif self._alone:
            advice = (
                "The container is read chunk by chunk: cut it into more, smaller ones, so that several make up a block"
                if self._mixed
                else "Use Incremental(..., shuffle=True), which draws every block from all over the table"
            )
            warn(
                "the first block holds one class alone: the rows seem to be sorted by class, and training on them in "
                f"this order gives a poor model. {advice}",
                DataWarning,
            )

    def end_epoch(self) -> None:
        """Train on what was held back; complain if there was nothing."""
        if self._held:
            rows, self._held = _together(self._held), []
            self._train(rows)
        if not self._calls:
            raise DataError("there was no row to train on, or all sample weights are zero")

    def mark(self) -> Any:
        """Return a copy of the estimator as it is now."""
        return copy.deepcopy(self.estimator)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Set the estimator up for being fed, inside a ``with`` block.

        Its own shuffling of rows that are mixed already, within one block only and with the same seed each time, would
        walk through memory in random order. Labels would be those of the last block alone, and cost as much as the
        training. Birch's clustering of what the blocks have been condensed to is done once, at the end.
        """
        wanted: dict[str, Any] = {"compute_labels": False}
        if self._mixed:
            wanted["shuffle"] = False
        if _is(self.estimator, "sklearn.cluster", "Birch"):
            wanted["n_clusters"] = None
        params = self.estimator.get_params(deep=False) if hasattr(self.estimator, "set_params") else {}
        before = {name: params[name] for name in wanted if params.get(name)}
        if before:
            self.estimator.set_params(**{name: wanted[name] for name in before})
        yield
        if before:
            self.estimator.set_params(**before)
        if "n_clusters" in before:
            self.estimator.partial_fit()


def _together(held: list[Rows]) -> Rows:
    if len(held) == 1:
        return held[0]
    parts = zip(*((rows.X, rows.y, rows.w) for rows in held), strict=True)
    return Rows(*[None if part[0] is None else concatenated(part) for part in parts])
