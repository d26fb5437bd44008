"""Least squares with a penalty on the absolute values of the coefficients."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from ooclearn._compat import Interval, StrOptions
from ooclearn.linear_model._from_scatter import MergeableRegressor
from ooclearn.linear_model._least_squares import Spectrum, problem_of
from ooclearn.statistics import ScatterState

__all__ = ["ElasticNet", "Lasso"]


class ElasticNet(MergeableRegressor):
    r"""Least squares with penalties on the absolute values and the squares of the coefficients.

    Minimises :math:`\frac{1}{2 \sum w} \sum_i w_i (y_i - x_i^T \beta - \beta_0)^2 + \alpha \rho \|\beta\|_1 +
    \frac{\alpha (1 - \rho)}{2} \|\beta\|^2` as :class:`sklearn.linear_model.ElasticNet`, by scikit-learn's own
    coordinate descent, on a few rows with the same products as all. One pass over the rows, on every backend. Memory: a
    few tiles of a block for each worker, and some matrices of n_features by n_features. Of scikit-learn's parameters,
    ``precompute`` and ``copy_X`` are left out, as there is nothing to choose, and ``warm_start``, as iterations read
    nothing.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalties, 0 or more.
    l1_ratio : float, default=0.5
        Share of the penalty on absolute values, between 0 (squares alone) and 1 (the lasso).
    fit_intercept : bool, default=True
        Fit an intercept, which is not penalised.
    max_iter : int, default=1000
        The most rounds over the coefficients; they read no data.
    tol : float, default=1e-4
        Stop when no coefficient moves by more than this share of the largest, and the dual gap is below this share of
        the targets' mean square.
    positive : bool, default=False
        Allow no negative coefficients.
    random_state : int, RandomState instance or None, default=None
        Seeds the choice of coefficients with ``selection="random"``.
    selection : {"cyclic", "random"}, default="cyclic"
        Update the coefficients in turn, or in random order.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        The coefficients: float32 for float32 rows, else float64.
    sparse_coef_ : sparse array of shape (1, n_features) or (n_targets, n_features)
        The coefficients that are not 0.
    intercept_ : float or ndarray of shape (n_targets,)
        The intercept; 0.0 without `fit_intercept`.
    n_iter_ : int or list of int
        Rounds over the coefficients, for each target.
    dual_gap_ : float or ndarray of shape (n_targets,)
        A bound on how far the objective is above its minimum.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    The iterations run on a square root of the scatter matrix, not on the matrix itself, so that nothing is squared
    twice. Fits can be grown by ``partial_fit`` and ``merge``: what is kept is the scatter matrix.

    References
    ----------
    J. Friedman, T. Hastie and R. Tibshirani, "Regularization paths for generalized linear models via coordinate
    descent", Journal of Statistical Software 33 (2010).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.linear_model import ElasticNet
    >>> X = np.random.default_rng(0).standard_normal((500, 3))
    >>> np.abs(ElasticNet(alpha=0.1).fit(X, 4 * X[:, 0] + 0.01 * X[:, 1]).coef_).round(1)
    array([3.8, 0. , 0. ])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "alpha": [Interval(Real, 0, None, closed="left")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "fit_intercept": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "positive": ["boolean"],
        "random_state": ["random_state"],
        "selection": [StrOptions({"cyclic", "random"})],
    }

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        l1_ratio: float = 0.5,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float = 1e-4,
        positive: bool = False,
        random_state: Any = None,
        selection: str = "cyclic",
    ) -> None:
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.positive = positive
        self.random_state = random_state
        self.selection = selection

    def _spectrum_of(self, state: ScatterState) -> Spectrum | None:  # noqa: ARG002  (the base's signature)
        # What the penalty leaves of directions that are nearly dependent is more than rounding.
        return None

    def _solve(self, state: Any, spectrum: Spectrum | None) -> None:  # noqa: ARG002  (the base's signature)
        from sklearn.linear_model import enet_path  # a tenth of a second to import

        if self.alpha == 0:
            warnings.warn(
                "With alpha=0, this algorithm does not converge well. You are advised to use the LinearRegression "
                "estimator",
                stacklevel=2,
            )
        problem = problem_of(state, centred=self.fit_intercept)
        n_targets = problem.b.shape[1]
        # As many rows as there are, and one for what the columns do not reach; of the size of the table's rows.
        m = len(problem.A) + 1
        size = np.sqrt(m / problem.weight)
        A = np.asfortranarray(np.vstack([problem.A, np.zeros(problem.A.shape[1])]) * size)
        gaps, iterations, coefs = [], [], []
        for j in range(n_targets):
            b = np.append(problem.b[:, j], np.sqrt(problem.residual[j])) * size
            _, coef, gap, n_iter = enet_path(
                A,
                b,
                l1_ratio=float(self.l1_ratio),
                alphas=[self.alpha],
                precompute=False,
                coef_init=np.zeros(A.shape[1]),
                return_n_iter=True,
                positive=self.positive,
                check_input=False,
                tol=self.tol,
                max_iter=self.max_iter,
                random_state=self.random_state,
                selection=self.selection,
            )
            coefs.append(coef[:, 0])
            gaps.append(gap[0])
            iterations.append(n_iter[0])
        self.n_iter_ = iterations[0] if n_targets == 1 else iterations
        self.dual_gap_ = gaps[0] if n_targets == 1 else np.asarray(gaps)
        self._set_coef(problem, np.asarray(coefs), self._dtype_, ravel=True)

    @property
    def sparse_coef_(self) -> Any:
        """The coefficients that are not 0, as a sparse matrix, or array if scikit-learn is set to give these."""
        from scipy.sparse import csr_array, csr_matrix
        from sklearn import get_config

        made = csr_array if get_config()["sparse_interface"] == "sparray" else csr_matrix
        return made(np.atleast_2d(self.coef_))


