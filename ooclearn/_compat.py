"""The private names of scikit-learn that we use, in one place, each with its reason.

`InvalidParameterError`, `Interval`, `RealNotInt`, `StrOptions`, `HasMethods`
    scikit-learn validates parameters from ``_parameter_constraints``, and its ``check_param_validation`` demands
    the same of third-party estimators, but these constraint classes have no public home.
`LinearClassifierMixin`, `LinearModel`, `BaseSGDRegressor`
    To know that an estimator's ``predict`` is the plain linear one, so that it can be one matrix product with the
    scaling before it. Anything else is called as it is.
`_wrap_data_with_container`
    What ``set_output`` does to a result. scikit-learn's public mixin wraps ``transform`` when a class is made, and so
    gives a meta-estimator a ``transform`` even where the estimator inside has none.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from sklearn.utils._param_validation import HasMethods, Interval, InvalidParameterError, RealNotInt, StrOptions
from sklearn.utils._set_output import _wrap_data_with_container as wrap_in_frame

__all__ = [
    "HasMethods",
    "Interval",
    "InvalidParameterError",
    "LinearClasses",
    "RealNotInt",
    "StrOptions",
    "linear_classes",
    "wrap_in_frame",
]


class LinearClasses(NamedTuple):
    """The classes that scikit-learn's linear estimators inherit ``predict`` from."""

    classifier: Any
    model: Any
    sgd_regressor: Any


@lru_cache(maxsize=1)
def linear_classes() -> LinearClasses:
    """Return them; imported at the first linear estimator, since ``sklearn.linear_model`` takes 0.1 s to import."""
    from sklearn.linear_model._base import LinearClassifierMixin, LinearModel
    from sklearn.linear_model._stochastic_gradient import BaseSGDRegressor

    return LinearClasses(LinearClassifierMixin, LinearModel, BaseSGDRegressor)
