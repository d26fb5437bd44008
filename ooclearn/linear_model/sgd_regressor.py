"""Linear regression trained by mini-batches, on the device where the rows are."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np

from ooclearn._compat import Interval, StrOptions
from ooclearn.decisions import linear_scores
from ooclearn.labels import Labels
from ooclearn.linear_model._sgd_base import MiniBatchModel
from ooclearn.linear_model._sgd_losses import REGRESSION, SgdLoss, sgd_loss
from ooclearn.linear_model._sgd_training import NumberTargets
from ooclearn.predictors import Regressor
from ooclearn.rowmaps import RowMap
from ooclearn.statistics import DistinctState
from ooclearn.types import Array

__all__ = ["SGDRegressor"]


class SGDRegressor(MiniBatchModel, Regressor):
    """Linear regression trained on mini-batches of rows, with scikit-learn's losses, penalties and schedules.

    It is **not** the algorithm of :class:`sklearn.linear_model.SGDRegressor`, which makes a step for each row; see
    :class:`SGDClassifier` for what a step over a batch is, and when to use it. For squared errors,
    :class:`~ooclearn.linear_model.Ridge` has the exact solution from one pass.

    Passes over the data: one an epoch. Memory: a few blocks. Of scikit-learn's parameters, `max_iter` is `epochs`, and
    those that stop early or go on (``tol``, ``n_iter_no_change``, ``early_stopping``, ``validation_fraction``,
    ``warm_start``) and ``verbose`` are left out.

    Parameters
    ----------
    loss : {'squared_error', 'huber', 'epsilon_insensitive', 'squared_epsilon_insensitive'}, default='squared_error'
        The loss.
    penalty : {'l2', 'l1', 'elasticnet'} or None, default='l2'
        What is added to the mean loss, times `alpha`: half the squares of the coefficients, their absolute values, or
        both.
    alpha : float, default=0.0001
        Strength of the penalty; the schedule 'optimal' follows from it.
    l1_ratio : float or None, default=0.15
        The share of the absolute values in 'elasticnet', between 0 and 1.
    fit_intercept : bool, default=True
        Learn a constant, which is not penalised.
    epochs : int, default=1
        How often the table is read; scikit-learn's ``max_iter``.
    batch_rows : int or None, default=None
        Rows of a batch. By default a 128th of the table, at least 16 and at most 4096.
    block_rows : int or None, default=None
        Rows of the blocks that are read; by default blocks have ``block_bytes`` bytes.
    shuffle : bool, default=True
        Draw the rows of every block from all over the table and mix them, anew for each epoch.
    epsilon : float, default=0.1
        The insensitive losses ignore errors below it; 'huber' counts errors above it in proportion, not squared.
    random_state : int, RandomState or None, default=None
        Seeds the shuffling; None is 0, the same order every time.
    learning_rate : {'invscaling', 'constant', 'optimal'}, default='invscaling'
        How large a step is for each row; the step of a batch is the sum of those of its rows, as far as that is stable.
    eta0 : float, default=0.01
        The first step of 'constant' and 'invscaling'.
    power_t : float, default=0.25
        The exponent of 'invscaling'.
    average : bool or int, default=False
        Set ``coef_`` to the mean of the coefficients over all batches; an int: over those after that many rows.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Coefficients: float32 for float32 rows, else float64.
    intercept_ : ndarray of shape (1,)
        The constant.
    n_iter_ : int
        Epochs made, those of ``partial_fit`` included.
    t_ : float
        Rows learned from in all epochs, plus 1.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    References
    ----------
    S. Ma, R. Bassily and M. Belkin, "The power of interpolation: understanding the effectiveness of SGD in modern
    over-parametrized learning", ICML (2018).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.linear_model import SGDRegressor
    >>> X = np.random.default_rng(0).standard_normal((1000, 3))
    >>> model = SGDRegressor(epochs=5).fit(X, X @ np.array([1.0, 2.0, 0.0]) + 3.0)
    >>> bool(model.score(X, X @ np.array([1.0, 2.0, 0.0]) + 3.0) > 0.99)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "loss": [StrOptions(set(REGRESSION))],
        **MiniBatchModel._parameter_constraints,
        "epsilon": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        loss: str = "squared_error",
        *,
        penalty: str | None = "l2",
        alpha: float = 0.0001,
        l1_ratio: float | None = 0.15,
        fit_intercept: bool = True,
        epochs: int = 1,
        batch_rows: int | None = None,
        block_rows: int | None = None,
        shuffle: bool = True,
        epsilon: float = 0.1,
        random_state: Any = None,
        learning_rate: str = "invscaling",
        eta0: float = 0.01,
        power_t: float = 0.25,
        average: bool | int = False,
    ) -> None:
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.epochs = epochs
        self.batch_rows = batch_rows
        self.block_rows = block_rows
        self.shuffle = shuffle
        self.epsilon = epsilon
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.average = average

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Go on training with these rows, for one epoch; n calls on one table give the same as one fit of n epochs.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks of shape (n_samples,)
            Their targets.
        sample_weight : array-like or Blocks of shape (n_samples,), optional
            Weights of the rows, 0 or more.

        Returns
        -------
        self : object
            This regressor, trained on.
        """
        return self._grow(X, y, sample_weight, None)

    def _loss(self) -> SgdLoss:
        return sgd_loss(self.loss, self.epsilon)

    def _begin(self, found: DistinctState | None) -> tuple[NumberTargets, Labels]:  # noqa: ARG002  (there are no classes)
        return NumberTargets(), Labels(None)

    def _take_parameters(self, coef: Array, constant: Array) -> None:
        self.coef_, self.intercept_ = coef[0], constant

    def _method_map(self, method: str, *, n_columns: int | None, dtype: np.dtype[Any]) -> RowMap:  # noqa: ARG002  (the protocol's)
        return linear_scores(self.coef_, self.intercept_, squeeze=True)
