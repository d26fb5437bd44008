"""Pipelines that plan the fit as a whole: as few readings of the table as the steps allow."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn import pipeline as _pipeline
from sklearn.base import clone
from sklearn.utils.metaestimators import available_if

from ooclearn._compat import HasMethods, Interval
from ooclearn.base import busy, mapped, replace_contents
from ooclearn.events import Observer, Work, observe
from ooclearn.exceptions import PerformanceWarning, warn
from ooclearn.fitted_steps import FittedSteps, can, columns_of, final_has
from ooclearn.layout import Unplannable
from ooclearn.methods import method_map
from ooclearn.one_pass import OnePassFit
from ooclearn.plan import Plan
from ooclearn.planned_fit import PlannedFit
from ooclearn.staged import planned_by_steps
from ooclearn.steps import (
    is_absent,
    is_composed,
    is_fixed,
    is_plannable,
    params_of_steps,
    takes_frames,
    unforeseen,
)
from ooclearn.union import FeatureUnion, make_union
from ooclearn.validation import host_array, host_dtype, is_lazy, is_plain, split_target

__all__ = ["FeatureUnion", "Pipeline", "make_pipeline", "make_union"]


def _can_fit_transform(self: Pipeline) -> bool:
    return hasattr(self._final_estimator, "fit_transform") or bool(can("transform")(self))


class Pipeline(FittedSteps):
    """A sequence of transformers with an optional final estimator, fitted in as few readings as they allow.

    A subclass of :class:`sklearn.pipeline.Pipeline`, with the same parameters, attributes and methods. The fit asks
    all its steps at once what they need, and answers them from shared passes over the table: a scaler and the
    classes of an :class:`~ooclearn.Incremental` come from one. Pipelines of this library inside it are part of the plan,
    as are steps of other libraries that have nothing to fit, or that come fitted in a
    :class:`sklearn.frozen.FrozenEstimator`. Any other step is fitted in memory, as by scikit-learn, on the rows that
    come to it: where these are lazy, they are read into one array, and a ``PerformanceWarning`` says so.

    Parameters
    ----------
    steps : list of (str, estimator)
        Names and steps, in order.
    transform_input : list of str, default=None
        As in scikit-learn. If set, the pipeline is fitted step by step.
    memory : str or object with the joblib.Memory interface, default=None
        Caches fitted transformers. If set, the pipeline is fitted step by step.
    verbose : bool, default=False
        Print each pass and the time it took.
    passes : {None, 1}, default=None
        With None, exact: what is fed behind scalers waits for the pass that fits them. With 1, for scalers in front of
        an :class:`~ooclearn.Incremental` with a linear model, a perceptron, an MLP or k-means: one pass feeds it through
        a scaling fitted to a sample of the rows (2 %, at least 1,024 and at most 100,000, read from all over the table)
        and gathers what the exact fit of the scalers needs; its first layer is then expressed in exactly scaled columns.
        The scalers end up as exact as ever; the model is trained on columns scaled a little otherwise, so its
        coefficients differ. Up to 1,024 rows the sample is all of them, and the model is that of the exact fit.

    Notes
    -----
    ``explain(X, y)`` gives the passes beforehand. A planned fit that fails leaves every step as it was. Rows are
    mapped lazily through all steps, and affine steps under a linear decision collapse into one product.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn import Incremental
    >>> from ooclearn.pipeline import make_pipeline
    >>> from ooclearn.preprocessing import StandardScaler
    >>> from sklearn.linear_model import SGDClassifier
    >>> X = np.random.default_rng(0).normal(5.0, 2.0, (1000, 3))
    >>> y = X[:, 0] > 5
    >>> pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0)))
    >>> pipe.explain(X, y).n_passes
    2
    >>> bool(pipe.fit(X, y).score(X, y) > 0.9)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "steps": [list, tuple],
        "transform_input": [list, None],
        "memory": [None, str, HasMethods(["cache"])],
        "verbose": ["boolean"],
        "passes": [None, Interval(Integral, 1, 2, closed="left")],
    }

    def __init__(
        self,
        steps: Any,
        *,
        transform_input: Any = None,
        memory: Any = None,
        verbose: bool = False,
        passes: int | None = None,
    ) -> None:
        super().__init__(steps, transform_input=transform_input, memory=memory, verbose=verbose)
        self.passes = passes

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Fit all steps, over as few readings of the table as they allow; :meth:`explain` tells them.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks of shape (n_samples,) or (n_samples, n_outputs), optional
            The targets.
        **params : dict
            ``<step>__<name>`` for the ``fit`` of a step, such as ``incremental__sample_weight``; with metadata
            routing enabled, what the steps have requested.

        Returns
        -------
        self : object
            This object, its steps fitted. A fit that fails leaves it and them as they were.
        """
        self._validate_params()
        self._validate_steps()
        X, y = split_target(X, y)
        plan = self._planned(X, params)
        if isinstance(plan, str):
            self._fit_by_steps("fit", X, y, params)
            return self
        try:
            with plan.busy(self), self._printing():
                plan.run(X, y)
        except Unplannable:  # what comes of a transformer that was fitted by itself is for no table
            self._fit_by_steps("fit", X, y, params)
        return self

    def explain(self, X: Any, y: Any = None, **params: Any) -> Plan:
        """Return, without reading any data, the passes that :meth:`fit` will make.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks, optional
            The targets.
        **params : dict
            As for :meth:`fit`.

        Returns
        -------
        Plan
            Each pass with what it reads and the memory it takes; it prints itself, and shows as HTML in a notebook.
        """
        self._validate_steps()
        X, y = split_target(X, y)
        plan = self._planned(X, params)
        if isinstance(plan, PlannedFit):
            return plan.explain(X, y)
        weighted = {name for name, given in params_of_steps(self, params).items() if "sample_weight" in given}
        return planned_by_steps(self.steps, X, y, frozenset(weighted), plan)

    def _planned(self, X: Any, params: dict[str, Any]) -> PlannedFit | str:
        """Return the fit as a whole; if it is to be fitted step by step, why."""
        one_pass = self.passes is not None
        why = self._unplanned(X)
        if not why:
            try:
                plan = (OnePassFit if one_pass else PlannedFit).of(self, params, X)
                if not one_pass or not plan.alone:
                    return plan
                why = "; ".join(plan.alone)
            except Unplannable as reason:
                why = str(reason)
        if one_pass:
            raise ValueError(f"passes=1 is for a pipeline that is planned as a whole; here {why}")
        return why

    def _unplanned(self, X: Any = None) -> str:
        """Return why the fit, to rows `X`, cannot be planned as a whole; nothing if it can."""
        frame = X if X is not None and is_plain(X) and hasattr(X, "columns") else None
        first = next((step for _, step in self.steps if not is_absent(step)), None)
        foreign = [
            f"{name!r} ({type(step).__name__})"
            for name, step in self.steps
            if not is_plannable(step, frame if step is first else None)
        ]
        if foreign:
            return unforeseen(foreign)
        if frame is not None and not takes_frames(self, X):
            return "its steps hand data frames on, names and all"
        if self._hands_on_frames(X):
            return "its steps hand data frames on, names and all"
        return self._ruled_by() and f"{self._ruled_by()} is set"

    def _ruled_by(self) -> str:
        """Return what asks for scikit-learn's own fit, if anything does."""
        asked = {
            "memory": self.memory is not None,
            "transform_input": self.transform_input is not None,
            "a callback": bool(getattr(self, "_skl_callbacks", None)),
        }
        return next((name for name, is_set in asked.items() if is_set), "")

    def _printing(self) -> Any:
        return observe(_Printer()) if self.verbose else nullcontext()

    def _fit_by_steps(self, method: str, X: Any, y: Any, params: dict[str, Any]) -> Any:
        """Fit as scikit-learn does; return what its `method` returns."""
        # On a clone, so that a failure in a later step leaves the earlier ones as they were.
        steps = [step for _, step in self.steps if not is_absent(step)]
        with busy(self, *steps):
            fitted = clone(self)
            if is_plain(X) or self._ruled_by():
                out = getattr(_pipeline.Pipeline, method)(fitted, X, y, **params)
            else:
                with self._printing():
                    out = fitted._fit_staged(X, y, params)
            replace_contents(steps, [dict(vars(done)) for _, done in fitted.steps if not is_absent(done)])
        return out

    def _fit_staged(self, X: Any, y: Any, params: dict[str, Any]) -> None:
        """Fit one step after the other, lazily up to the first that wants arrays."""
        given = params_of_steps(self, params)
        for name, step in self.steps:
            if is_absent(step):
                continue
            if not is_plannable(step) and not is_composed(step):
                if is_lazy(X):
                    warn(_read_whole(name, step), PerformanceWarning)
                X, y = host_array(X), None if y is None else host_array(y)
                given[name] = {key: host_array(v) if is_lazy(v) else v for key, v in given[name].items()}
            if step is self._final_estimator:
                step.fit(X, y, **given[name])
            elif isinstance(X, np.ndarray) and hasattr(step, "fit_transform"):
                X = step.fit_transform(X, y, **given[name])
            else:
                if not is_fixed(step):
                    step.fit(X, y, **given[name])
                X = mapped(method_map(step, "transform", n_columns=columns_of(X), dtype=host_dtype(X)), X)

    @available_if(_can_fit_transform)
    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit all steps, then transform the same rows.

        Parameters
        ----------
        X : container of shape (n_samples, n_features)
            The rows, as for :meth:`fit`.
        y : array-like or Blocks, optional
            The targets.
        **params : dict
            As for :meth:`fit`.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_features_out)
            At once or lazily, as :meth:`predict` does it.
        """
        return self._fit_then("transform", X, y, params)

    @available_if(final_has("fit_predict"))
    def fit_predict(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit all steps, then predict the same rows.

        Parameters
        ----------
        X : container of shape (n_samples, n_features)
            The rows, as for :meth:`fit`.
        y : array-like or Blocks, optional
            The targets.
        **params : dict
            As for :meth:`fit`.

        Returns
        -------
        Same container as `X`, of shape (n_samples,)
            At once or lazily, as :meth:`predict` does it.
        """
        return self._fit_then("predict", X, y, params)

    def _fit_then(self, method: str, X: Any, y: Any, params: dict[str, Any]) -> Any:
        X, y = split_target(X, y)
        in_memory = is_plain(X) or bool(self._ruled_by())
        alone = in_memory and hasattr(X, "columns") and bool(getattr(self._planned(X, params), "alone", None))
        if in_memory and (alone or self._unplanned(X)):
            # In memory, both at once may be more than one after the other: a TargetEncoder's are.
            return self._fit_by_steps(f"fit_{method}", X, y, params)
        return getattr(self.fit(X, y, **params), method)(X)


