"""Scores of fitted estimators over tables, one pass each."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from ooclearn.backend import backend_of
from ooclearn.blocks import Blocks
from ooclearn.events import Work
from ooclearn.exceptions import DataError
from ooclearn.methods import named
from ooclearn.rowmaps import RowMap, Rowwise
from ooclearn.statistics.checks import refuse_nonfinite, refuse_weights
from ooclearn.statistics.protocol import is_summed
from ooclearn.table import Table
from ooclearn.types import Array
from ooclearn.validation import host_array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["Accuracy", "BlockScores", "Residuals", "SampleScores", "score_of", "scored_by"]


def _host(x: Array) -> Array:
    if hasattr(x, "tocsr"):
        return x.toarray()
    return x if isinstance(x, np.ndarray) else backend_of(x).to_host(x)


def _targets(values: Array) -> Array:
    values = np.asarray(_host(values), dtype=np.float64)
    return values[:, None] if values.ndim == 1 else values


def _numbers(y: Array) -> Array:
    """Return targets as finite numbers: of NaN no score would follow, or a perfect one."""
    y = _host(y)
    try:
        values = y if y.dtype.kind in "US" else np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError):
        values = y
    if values.dtype.kind != "f":
        raise DataError(
            f"y has dtype {y.dtype}, and not all that is in it are numbers; expected numbers", part="y"
        ) from None
    refuse_nonfinite(values, role="y")
    return values


def _is_text(labels: Array) -> bool:
    first = labels.reshape(-1)[0] if labels.dtype.kind == "O" else None
    return labels.dtype.kind in "US" or isinstance(first, str)


def _whole(blocks: Blocks) -> Array:
    array = getattr(getattr(blocks, "source", None), "array", None)
    return array if hasattr(array, "tocsr") else blocks.to_numpy()


def _weights(rows: Rows) -> Array:
    if rows.w is None:
        return np.ones(rows.n)
    refuse_weights(rows.w)
    return np.asarray(_host(rows.w), dtype=np.float64)


@dataclass(frozen=True)
class Accuracy:
    """Weighted share of rows whose prediction is right; for several targets, right in all of them."""

    predict: RowMap
    parts: frozenset[str] = frozenset("Xyw")

    def of(self, rows: Rows, /) -> tuple[float, float]:
        """Return the weight of right rows, and of all."""
        if not rows.n:
            return 0.0, 0.0
        predicted, y = _host(self.predict(rows.X)), _host(rows.y)
        refuse_nonfinite(y, role="y")
        if _is_text(y) != _is_text(predicted):
            raise DataError(
                f"Mix of label input types (string and number): y has dtype {y.dtype} and the predictions {predicted.dtype}; "
                "pass labels of the kind that the model was fitted to",
                part="y",
            )
        # A target of one column counts as one-dimensional, as everywhere in scikit-learn.
        right = predicted == y.reshape(predicted.shape)
        if right.ndim == 2:
            right = right.all(axis=1)
        w = _weights(rows)
        return float(w @ right), float(w.sum())

    def merge(self, a: tuple[float, float], b: tuple[float, float], /) -> tuple[float, float]:
        """Return the sums of `a` and `b`."""
        return a[0] + b[0], a[1] + b[1]


@dataclass(frozen=True, eq=False)
class ResidualsState:
    """Weight, mean and centred squares of each target, the squares of what was predicted amiss, and the rows seen."""

    n: float
    mean: Array
    m2: Array
    residual: Array
    rows: int

    def r2(self) -> float:
        """Return the coefficient of determination, averaged over targets, as scikit-learn defines it.

        It is NaN, with scikit-learn's warning, for less than two rows; and NaN where no row has a weight.
        """
        if self.rows < 2:
            message = "R^2 score is not well-defined with less than two samples."
            warnings.warn(message, UndefinedMetricWarning, stacklevel=4)
        if self.rows < 2 or not self.n:
            return float("nan")
        with np.errstate(invalid="ignore", divide="ignore"):
            each = np.where(self.m2 > 0, 1.0 - self.residual / self.m2, np.where(self.residual > 0, 0.0, 1.0))
        return float(np.mean(each))


@dataclass(frozen=True)
class Residuals:
    """What the coefficient of determination needs, for every target."""

    predict: RowMap
    parts: frozenset[str] = frozenset("Xyw")

    def of(self, rows: Rows, /) -> ResidualsState:
        """Return the state of one block."""
        y = _targets(_numbers(rows.y))
        zeros = np.zeros(y.shape[1])
        if not rows.n:
            return ResidualsState(0.0, zeros, zeros, zeros, 0)
        missed = y - _targets(self.predict(rows.X))
        w = _weights(rows)
        n = float(w.sum())
        if n == 0:
            return ResidualsState(0.0, zeros, zeros, zeros, rows.n)
        mean = (w @ y) / n
        off = y - mean
        return ResidualsState(n, mean, w @ (off * off), w @ (missed * missed), rows.n)

    def merge(self, a: ResidualsState, b: ResidualsState, /) -> ResidualsState:
        """Return the state of the rows of `a` and `b`."""
        if not a.n or not b.n:
            return replace(b if not a.n else a, rows=a.rows + b.rows)
        n = a.n + b.n
        delta = b.mean - a.mean
        m2 = a.m2 + b.m2 + delta * delta * (a.n * b.n / n)
        return ResidualsState(n, a.mean + delta * (b.n / n), m2, a.residual + b.residual, a.rows + b.rows)


@dataclass(frozen=True)
class SampleScores:
    """Number of rows, and the sum of a score of each (PCA: its log-likelihood)."""

    score_samples: RowMap
    parts: frozenset[str] = frozenset("X")

    def of(self, rows: Rows, /) -> tuple[int, float]:
        """Return the number and the sum of one block."""
        if not rows.n:
            return 0, 0.0
        return rows.n, float(np.sum(_host(self.score_samples(rows.X)), dtype=np.float64))

    def merge(self, a: tuple[int, float], b: tuple[int, float], /) -> tuple[int, float]:
        """Return the sums of `a` and `b`."""
        return a[0] + b[0], a[1] + b[1]


@dataclass(frozen=True)
class BlockScores:
    """Sum over blocks of an estimator's own ``score``, which is a sum over rows (k-means: minus the inertia)."""

    estimator: Any
    parts: frozenset[str] = frozenset("Xw")

    def of(self, rows: Rows, /) -> float:
        """Return the score of one block."""
        if not rows.n:
            return 0.0
        X = rows.X if hasattr(rows.X, "tocsr") else _host(rows.X)
        extra = {} if rows.w is None else {"sample_weight": _weights(rows)}
        return float(self.estimator.score(X, **extra))

    def merge(self, a: float, b: float, /) -> float:
        """Return the sum."""
        return a + b


