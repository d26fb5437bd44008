"""Every public estimator beside scikit-learn's of the same name, and beside its own docstring.

Parameters, methods, tags, routing, attributes.
"""

from __future__ import annotations

import importlib
import inspect
import re
import warnings
from dataclasses import asdict

import numpy as np
import pytest
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter

MODULES = (
    "preprocessing",
    "decomposition",
    "covariance",
    "linear_model",
    "discriminant_analysis",
    "naive_bayes",
    "cluster",
    "feature_selection",
)
TWINS = {
    name: (found, getattr(importlib.import_module(f"sklearn.{module}"), name))
    for module in MODULES
    for name, found in vars(importlib.import_module(f"ooclearn.{module}")).items()
    if inspect.isclass(found) and hasattr(importlib.import_module(f"sklearn.{module}"), name)
}

# Parameters of scikit-learn's that are left out, as there is nothing to choose here.
LEFT_OUT = {
    "PCA": "copy tol iterated_power n_oversamples power_iteration_normalizer random_state",
    "IncrementalPCA": "copy batch_size",
    "TruncatedSVD": "algorithm n_iter n_oversamples power_iteration_normalizer random_state tol",
    "LedoitWolf": "block_size",
    "ElasticNet": "precompute copy_X warm_start",
    "Lasso": "precompute copy_X warm_start",
    "LinearRegression": "copy_X n_jobs",
    "Ridge": "copy_X max_iter tol solver random_state",
    "RidgeCV": "scoring gcv_mode store_cv_results",
    "LogisticRegression": "penalty dual intercept_scaling random_state verbose n_jobs",
    "GammaRegressor": "verbose",
    "PoissonRegressor": "verbose",
    "TweedieRegressor": "verbose",
    "SGDClassifier": (
        "max_iter tol verbose epsilon n_jobs early_stopping validation_fraction n_iter_no_change warm_start"
    ),
    "SGDRegressor": "max_iter tol verbose early_stopping validation_fraction n_iter_no_change warm_start",
    "LinearDiscriminantAnalysis": "covariance_estimator",
    "QuadraticDiscriminantAnalysis": "covariance_estimator",
    "KMeans": "copy_x algorithm",
}
OURS_ALONE = {
    "SGDClassifier": "epochs batch_rows block_rows",
    "SGDRegressor": "epochs batch_rows block_rows",
    "KMeans": "oversampling_factor init_max_iter",
}
# Fewer passes than with scikit-learn's default; the optimum is the same.
OTHER_DEFAULTS = {
    "LogisticRegression": {"solver": "newton-cholesky"},
    "GammaRegressor": {"solver": "newton-cholesky"},
    "PoissonRegressor": {"solver": "newton-cholesky"},
    "TweedieRegressor": {"solver": "newton-cholesky"},
    "KMeans": {"init": "k-means||"},
}
# `path` is a solver for arrays; what makes coefficients sparse, and callbacks between iterations, is not here.
NO_METHODS = {
    "path",
    "sparsify",
    "densify",
    "loss_functions",
    "set_callbacks",
    "set_transform_request",
    "set_inverse_transform_request",
}
# batch_size_ and solver_ belong to parameters that are left out.
NO_ATTRIBUTES = {"batch_size_", "solver_"}


def parameters(kind):
    return {name: one.default for name, one in inspect.signature(kind).parameters.items()}


@pytest.mark.parametrize("name", TWINS)
def test_parameters_and_defaults(name):
    ours, theirs = map(parameters, TWINS[name])
    assert set(theirs) - set(ours) <= set(LEFT_OUT.get(name, "").split())
    assert set(ours) - set(theirs) == set(OURS_ALONE.get(name, "").split())
    for parameter in LEFT_OUT.get(name, "").split():
        assert name in {"GammaRegressor", "TweedieRegressor"} or parameter in TWINS[name][0].__doc__
    others = OTHER_DEFAULTS.get(name, {})
    for parameter in set(ours) & set(theirs):
        default = ours[parameter]
        if inspect.isfunction(default):
            assert default.__name__ == theirs[parameter].__name__
        else:
            assert default == others.get(parameter, theirs[parameter]), parameter


@pytest.mark.parametrize("name", TWINS)
def test_methods(name):
    ours, theirs = ({one for one in dir(kind) if not one.startswith("_")} for kind in TWINS[name])
    assert theirs - ours - set(LEFT_OUT.get(name, "").split()) <= NO_METHODS