class Lasso(ElasticNet):
    r"""Least squares with a penalty on the absolute values of the coefficients.

    Minimises :math:`\frac{1}{2 \sum w} \sum_i w_i (y_i - x_i^T \beta - \beta_0)^2 + \alpha \|\beta\|_1` as
    :class:`sklearn.linear_model.Lasso`, by scikit-learn's own coordinate descent, on a few rows with the same products
    as all. One pass over the rows, on every backend. Memory: a few tiles of a block for each worker, and some matrices
    of n_features by n_features. Of scikit-learn's parameters, ``precompute`` and ``copy_X`` are left out, as there is
    nothing to choose, and ``warm_start``, as iterations read nothing.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalty, 0 or more.
    fit_intercept : bool, default=True
        Fit an intercept, which is not penalised.
    max_iter : int, default=1000
        The most rounds over the coefficients; they read no data.
    tol : float, default=1e-4
        Stop when no coefficient moves by more than this share of the largest, and the dual gap is below this share of
        the targets' mean square.
    positive : bool, default=False
        Allow no negative coefficients.
    random_state : int, RandomState instance or None, default=None
        Seeds the choice of coefficients with ``selection="random"``.
    selection : {"cyclic", "random"}, default="cyclic"
        Update the coefficients in turn, or in random order.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        The coefficients: float32 for float32 rows, else float64.
    sparse_coef_ : sparse array of shape (1, n_features) or (n_targets, n_features)
        The coefficients that are not 0.
    intercept_ : float or ndarray of shape (n_targets,)
        The intercept; 0.0 without `fit_intercept`.
    n_iter_ : int or list of int
        Rounds over the coefficients, for each target.
    dual_gap_ : float or ndarray of shape (n_targets,)
        A bound on how far the objective is above its minimum.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    References
    ----------
    J. Friedman, T. Hastie and R. Tibshirani, "Regularization paths for generalized linear models via coordinate
    descent", Journal of Statistical Software 33 (2010).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.linear_model import Lasso
    >>> X = np.random.default_rng(0).standard_normal((500, 3))
    >>> np.abs(Lasso(alpha=0.1).fit(X, 4 * X[:, 0] + 0.01 * X[:, 1]).coef_).round(1)
    array([3.9, 0. , 0. ])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        name: constraint for name, constraint in ElasticNet._parameter_constraints.items() if name != "l1_ratio"
    }

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float = 1e-4,
        positive: bool = False,
        random_state: Any = None,
        selection: str = "cyclic",
    ) -> None:
        super().__init__(
            alpha,
            l1_ratio=1.0,
            fit_intercept=fit_intercept,
            max_iter=max_iter,
            tol=tol,
            positive=positive,
            random_state=random_state,
            selection=selection,
        )