def _read_whole(name: str, step: Any) -> str:
    return (
        f"step {name!r} ({type(step).__name__}) is not of this library and is fitted in memory: the rows that come to "
        "it are read into one array. If a part of the rows is enough to fit it on, do so beforehand and pass "
        "sklearn.frozen.FrozenEstimator(step)"
    )


class _Printer(Observer):
    """Prints each pass and its time, as ``verbose`` asks."""

    def __init__(self) -> None:
        self._start = 0.0

    def begin(self, work: Work, /) -> None:
        """Note the time."""
        del work
        self._start = time.perf_counter()

    def end(self, work: Work, /, error: BaseException | None = None) -> None:
        """Print what was done."""
        failed = "failed after" if error is not None else "total="
        print(f"[Pipeline] {work.title}, {failed}{time.perf_counter() - self._start:6.1f}s")  # noqa: T201  (verbose asks for it)


def make_pipeline(
    *steps: Any,
    memory: Any = None,
    transform_input: Sequence[str] | None = None,
    verbose: bool = False,
    passes: int | None = None,
) -> Pipeline:
    """Return a :class:`Pipeline` whose steps are named after their classes.

    Parameters
    ----------
    *steps : estimator
        The steps, in order.
    memory : str, object with the joblib.Memory interface or None, default=None
        Caches fitted transformers; if set, the pipeline is fitted step by step.
    transform_input : list of str or None, default=None
        As in scikit-learn; if set, the pipeline is fitted step by step.
    verbose : bool, default=False
        Print each pass and the time it took.
    passes : {None, 1}, default=None
        1 trains an :class:`~ooclearn.Incremental` in the pass that fits the scalers above it; see :class:`Pipeline`.

    Returns
    -------
    Pipeline
        Not fitted.

    Examples
    --------
    >>> from ooclearn.pipeline import make_pipeline
    >>> from ooclearn.preprocessing import MaxAbsScaler
    >>> make_pipeline(MaxAbsScaler()).steps
    [('maxabsscaler', MaxAbsScaler())]
    """
    named = _pipeline.make_pipeline(*steps).steps
    return Pipeline(named, memory=memory, transform_input=transform_input, verbose=verbose, passes=passes)
