"""``ParallelPostFit``: an estimator fitted in memory, whose methods work on tables of any size."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import sklearn
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import check_is_fitted

from ooclearn._compat import HasMethods
from ooclearn.base import busy, commit, unfitted_copy
from ooclearn.blockwise import Blockwise, rows_for
from ooclearn.methods import framed
from ooclearn.validation import blocks_of, is_plain, split_target

__all__ = ["ParallelPostFit"]


class ParallelPostFit(Blockwise):
    """Let an estimator that is fitted in memory predict and transform any container, by blocks and in parallel.

    Parameters
    ----------
    estimator : estimator
        Fitted already (then :meth:`fit` need not be called), or to be fitted on a part of the data.
    scoring : str, callable or None, default=None
        What :meth:`score` computes; by default the estimator's own score.

    Attributes
    ----------
    estimator_ : estimator
        The clone that :meth:`fit` has fitted. Its fitted attributes can be had from this object too.

    Notes
    -----
    Data frames in memory are given to the estimator as they are, since it may look for columns by name; the blocks of
    lazy containers too are given to it as data frames, if it was fitted on one and pandas is installed.

    Examples
    --------
    >>> import numpy as np, ooclearn
    >>> from ooclearn import ParallelPostFit
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> X = np.random.default_rng(0).standard_normal((300, 3))
    >>> forest = RandomForestClassifier(5, random_state=0).fit(X[:100], X[:100, 0] > 0)
    >>> ParallelPostFit(forest).predict(ooclearn.scan(X, block_rows=100))
    Blocks('array': 300 bool, 3e-07 GB, 3 blocks)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["fit"])],
        "scoring": [str, callable, None],
    }

    def __init__(self, estimator: Any, *, scoring: Any = None) -> None:
        self.estimator = estimator
        self.scoring = scoring

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Fit a clone of the estimator, in memory.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows; read into memory whole, so pass a part of a large table.
        y : array-like or Blocks of shape (n_samples,) or (n_samples, n_targets), optional
            The targets.
        **params : dict
            For the estimator's ``fit``.

        Returns
        -------
        self : object
            This object; the fitted clone is ``estimator_``.
        """
        with busy(self):
            self._validate_params()
            if sklearn.get_config()["enable_metadata_routing"]:
                params = process_routing(self, "fit", **params).estimator.fit
            working = unfitted_copy(self)
            X, y = split_target(X, y)
            rows, target = _in_memory(X, names=True), _in_memory(y)
            params = {name: _in_memory(value) for name, value in params.items()}
            working.estimator_ = clone(self.estimator).fit(rows, target, **params)
            commit(self, working)
        return self

    def _rows(self, X: Any, *, reset: bool) -> Any:
        inner = self._inner()
        # Not a copy of this object: that would lend the names again where they are left out of account.
        known = type(self)(None)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(inner, name):
                setattr(known, name, getattr(inner, name))
        return rows_for(inner, X, known=known, reset=reset)

    def _direct(self, X: Any) -> bool:
        return hasattr(X, "columns") and is_plain(X)

    def __sklearn_is_fitted__(self) -> bool:
        if "estimator_" in vars(self):
            return True
        try:
            check_is_fitted(self.estimator)
        except NotFittedError:
            return False
        return True

    def _lends(self) -> bool:
        # One that came fitted lends its attributes too.
        return "estimator" in vars(self)

    def get_metadata_routing(self) -> MetadataRouter:
        """Return where metadata goes: what ``fit`` gets, to the estimator's ``fit``.

        Returns
        -------
        MetadataRouter
            Of scikit-learn, with the requests of the estimator.
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        if hasattr(self.estimator, "score"):
            mapping = mapping.add(caller="score", callee="score")
        return MetadataRouter(owner=self).add(estimator=self.estimator, method_mapping=mapping)


def _in_memory(x: Any, *, names: bool = False) -> Any:
    """Return a container as an array, or a data frame if it has `names`; what is in memory already as it is."""
    if x is None or not hasattr(x, "shape") or is_plain(x):
        return x
    blocks = blocks_of(x, "X")
    return framed(blocks.to_numpy(), blocks.names) if names and blocks.names is not None else blocks.to_numpy()