@pytest.mark.parametrize("name", TWINS)
def test_tags(name):
    ours, theirs = (asdict(get_tags(kind())) for kind in TWINS[name])
    assert ours.pop("array_api_support") is False, "fitted attributes lie on the host, whatever the rows"
    theirs.pop("array_api_support")
    assert not ours["input_tags"].pop("sparse") or theirs["input_tags"]["sparse"]
    theirs["input_tags"].pop("sparse")
    if name.startswith("Select"):  # the scores that there are all compare with a target
        assert ours["target_tags"].pop("required")
        theirs["target_tags"].pop("required")
    if name == "IncrementalPCA":  # PCA's: float32 stays
        assert set(ours["transformer_tags"].pop("preserves_dtype")) > set(
            theirs["transformer_tags"].pop("preserves_dtype")
        )
    assert ours == theirs


@pytest.mark.parametrize("name", TWINS)
def test_metadata(name):
    ours, theirs = (kind() for kind in TWINS[name])
    if has_fit_parameter(theirs, "sample_weight"):
        assert has_fit_parameter(ours, "sample_weight")
    if name == "RidgeCV":  # whose own routing calls itself for ever in scikit-learn 1.9
        return
    asked, wanted = (one.get_metadata_routing()._serialize() for one in (ours, theirs))
    for method in ("fit", "partial_fit", "score"):
        mine, other = asked.get(method, {}), wanted.get(method, {})
        assert set(other) - set(mine) <= {"coef_init", "intercept_init"}, method
        assert set(mine) - set(other) <= {"sample_weight", "classes"}, method


def table(name):
    rng = np.random.default_rng(0)
    X = rng.normal(2, 1, (120, 5))
    X = np.floor(4 * np.abs(X)) % 4 if name.endswith("NB") and name != "GaussianNB" else X
    if name.startswith(("Gamma", "Poisson", "Tweedie")):
        return X, np.exp(X[:, 0])
    regressor = get_tags(TWINS[name][1]()).estimator_type == "regressor"
    return X, X @ np.arange(5.0) + rng.normal(size=120) if regressor else rng.integers(0, 3, 120)


@pytest.mark.parametrize("name", TWINS)
def test_fitted_attributes(name):
    X, y = table(name)
    ours, theirs = (kind(**({"k": 2} if name == "SelectKBest" else {})) for kind in TWINS[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours.fit(X, y)
        theirs.fit(X, y)
    learned = {one for one in dir(theirs) if one.endswith("_") and not one.startswith("_") and hasattr(theirs, one)}
    for attribute in learned - NO_ATTRIBUTES:
        mine, other = getattr(ours, attribute), getattr(theirs, attribute)
        assert np.shape(mine) == np.shape(other), attribute
        if isinstance(other, np.ndarray):
            assert isinstance(mine, np.ndarray), attribute
            assert mine.dtype == other.dtype, attribute
        elif hasattr(other, "tocsr"):
            assert type(mine) is type(other), attribute


def sections(text):
    """Return what stands in each section of a numpydoc docstring."""
    parts = re.split(r"^(.+)\n-{3,}\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def documented(section):
    """Return the names that a section describes, in order; one line may have several."""
    return [name for line in re.findall(r"^(\S.*?) : ", section, re.MULTILINE) for name in line.split(", ")]


@pytest.mark.parametrize("name", TWINS)
def test_docstring(name):
    kind = TWINS[name][0]
    found = sections(inspect.getdoc(kind))
    assert {"Parameters", "Attributes", "Examples"} <= set(found)
    assert documented(found["Parameters"]) == list(parameters(kind))
    assert set(parameters(kind)) == set(kind().get_params())

    settings = {"k": 2, "store_covariance": True}
    model = kind(**{one: value for one, value in settings.items() if one in parameters(kind)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(*table(name))
    learned = {one for one in dir(model) if one.endswith("_") and not one.startswith("_") and hasattr(model, one)}
    attributes = documented(found["Attributes"])
    assert sorted(attributes) == sorted(learned | {"feature_names_in_"}), "the table has no names of columns"


@pytest.mark.parametrize("name", TWINS)
def test_the_docstring_says_what_a_fit_costs(name):
    text = inspect.getdoc(TWINS[name][0])
    assert re.search(r"\bpass(es)?\b", text)
    assert re.search(r"\bmemory\b", text, re.IGNORECASE)
