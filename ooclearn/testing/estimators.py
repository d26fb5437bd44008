"""scikit-learn's checks of an estimator, on every container."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from textwrap import shorten
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import estimator_checks, get_tags

from ooclearn.testing.turned import CONTAINERS, Turn, turned

__all__ = ["check_answers_of_numpy", "check_estimator"]

# scikit-learn ships these too, but its generator does not yield them.
_MORE_OF_ALL = (
    "check_dataframe_column_names_consistency",
    "check_param_validation",
)
_MORE_OF_TRANSFORMERS = (
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_get_feature_names_out_error",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_inplace_ensure_writeable",
)


def check_estimator(
    estimator: Any,
    /,
    *,
    on: str | Turn = "numpy",
    expected_failed_checks: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Run all of scikit-learn's checks on an estimator, with the data turned into another container inside.

    These are the checks of :func:`sklearn.utils.estimator_checks.check_estimator`, those that scikit-learn
    runs on its own estimators besides (data frames, ``set_output``, names of features, validation of
    parameters), and one that compares what is learnt and answered with the same on NumPy arrays.

    Parameters
    ----------
    estimator : estimator
        An instance.
    on : str or callable
        ``"numpy"``: as they are. ``"blocks"``, ``"dask"``, ``"array_api_strict"``,
        ``"array_api_strict:device1"``: every host array of numbers that is passed as X, y or sample_weight is
        turned into that container (cut at random, with blocks of one row and of none), and what comes out is
        turned back. A callable does the turning for containers of other libraries: it takes a NumPy array.
    expected_failed_checks : mapping of str to str, optional
        Names of checks that must fail, if they can run here, and why.

    Returns
    -------
    list of dict
        What scikit-learn tells of each check: ``check_name``, ``status``, ``exception``.

    Raises
    ------
    AssertionError
        A check fails, or one passes that was expected to fail; names all of them.

    Examples
    --------
    >>> from ooclearn.preprocessing import MaxAbsScaler
    >>> from ooclearn.testing import check_estimator
    >>> results = check_estimator(MaxAbsScaler(), on="array_api_strict")
    >>> any(one["status"] == "failed" for one in results)
    False
    """
    expected = dict(expected_failed_checks or {})
    subject = clone(estimator) if on == "numpy" else turned(estimator, _turn(on))
    results = [_result(subject, name, check, expected) for name, check in _checks(subject)]
    if on != "numpy":
        same = partial(check_answers_of_numpy, estimator, subject)
        results.append(_result(subject, same.func.__name__, same, expected))
    problems = [_problem(one) for one in results if one["status"] == "failed"]
    # What needs a library that is not installed is skipped, and tells neither.
    unsaid = {one["check_name"] for one in results if one["status"] in ("xfail", "skipped")}
    problems += [
        f"{name}: expected to fail ({why}), and does not" for name, why in expected.items() if name not in unsaid
    ]
    assert not problems, f"{estimator!r} on {on!r}:\n" + "\n".join(problems)
    return results


def _turn(on: str | Turn) -> Turn:
    if callable(on):
        return on
    try:
        return CONTAINERS[on]
    except KeyError:
        raise ValueError(
            f"on must be 'numpy', a callable, or one of {', '.join(map(repr, CONTAINERS))}, got {on!r}"
        ) from None


def _checks(estimator: Any) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield the checks by name; the same check may come with several settings."""
    for subject, check in estimator_checks.estimator_checks_generator(estimator):
        yield _name(check), partial(check, subject)
    more = list(_MORE_OF_ALL)
    if hasattr(estimator, "transform"):
        more += _MORE_OF_TRANSFORMERS
    for name in more:
        yield name, partial(getattr(estimator_checks, name), type(estimator).__name__, clone(estimator))


def check_answers_of_numpy(estimator: Any, subject: Any, /) -> None:
    """Check that an estimator learns and answers on turned data what it does on NumPy arrays.

    scikit-learn's checks compare an estimator with itself, so one that looked at its first block only would
    pass.

    Parameters
    ----------
    estimator : estimator
        As it is.
    subject : estimator
        The same, turned.
    """
    rng = np.random.default_rng(20260417)
    X = np.abs(rng.normal(3, 1, (60, 4)))
    y = np.arange(60) % 3 + int(get_tags(estimator).target_tags.positive_only)
    here, there = clone(estimator).fit(X.copy(), y), clone(subject).fit(X.copy(), y)
    for name, value in vars(here).items():
        if name.endswith("_") and not name.startswith("_") and isinstance(value, (np.ndarray, float, int)):
            np.testing.assert_allclose(getattr(there, name), value, rtol=1e-9, atol=1e-12, err_msg=name)
    for method in ("transform", "inverse_transform", "predict", "predict_proba", "decision_function"):
        if hasattr(here, method):
            rows = here.transform(X.copy()) if method == "inverse_transform" else X
            got, expected = getattr(there, method)(rows.copy()), getattr(here, method)(rows.copy())
            np.testing.assert_allclose(got, np.asarray(expected), rtol=1e-9, atol=1e-12, err_msg=method)


def _name(check: Any) -> str:
    return check.func.__name__ if isinstance(check, partial) else check.__name__


def _result(estimator: Any, name: str, check: Callable[[], None], expected: Mapping[str, str]) -> dict[str, Any]:
    status, error = "passed", None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check()
    except estimator_checks.SkipTest as skipped:
        status, error = "skipped", skipped
    except Exception as failure:  # noqa: BLE001  (whatever a check raises is its failure)
        status, error = "failed", failure
    if name in expected:
        status = "xfail" if status == "failed" else status
    return {
        "estimator": estimator,
        "check_name": name,
        "exception": error,
        "status": status,
        "expected_to_fail": name in expected,
        "expected_to_fail_reason": expected.get(name),
    }


def _problem(result: Mapping[str, Any]) -> str:
    error = result["exception"]
    return f"{result['check_name']}: {type(error).__name__}: {shorten(str(error), 400)}"
