"""Law 5: scikit-learn's results, from one pass, alone and behind a scaler; and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import sklearn.naive_bayes as theirs
import sklearn.pipeline
import sklearn.preprocessing

import ooclearn.naive_bayes as ours
from ooclearn.exceptions import DataError, NonFiniteError
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import StandardScaler
from ooclearn.testing import CountingBlocks
from ooclearn.testing.tables import uneven_cut

ROWS = 500
COUNTED = ("MultinomialNB", "ComplementNB", "BernoulliNB", "CategoricalNB")
SETTINGS = [
    ("GaussianNB", {}),
    ("GaussianNB", {"priors": [0.2, 0.3, 0.5], "var_smoothing": 1e-3}),
    *((name, {}) for name in COUNTED),
    *((name, {"alpha": 0.1, "fit_prior": False}) for name in COUNTED),
    *((name, {"class_prior": [0.2, 0.3, 0.5]}) for name in COUNTED),
    ("MultinomialNB", {"alpha": [0.1, 1.0, 2.0, 0.0]}),
    ("ComplementNB", {"norm": True}),
    ("BernoulliNB", {"binarize": 2.0}),
    ("CategoricalNB", {"min_categories": 7}),
    ("CategoricalNB", {"min_categories": [7, 5, 5, 9]}),
]
METHODS = ("predict", "predict_proba", "predict_log_proba", "predict_joint_log_proba")
LABELS = {
    "numbers": np.array([3, -1, 7]),
    "floats": np.array([3.0, -1.0, 7.0]),
    "text": np.array(["b", "a", "long"]),
    "objects": np.array(["b", "a", "long"], dtype=object),
}


def table(name, ratio=0.0):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, ROWS)
    if name == "GaussianNB":
        return rng.standard_normal((ROWS, 4)) * [1.0, 2.0, 0.5, 1.0] + y[:, None] * [1.0, 0.0, 0.5, 2.0] + ratio, y
    return rng.poisson(1.0 + y[:, None] * [0.0, 1.0, 2.0, 0.5], (ROWS, 4)).clip(0, 4), y


def parts(value):
    return value if isinstance(value, list) else [value]


def assert_alike(mine, reference, rtol=1e-10, skip=()):
    for name, expected in vars(reference).items():
        if not name.endswith("_") or name.startswith("_") or name in skip:
            continue
        for got, want in zip(
            *(map(np.asarray, parts(value)) for value in (getattr(mine, name), expected)), strict=True
        ):
            assert got.dtype in (want.dtype, object), name  # scikit-learn makes text of objects that are text
            assert got.shape == want.shape, name
            if got.dtype.kind == "f":
                np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-14, err_msg=name)
            else:
                assert np.array_equal(got, want), name


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=repr)
def test_attributes_and_answers(name, settings, weighted, labels):
    X, y = table(name)
    y = LABELS[labels][y]
    w = np.random.default_rng(1).uniform(0, 2, ROWS) if weighted else None
    source = CountingBlocks(X, uneven_cut(ROWS))
    mine, reference = getattr(ours, name)(**settings), getattr(theirs, name)(**settings)
    assert mine.explain(source, y, w).n_passes == 1
    mine.fit(source, y, w)
    assert source.passes == 1
    reference.fit(X, y, w)
    assert_alike(mine, reference)
    for method in METHODS:
        got, expected = getattr(mine, method)(X), getattr(reference, method)(X)
        if method == "predict":
            best = np.sort(reference.predict_joint_log_proba(X), axis=1)
            clear = best[:, -1] - best[:, -2] > 1e-12  # rounding decides between classes that are level
            assert clear.mean() > 0.9
            assert np.array_equal(got[clear], expected[clear])
        else:
            np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12, err_msg=method)
    assert abs(mine.score(X, y) - reference.score(X, y)) < 0.01


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("ratio", [0.0, 1e3, 1e6, 1e8])
def test_behind_a_scaler_in_one_reading(ratio, weighted):
    X, y = table("GaussianNB", ratio)
    w = np.random.default_rng(1).uniform(0, 2, ROWS) if weighted else None
    weights = {"gaussiannb__sample_weight": w, "standardscaler__sample_weight": w} if weighted else {}
    source = CountingBlocks(X, uneven_cut(ROWS))
    mine = make_pipeline(StandardScaler(), ours.GaussianNB())
    assert mine.explain(source, y, **weights).n_passes == 1
    mine.fit(source, y, **weights)
    assert source.passes == 1
    staged = sklearn.pipeline.make_pipeline(sklearn.preprocessing.StandardScaler(), theirs.GaussianNB())
    staged.fit(X, y, **weights)
    exact = X.astype(np.longdouble)
    v = np.ones(ROWS) if w is None else w
    exact = exact - v @ exact / v.sum()
    exact = (exact / np.sqrt(v @ exact**2 / v.sum())).astype(np.float64)
    reference = theirs.GaussianNB().fit(exact, y, w)
    for name in ("theta_", "var_", "epsilon_", "class_count_", "class_prior_"):
        want = getattr(reference, name)
        got, other = (getattr(one[-1], name) for one in (mine, staged))
        size = np.max(np.abs(want))
        error, their_error = np.max(np.abs(got - want)) / size, np.max(np.abs(other - want)) / size
        # Where the two differ, it is scikit-learn that is off: its scaler's mean has rounding of all the rows.
        assert error <= their_error + max(1e-13, 2.0**-53 * ratio), name
        if ratio <= 1e6:
            assert np.max(np.abs(got - other)) / size <= 1e-10 + 2 * their_error, name
    assert np.mean(mine.predict(X) == staged.predict(X)) > 0.99


@pytest.mark.parametrize("name", ["GaussianNB", "MultinomialNB", "BernoulliNB", "CategoricalNB"])
def test_every_container(name, backend):
    X, y = table(name)
    reference = getattr(ours, name)().fit(X, y)
    mine = getattr(ours, name)().fit(backend.make(X), y)
    np.testing.assert_allclose(mine.class_count_, reference.class_count_)
    np.testing.assert_allclose(
        backend.back(mine.predict_proba(backend.make(X))), reference.predict_proba(X), atol=backend.within(2000)
    )
    labels = backend.back(mine.predict(backend.make(X)))
    assert np.mean(labels == reference.predict(X)) > 0.99


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", ["GaussianNB", *COUNTED])
def test_partial_fit_and_merge_are_one_fit(name, weighted):
    X, y = table(name, 1e3)
    order = np.argsort(y, kind="stable")  # so that no part has all the classes
    X, y = X[order], y[order]
    w = np.random.default_rng(1).uniform(0, 2, ROWS) if weighted else np.ones(ROWS)
    weights = (lambda part: {"sample_weight": w[part]}) if weighted else lambda _: {}
    cuts = [slice(0, 250), slice(250, 251), slice(251, ROWS)]
    whole = getattr(ours, name)().fit(X, y, **weights(slice(None)))
    found, given = getattr(ours, name)(), getattr(ours, name)()
    for part in cuts:
        found.partial_fit(X[part], y[part], **weights(part))
        given.partial_fit(X[part], y[part], [0, 1, 2], **weights(part))
        assert np.array_equal(given.classes_, [0, 1, 2])
        assert np.isin(given.predict(X[part]), found.classes_).all()
    merged = getattr(ours, name)().fit(X[cuts[2]], y[cuts[2]], **weights(cuts[2]))
    for part in cuts[:2]:
        merged.merge(getattr(ours, name)().fit(X[part], y[part], **weights(part)))
    for one in (found, given, merged):
        assert_alike(one, whole)


def test_classes_that_are_given_bound_the_labels():
    X, y = table("GaussianNB")
    model = ours.GaussianNB().partial_fit(X, y, [0, 1, 2, 5])
    reference = theirs.GaussianNB().partial_fit(X, y, [0, 1, 2, 5])
    assert_alike(model, reference)
    assert np.array_equal(model.predict_proba(X)[:, 3], np.zeros(ROWS))
    with pytest.raises(DataError, match="do not exist in the initial classes"):
        model.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match="not the same as on last call"):
        model.partial_fit(X, y, [0, 1, 2])
    assert_alike(model, reference)
    with pytest.raises(DataError, match="X has 2 features"):
        model.merge(ours.GaussianNB().fit(X[:, :2], y))


def test_a_share_of_0_is_a_chance_of_none():
    X = np.array([[0, 1], [0, 2], [1, 0], [2, 0]])
    y = np.array([0, 0, 1, 1])
    for name in ("MultinomialNB", "CategoricalNB"):
        mine = getattr(ours, name)(alpha=0.0).fit(X, y)
        with np.errstate(divide="ignore"):
            assert_alike(mine, getattr(theirs, name)(alpha=0.0).fit(X, y))
        assert np.array_equal(mine.predict(X[:2]), y[:2])
    mine = ours.MultinomialNB(alpha=0.0, force_alpha=False)
    with pytest.warns(UserWarning, match="alpha too small"):
        mine.fit(X, y)
    assert np.array_equal(mine.predict(X), y)


@pytest.mark.parametrize("name", ["GaussianNB", *COUNTED])
def test_one_class(name):
    X, _ = table(name)
    mine, reference = (getattr(module, name)().fit(X, np.full(ROWS, "only")) for module in (ours, theirs))
    assert_alike(mine, reference)
    assert set(mine.predict(X)) == {"only"}
    assert np.array_equal(mine.predict_proba(X), np.ones((ROWS, 1)))


@pytest.mark.parametrize("name", ["GaussianNB", *COUNTED])
def test_what_is_refused_leaves_the_fit_as_it_was(name):
    X, y = table(name)
    X = X.astype(np.float64)
    model = getattr(ours, name)().fit(X, y)
    before = model.predict_proba(X)
    bad = X.copy()
    bad[77, 2] = np.nan
    with pytest.raises(NonFiniteError, match="Input X contains NaN") as caught:
        model.fit(CountingBlocks(bad, uneven_cut(ROWS)), y)
    assert (caught.value.rows, caught.value.column) == ((77, 78), 2)
    for method in METHODS:
        with pytest.raises(NonFiniteError) as caught:
            getattr(model, method)(bad)
        assert caught.value.column == 2
    with pytest.raises(ValueError, match="requires y"):
        model.fit(X, None)
    with pytest.raises(DataError, match="inconsistent|rows"):
        model.fit(X, y[:-1])
    with pytest.raises(ValueError, match="Unknown label type"):
        model.fit(X, np.linspace(0, 1, ROWS))
    with pytest.raises(DataError, match="sample weights are zero"):
        model.fit(X, y, np.zeros(ROWS))
    with pytest.raises(ValueError, match="[Nn]umber of priors must match"):
        getattr(ours, name)(**{"priors" if name == "GaussianNB" else "class_prior": [0.5, 0.5]}).fit(X, y)
    assert np.array_equal(model.predict_proba(X), before)


def test_parameters_that_do_not_fit_are_refused():
    X, y = table("CategoricalNB")
    for settings, text in (
        ({"min_categories": [3, 4]}, "should have shape"),
        ({"min_categories": [1.5, 2.0, 3.0, 4.0]}, "integral type"),
    ):
        with pytest.raises(ValueError, match=text):
            ours.CategoricalNB(**settings).fit(X, y)
    with pytest.raises(ValueError, match="should contains `n_features`"):
        ours.MultinomialNB(alpha=[1.0, 2.0]).fit(X, y)
    with pytest.raises(ValueError, match="greater than 0"):
        ours.MultinomialNB(alpha=[1.0, 2.0, 3.0, -1.0]).fit(X, y)
    with pytest.raises(ValueError, match="sum of the priors"):
        ours.GaussianNB(priors=[0.1, 0.1, 0.1]).fit(X, y)
    with pytest.raises(DataError, match="Negative values in data"):
        ours.MultinomialNB().fit(X - 1, y)
    model = ours.CategoricalNB().fit(X, y)
    with pytest.raises(DataError, match="did not occur in the fit") as caught:
        model.predict(np.array([[0, 0, 0, 0], [0, 9, 0, 0]]))
    assert (caught.value.rows, caught.value.column) == ((1, 2), 1)
    with pytest.raises(DataError, match="Negative values in data"):
        model.predict(np.array([[0, -1, 0, 0]]))


@pytest.mark.parametrize("name", ["MultinomialNB", "ComplementNB", "BernoulliNB"])
@pytest.mark.parametrize("made", [scipy.sparse.csr_array, scipy.sparse.csc_matrix], ids=lambda made: made.__name__)
def test_sparse_rows(name, made):
    X, y = table(name)
    w = np.random.default_rng(1).uniform(0, 2, ROWS)
    rows = made(np.where(X > 2, X, 0))
    for weights in (None, w):
        mine, reference = (getattr(module, name)().fit(rows, y, weights) for module in (ours, theirs))
        assert_alike(mine, reference)
        np.testing.assert_allclose(mine.predict_proba(rows), reference.predict_proba(rows), rtol=1e-9)
        assert np.array_equal(mine.predict(rows), reference.predict(rows))
        assert mine.score(rows, y) == reference.score(rows, y)
    for bad, text in ((np.nan, "contains NaN"), (-1.0, "Negative values")):
        if bad == bad and name == "BernoulliNB":  # noqa: PLR0124  (what NaN is known by)
            continue
        cells = np.zeros((9, 4))
        cells[4, 3] = bad
        with pytest.raises(DataError, match=text) as caught:
            getattr(ours, name)().fit(made(cells), np.arange(9) % 2)
        assert (caught.value.rows, caught.value.column) == ((4, 5), 3)


def test_constant_columns():
    X, y = table("GaussianNB")
    X[:, 1] = 0.1
    mine, reference = (module.GaussianNB().fit(X, y) for module in (ours, theirs))
    assert_alike(mine, reference)