class _Predicted:
    """Stands for an estimator before a scorer: its predictions are made by blocks and handed over as arrays."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._owner, name)
        if name not in ("predict", "predict_proba", "decision_function", "predict_log_proba"):
            return value

        @functools.wraps(value)  # scikit-learn goes by the names of methods
        def whole(X: Any) -> Array:
            return host_array(value(X))

        return whole

    def __sklearn_tags__(self) -> Any:
        return self._owner.__sklearn_tags__()


def scored_by(scoring: Any, owner: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
    """Return what a scorer says of an estimator whose ``predict`` works by blocks.

    Parameters
    ----------
    scoring : str or callable
        The scorer.
    owner : estimator
        Fitted.
    X, y, sample_weight
        Containers. The predictions, y and the weights become arrays; X does not.
    """
    from sklearn.metrics import check_scoring  # 0.05 s to import, and only this path needs it

    scorer = check_scoring(owner, scoring=scoring)
    extra = {} if sample_weight is None else {"sample_weight": host_array(sample_weight)}
    return float(scorer(_Predicted(owner), X, None if y is None else host_array(y), **extra))


def _folded(table: Table, statistic: Any, work: Work) -> Any:
    """Return the state of a score's statistic; what is looked at on the host, of rows that are brought there as a whole.

    Predictions made on a device come back through a ring of buffers, and rows of the host that an estimator wants there
    are not sent to the device at all.
    """
    if not is_summed(statistic):
        name = next((name for name in ("predict", "score_samples") if hasattr(statistic, name)), None)
        rows = table.X if name is None else table.X.map(getattr(statistic, name))
        parts = [part if part is None else part.returned() for part in (rows, table.y, table.w)]
        if rows.backend_name != "numpy" and all(part is None or part.backend_name == "numpy" for part in parts):
            table = Table(*parts)  # type: ignore[arg-type]  # X is there
            statistic = statistic if name is None else replace(statistic, **{name: Rowwise(_as_it_is)})
    return table.backend.fold(table, statistic, work=work)


def _as_it_is(rows: Array) -> Array:
    return rows


def score_of(fitted: Any, table: Table, method_map: Callable[..., RowMap]) -> float:
    """Return the score of a fitted estimator's own over a table.

    Parameters
    ----------
    fitted : estimator
        Fitted.
    table : Table
        The rows.
    method_map : callable
        Takes ``"predict"`` or ``"score_samples"`` and the keywords `n_columns` and `dtype`; returns the row map.
    """
    cls = type(_scored(fitted))
    own = getattr(cls, "score", None)
    work = Work("fold", "score", table.n_rows, table.nbytes, table.n_blocks)

    def predict() -> RowMap:
        if table.y is None:
            raise ValueError(f"{cls.__name__}.score requires y to be passed, but the target y is None.")
        return method_map("predict", n_columns=table.X.n_columns, dtype=table.X.dtype)

    own_statistic = getattr(_scored(fitted), "_score_statistic", None)
    if own_statistic is not None:
        return float(_folded(table, own_statistic(predict()), work).score())
    # Estimators of this library say what their own, which ends here, is.
    kind = getattr(cls, "_score_of_blocks", "")
    if own is ClassifierMixin.score or kind == "accuracy" or _scores_all_targets(own):
        right, total = _folded(table, Accuracy(predict()), work)
        return right / total if total else float("nan")
    if own is RegressorMixin.score or kind == "r2":
        state: ResidualsState = _folded(table, Residuals(predict()), work)
        return state.r2()
    if kind == "mean":
        of_rows = method_map("score_samples", n_columns=table.X.n_columns, dtype=table.X.dtype)
        n, total = _folded(table.only(frozenset("X")), SampleScores(of_rows), work)
        score = total / n
    elif kind == "sum" or _is_sum(own):
        score = _folded(table, BlockScores(fitted), work)
    else:
        # Any other score may be more than a sum over rows, so it gets the rows at once, within the memory limit.
        extra = {} if table.w is None else {"sample_weight": table.w.to_numpy()}
        target = () if table.y is None else (table.y.to_numpy(),)
        score = fitted.score(named(_whole(table.X), fitted), *target, **extra)
    return float(score)


def _scored(fitted: Any) -> Any:
    """Return the estimator whose score is that of `fitted`: the last of a pipeline, the best of a search."""
    while True:
        if isinstance(fitted, FrozenEstimator):
            fitted = fitted.estimator
        elif isinstance(fitted, Pipeline):
            fitted = fitted.steps[-1][1]
        elif hasattr(fitted, "best_estimator_") and getattr(fitted, "scoring", "") is None:
            fitted = fitted.best_estimator_
        else:
            return fitted


def _scores_all_targets(own: Any) -> bool:
    """Say whether a score is the share of rows that are right in every target."""
    loaded = sys.modules.get("sklearn.multioutput")
    return loaded is not None and own is loaded.MultiOutputClassifier.score


def _is_sum(own: Any) -> bool:
    """Say whether a score is a sum over rows: that of k-means is minus the inertia."""
    loaded = sys.modules.get("sklearn.cluster")
    return loaded is not None and own is loaded.KMeans.score
