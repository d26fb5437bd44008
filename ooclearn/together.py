"""Several estimators and pipelines fitted over shared readings of one table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from ooclearn.backend import owner_of
from ooclearn.base import busy, commit_all
from ooclearn.exceptions import PerformanceWarning, warn
from ooclearn.layout import Unplannable
from ooclearn.plan import PassPlan, Plan
from ooclearn.planned_fit import PlannedFit
from ooclearn.steps import is_composed, is_plannable, taken_over
from ooclearn.validation import as_table, blocks_of, host_array, is_lazy, split_target

__all__ = ["explain_all", "fit_all"]


def fit_all(
    estimators: Sequence[Any], X: Any, y: Any = None, *, fit_params: Sequence[dict[str, Any]] | None = None
) -> list[Any]:
    """Fit several estimators and pipelines over shared readings of one table; all of them or none.

    Each ends up as if fitted alone. Every pass over the table answers all that the estimators wait for, equal
    questions once: as many readings as the one that needs most, not as all together. Linear models that are trained by
    mini-batches, and differ in losses, penalties and steps alone, are trained as one, by one product for a batch.
    Estimators that do not say beforehand what they read (those of other libraries, pipelines that have such steps) are
    fitted after the others, each by itself. An error leaves every one of them as it was.

    Parameters
    ----------
    estimators : sequence of estimators
        Pipelines, column transformers, estimators of this library or others. None may hold a step of another.
    X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
        The rows.
    y : array-like or Blocks, optional
        The targets, for all that want any.
    fit_params : sequence of dict, optional
        For each of the estimators what its ``fit`` gets besides, such as ``{"sample_weight": w}``. Those with
        different sample weights do not share readings.

    Returns
    -------
    list of estimators
        Those given, fitted.

    See Also
    --------
    explain_all : The passes that this will make.

    Examples
    --------
    >>> import numpy as np
    >>> import ooclearn
    >>> from ooclearn.preprocessing import MinMaxScaler, StandardScaler
    >>> X = np.array([[1.0], [3.0]])
    >>> ooclearn.explain_all([StandardScaler(), MinMaxScaler()], X).n_passes
    1
    >>> scaler, other = ooclearn.fit_all([StandardScaler(), MinMaxScaler()], X)
    >>> scaler.mean_, other.data_max_
    (array([2.]), array([3.]))
    """
    X, y = split_target(X, y)
    estimators = _listed(estimators)
    planned, alone = _arranged(estimators, X, y, fit_params)
    with busy(*estimators, *(step for plan in planned for step in plan.estimators)):
        pairs = [pair for plan in planned for pair in plan.fitted(X, y)]
        others = [
            pair
            for estimator, params, _, _ in alone
            for pair in taken_over(estimator, _fitted_alone(estimator, X, y, params))
        ]
        commit_all(pairs, others=others)
    return estimators


def explain_all(
    estimators: Sequence[Any], X: Any, y: Any = None, *, fit_params: Sequence[dict[str, Any]] | None = None
) -> Plan:
    """Return, without reading any data, the passes that :func:`fit_all` will make.

    Parameters
    ----------
    estimators : sequence of estimators
        Pipelines, column transformers, estimators of this library or others.
    X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
        The rows.
    y : array-like or Blocks, optional
        The targets, for all that want any.
    fit_params : sequence of dict, optional
        For each of the estimators what its ``fit`` gets besides.

    Returns
    -------
    Plan
        It prints itself, and shows as HTML in a notebook. One that is fitted by itself counts as one reading, though
        it may take more.

    Examples
    --------
    >>> import numpy as np
    >>> import ooclearn
    >>> from ooclearn.preprocessing import MinMaxScaler, StandardScaler
    >>> plan = ooclearn.explain_all([StandardScaler(), MinMaxScaler()], np.ones((4, 2)))
    >>> [stage for stage, _ in plan.passes[0].answers]
    ['standardscaler', 'minmaxscaler']
    """
    X, y = split_target(X, y)
    planned, alone = _arranged(_listed(estimators), X, y, fit_params)
    plans = [plan.explain(X, y) for plan in planned]
    passes = [one for plan in plans for one in plan.passes]
    table = as_table(X if owner_of(X) is not None else np.asarray(X), y)
    for _, _, name, why in alone:
        parts = "X" if y is None else "X, y"
        whole = PassPlan(((name, "its own fit"),), parts, table.nbytes, table.n_blocks, table.nbytes or 0)
        passes.append(replace(whole, reason=f"{name} is fitted by itself: {why}"))
    source = plans[0].source if plans else table.X.name
    return Plan(source, tuple(passes))


_Alone = tuple[Any, dict[str, Any], str, str]


def _listed(estimators: Sequence[Any]) -> list[Any]:
    if hasattr(estimators, "fit"):  # a pipeline is a sequence, too: of its steps
        raise TypeError(f"expected a list of estimators, got a {type(estimators).__name__}; pass [it], or call its fit")
    return list(estimators)


def _arranged(
    estimators: list[Any], X: Any, y: Any, fit_params: Sequence[dict[str, Any]] | None
) -> tuple[list[PlannedFit], list[_Alone]]:
    """Return the fits that share readings, and what is fitted by itself: parameters of fit, its name, and why."""
    given = [{} for _ in estimators] if fit_params is None else [dict(params or {}) for params in fit_params]
    if len(given) != len(estimators):
        raise ValueError(
            f"there are {len(estimators)} estimators and fit_params for {len(given)}; expected one for each"
        )
    groups: dict[Any, list[tuple[Any, dict[str, Any], str]]] = {}
    alone: list[_Alone] = []
    for estimator, params, name in zip(estimators, given, _names(estimators), strict=True):
        plan = _plan_of(estimator, params, X)
        if isinstance(plan, str):
            alone.append((estimator, params, name, plan))
            continue
        weight = next((id(one) for one in plan.weights), None)
        groups.setdefault((weight, _flattens(plan, y)), []).append((estimator, params, name))
    plans = [PlannedFit.of_all(group, X) for group in groups.values()]
    steps = [step for plan in plans for step in plan.estimators]
    _refuse_shared([*steps, *(one for estimator, *_ in alone for one in _leaves(estimator))])
    return plans, alone


def _plan_of(estimator: Any, params: dict[str, Any], X: Any) -> PlannedFit | str:
    """Return the fit of one estimator; if it is fitted by itself, why."""
    if is_composed(estimator):
        if hasattr(estimator, "_parameter_constraints"):
            estimator._validate_params()
        if hasattr(estimator, "_validate_steps"):
            estimator._validate_steps()
        if getattr(estimator, "passes", None) is not None:
            return "passes=1 feeds it through a scaling of its own"
        plan: PlannedFit | str = estimator._planned(X, params)
        return "; ".join(plan.alone) or plan if isinstance(plan, PlannedFit) else plan
    if not is_plannable(estimator):
        return f"{type(estimator).__name__} does not say beforehand what it reads"
    try:
        return PlannedFit.of(estimator, params, X)
    except Unplannable as reason:
        return str(reason)


def _flattens(plan: PlannedFit, y: Any) -> bool:
    """Whether targets in a table of one column are taken as a single target: such fits do not mix with others."""
    single = [step for step in plan.estimators if not getattr(step, "_multi_output", True)]
    return bool(single) and y is not None and blocks_of(y, "y").ndim > 1 if hasattr(y, "shape") else False


def _fitted_alone(estimator: Any, X: Any, y: Any, params: dict[str, Any]) -> Any:
    """Return a clone of an estimator, fitted as it does itself."""
    if not is_composed(estimator) and not hasattr(type(estimator), "_method_map"):
        if is_lazy(X):
            warn(
                f"{type(estimator).__name__} is not of this library and is fitted in memory: the rows are read into one "
                "array",
                PerformanceWarning,
            )
        X, y = (host_array(part) if is_lazy(part) else part for part in (X, y))
        params = {key: host_array(value) if is_lazy(value) else value for key, value in params.items()}
    return clone(estimator).fit(X, y, **params) if y is not None else clone(estimator).fit(X, **params)


def _leaves(estimator: Any) -> Iterator[Any]:
    """Yield an estimator, or the steps of a pipeline."""
    steps = getattr(estimator, "steps", None) if isinstance(estimator, Pipeline) else None
    if steps is None:
        yield estimator
    else:
        for _, step in steps:
            if hasattr(step, "fit"):
                yield from _leaves(step)


def _refuse_shared(steps: list[Any]) -> None:
    """Refuse that one object is fitted in two places: the last fit would be that of all of them."""
    counts = Counter(id(step) for step in steps)
    shared = next((step for step in steps if counts[id(step)] > 1), None)
    if shared is not None:
        raise ValueError(
            f"the same {type(shared).__name__} is in {counts[id(shared)]} of the estimators, and can be fitted as part "
            "of one only; give each a copy of its own (sklearn.base.clone)"
        )


def _names(estimators: list[Any]) -> list[str]:
    """Return a name for each, after its class."""
    names = [type(estimator).__name__.lower() for estimator in estimators]
    seen: Counter[str] = Counter()
    out = []
    for name in names:
        seen[name] += 1
        out.append(f"{name}-{seen[name]}" if names.count(name) > 1 else name)
    return out
