"""Law 5: scores, p-values, what is kept and what comes out are scikit-learn's, on every container."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest
import sklearn.feature_selection as theirs

import ooclearn
import ooclearn.feature_selection as ours
from ooclearn.exceptions import DataError, NonFiniteError
from ooclearn.testing import CountingBlocks
from ooclearn.testing.tables import uneven_cut

FUNCTIONS = {
    "f_classif": [{}],
    "chi2": [{}],
    "f_regression": [{}, {"center": False}, {"force_finite": False}, {"center": False, "force_finite": False}],
    "r_regression": [{}, {"center": False}, {"force_finite": False}],
}
CASES = [(name, options) for name, several in FUNCTIONS.items() for options in several]
SELECTORS = [
    ("SelectKBest", {"k": 2}),
    ("SelectKBest", {"k": "all"}),
    ("SelectKBest", {"k": 0}),
    ("SelectPercentile", {"percentile": 40}),
    ("SelectPercentile", {"percentile": 33.3}),
    ("SelectPercentile", {"percentile": 0}),
    ("SelectPercentile", {"percentile": 100}),
]


def table(name, dtype="float64", n=150, offset=0.0, seed=3):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    X = rng.normal(size=(n, 6)) + np.outer(y, [2.0, 0.5, 0.1, 0.0, -1.0, 0.2]) + offset
    X = np.abs(np.round(5 * X)) if name == "chi2" or np.dtype(dtype).kind in "iu" else X
    return X.astype(dtype), y if name in ("f_classif", "chi2") else y + rng.normal(size=n)


def quiet(function, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **options)


def same(got, expected, rtol):
    got, expected = (one if isinstance(one, tuple) else (one,) for one in (got, expected))
    assert len(got) == len(expected)
    for mine, reference in zip(got, expected, strict=True):
        assert mine.dtype == np.float64
        assert mine.shape == reference.shape
        np.testing.assert_allclose(mine, reference, rtol=rtol, atol=1e-290)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "uint8"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_functions(backend, name, options, dtype):
    if not backend.has(dtype):
        dtype = "float32"
    X, y = table(name, dtype)
    expected = getattr(theirs, name)(X.astype(float), y, **options)
    got = getattr(ours, name)(backend.make(X), y, **options)
    same(got, expected, 1e-10 if backend.rounding < 1e-10 else 2e-3)


@pytest.mark.parametrize("offset", [1e2, 1e4, 1e6])
@pytest.mark.parametrize(("name", "options"), [case for case in CASES if case[0] != "chi2"], ids=str)
def test_far_from_zero(name, options, offset):
    """scikit-learn squares about 0, and so loses ``offset**2`` of its digits; ours do not depend on the offset."""
    X, y = table(name, offset=offset)
    expected = getattr(theirs, name)(X, y, **options)
    got = getattr(ours, name)(ooclearn.scan(X).recut(uneven_cut(len(X))), y, **options)
    first, reference = (one[0] if isinstance(one, tuple) else one for one in (got, expected))
    lost = 0 if options.get("center") is False else 1e-13 * offset**2
    np.testing.assert_allclose(first, reference, rtol=1e-10 + 50 * lost)


@pytest.mark.parametrize(("name", "parameters"), SELECTORS, ids=str)
@pytest.mark.parametrize("score", FUNCTIONS)
def test_selectors(backend, name, parameters, score):
    X, y = table(score, "float64" if backend.has("float64") else "float32")
    mine = getattr(ours, name)(getattr(ours, score), **parameters)
    reference = getattr(theirs, name)(getattr(theirs, score), **parameters).fit(X.astype(float), y)
    data = backend.make(X)
    assert mine.fit(data, y) is mine
    np.testing.assert_array_equal(mine.get_support(), reference.get_support())
    np.testing.assert_array_equal(mine.get_support(indices=True), reference.get_support(indices=True))
    np.testing.assert_array_equal(mine.get_feature_names_out(), reference.get_feature_names_out())
    assert (mine.pvalues_ is None) == (reference.pvalues_ is None)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        out = mine.transform(data)
    assert any("No features were selected" in str(one.message) for one in seen) == (not mine.get_support().any())
    got = backend.back(out)
    expected = quiet(reference.transform, X)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)
    if got.shape[1]:
        back = backend.back(mine.inverse_transform(out))
        expected = reference.inverse_transform(expected)
        assert back.dtype == expected.dtype
        np.testing.assert_array_equal(back, expected)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 3.0])
def test_variance_threshold(backend, threshold):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(90, 7)) * [0.1, 1, 2, 3, 30, 0, 1] + [0, 1, 5, -2, 7, 0.1, 3]
    X[::5, 1] = np.nan
    X[:, 6] = np.where(np.arange(90) % 4 == 0, np.nan, 0.3)  # one value alone, but for those that are missing
    X = X.astype("float64" if backend.has("float64") else "float32")
    mine, reference = ours.VarianceThreshold(threshold), theirs.VarianceThreshold(threshold)
    reference.fit(X)
    data = backend.make(X)
    assert mine.fit(data) is mine
    room = backend.within(64)
    np.testing.assert_allclose(mine.variances_, reference.variances_, rtol=room, atol=room)
    assert mine.variances_[5] <= 1e-15
    expected = mine.variances_ > threshold
    assert not expected[6]
    np.testing.assert_array_equal(np.delete(mine.get_support(), 6), np.delete(reference.get_support(), 6))
    np.testing.assert_array_equal(backend.back(mine.transform(data)), X[:, expected])


def test_a_range_less_than_the_variance():
    """scikit-learn's `variances_` with a threshold of 0 is the lesser of the two, where nothing is missing."""
    X = np.array([[0.0, 0.0], [40.0, 40.0], [20.0, np.nan]])
    mine, reference = ours.VarianceThreshold().fit(X), theirs.VarianceThreshold().fit(X)
    np.testing.assert_allclose(mine.variances_, reference.variances_)


@pytest.mark.parametrize("cut", [None, (2, 0, 1, 40, 47)])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e8 + 0.1, -123456.789])
@pytest.mark.parametrize("name", ["f_classif", "f_regression", "r_regression"])
def test_constant_columns_score_nothing(name, value, cut):
    X, y = table(name, n=90)
    X[:, 2] = value
    X[:, 4] = y
    data = X if cut is None else ooclearn.scan(X).recut(cut)
    scores = quiet(getattr(ours, name), data, y)
    first = scores[0] if isinstance(scores, tuple) else scores
    assert np.isnan(first[2]) if name == "f_classif" else first[2] == 0.0
    best = {"f_classif": np.inf, "f_regression": np.finfo(float).max, "r_regression": 1.0}[name]
    assert first[4] == best or (name == "f_regression" and first[4] > 1e12) or first[4] == pytest.approx(1.0)
    selector = quiet(ours.SelectKBest(getattr(ours, name), k=5).fit, data, y)
    if name != "r_regression":
        assert selector.get_support().tolist() == [True, True, False, True, True, True]


def test_a_constant_column_is_not_kept_for_its_rounding():
    """scikit-learn keeps this one before others, as its sums of squares about 0 leave some noise."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    X = np.column_stack([rng.normal(size=(400, 3)), np.full(400, 0.1)])
    with pytest.warns(UserWarning, match="constant"):
        assert ours.SelectKBest(k=3).fit(X, y).get_support().tolist() == [True, True, True, False]


def test_constant_columns_are_told_of():
    X, y = table("f_classif")
    X[:, 2] = 0.1
    with pytest.warns(UserWarning, match=r"Features \[2\] are constant"):
        ours.f_classif(X, y)


def test_a_constant_target():
    X, _ = table("f_regression")
    y = np.full(len(X), 0.1)
    f, p = ours.f_regression(ooclearn.scan(X).recut((49, 1, 100)), y)
    assert not f.any()
    assert (p == 1.0).all()
    assert np.isnan(ours.r_regression(X, y, force_finite=False)).all()


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("score", ["f_classif", "f_regression"])
def test_ties_as_in_scikit_learn(score, k):
    X, y = table(score)
    X = X[:, [0, 1, 1, 0]]
    mine, reference = (of.SelectKBest(getattr(of, score), k=k).fit(X, y) for of in (ours, theirs))
    np.testing.assert_array_equal(mine.get_support(), reference.get_support())
    mine, reference = (of.SelectPercentile(getattr(of, score), percentile=25 * k).fit(X, y) for of in (ours, theirs))
    np.testing.assert_array_equal(mine.get_support(), reference.get_support())


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_functions_of_scikit_learn_stand_for_ours(name, options):
    X, y = table(name)
    mine = ours.SelectKBest(partial(getattr(ours, name), **options), k=3).fit(X, y)
    again = ours.SelectKBest(partial(getattr(theirs, name), **options), k=3).fit(X, y)
    np.testing.assert_array_equal(mine.scores_, again.scores_)


@pytest.mark.parametrize("labels", [["b", "a", "c"], [True, False, True], [2.0, 7.0, -1.0]])
@pytest.mark.parametrize("name", ["f_classif", "chi2"])
def test_labels_of_any_type(name, labels):
    X, y = table(name)
    y = np.array(labels)[y]
    same(getattr(ours, name)(X, y), getattr(theirs, name)(X, y), 1e-10)


def test_a_block_that_lacks_a_class():
    X, y = table("f_classif")
    order = np.argsort(y, kind="stable")
    same(ours.f_classif(ooclearn.scan(X[order]).recut((30, 1, 119)), y[order]), theirs.f_classif(X, y), 1e-10)


def test_growing_and_merging():
    X, y = table("f_regression")
    whole = ours.SelectKBest(ours.f_regression, k=2).fit(X, y)
    grown = ours.SelectKBest(ours.f_regression, k=2).partial_fit(X[:40], y[:40]).partial_fit(X[40:], y[40:])
    merged = ours.SelectKBest(ours.f_regression, k=2).fit(X[:40], y[:40])
    merged.merge(ours.SelectKBest(ours.f_regression, k=2).fit(X[40:], y[40:]))
    np.testing.assert_allclose(grown.scores_, whole.scores_, rtol=1e-12)
    np.testing.assert_allclose(merged.scores_, whole.scores_, rtol=1e-12)
    few = ours.VarianceThreshold().partial_fit(X[:1]).partial_fit(X[1:])
    np.testing.assert_allclose(few.variances_, ours.VarianceThreshold().fit(X).variances_, rtol=1e-12)


def test_names_and_frames():
    pd = pytest.importorskip("pandas", reason="in the group `test`")
    X, y = table("f_classif")
    frame = pd.DataFrame(X, columns=list("abcdef"))
    mine = ours.SelectKBest(k=2).set_output(transform="pandas").fit(frame, y)
    reference = theirs.SelectKBest(k=2).set_output(transform="pandas").fit(frame, y)
    pd.testing.assert_frame_equal(mine.transform(frame), reference.transform(frame))
    assert mine.get_feature_names_out().tolist() == reference.get_feature_names_out().tolist() == ["a", "e"]


class TestReadings:
    @pytest.mark.parametrize(("name", "options"), CASES, ids=str)
    def test_one_for_a_function(self, name, options):
        X, y = table(name)
        source = CountingBlocks(X, [70, 0, 80])
        getattr(ours, name)(source, y, **options)
        assert source.passes == 1

    @pytest.mark.parametrize("selector", [ours.SelectKBest(k=2), ours.VarianceThreshold()], ids=repr)
    def test_one_for_a_fit_and_none_for_a_transform(self, selector):
        X, y = table("f_classif")
        source = CountingBlocks(X, [70, 0, 80])
        assert selector.explain(source, y).n_passes == 1
        assert not source.reads
        selector.fit(source, y)
        assert source.passes == 1
        out = selector.transform(source)
        assert source.passes == 1
        np.testing.assert_array_equal(out.to_numpy(), X[:, selector.get_support()])


class TestRefused:
    def test_other_functions(self):
        X, y = table("f_classif")
        with pytest.raises(ValueError, match="mutual_info_classif wants all rows in memory.*f_classif, f_regression"):
            ours.SelectKBest(theirs.mutual_info_classif).fit(X, y)

    def test_options_that_there_are_not(self):
        X, y = table("f_classif")
        with pytest.raises(TypeError, match="unexpected keyword argument 'center'"):
            ours.SelectKBest(partial(ours.f_classif, center=True)).fit(X, y)
        with pytest.raises(ValueError, match="'center' parameter of r_regression must be True or False"):
            ours.r_regression(X, y, center=2)

    @pytest.mark.parametrize("rows", [1, 5])
    def test_nothing_varies(self, rows):
        X = np.full((rows, 2), 0.1)
        with pytest.raises(ValueError, match=r"No feature in X meets the variance threshold 0.00000") as mine:
            ours.VarianceThreshold().fit(X)
        with pytest.raises(ValueError, match="No feature in X") as reference:
            theirs.VarianceThreshold().fit(X)
        assert str(mine.value) == str(reference.value)

    def test_negative_counts(self):
        X, y = table("chi2")
        X[77, 3] = -1
        with pytest.raises(DataError, match="egative") as found:
            ours.chi2(ooclearn.scan(X).recut((70, 80)), y)
        assert (found.value.block, found.value.rows, found.value.column) == (1, (77, 78), 3)

    @pytest.mark.parametrize("name", FUNCTIONS)
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_what_is_not_finite(self, name, bad):
        X, y = table(name)
        X[77, 3] = bad
        with pytest.raises(NonFiniteError) as found:
            getattr(ours, name)(ooclearn.scan(X).recut((70, 80)), y)
        assert (found.value.block, found.value.rows, found.value.column) == (1, (77, 78), 3)

    def test_what_is_not_finite_in_a_column_that_is_left_out(self):
        X, y = table("f_classif")
        selector = ours.SelectKBest(k=1).fit(X, y)
        X[77, 3] = np.nan
        with pytest.raises(NonFiniteError):
            selector.transform(X)

    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_targets(self, name):
        X, y = table(name)
        function = getattr(ours, name)
        with pytest.raises(ValueError, match="requires y to be passed"):
            function(X, None)
        with pytest.raises(ValueError, match="requires y to be passed"):
            ours.SelectKBest(function).fit(X)
        with pytest.raises(DataError, match="y should be a 1d array"):
            function(X, np.stack([y, y], axis=1))
        with pytest.raises(ValueError, match="149"):
            function(X, y[1:])
        with pytest.warns(UserWarning, match="column-vector y"):
            function(X, y[:, None])

    def test_targets_of_another_kind(self):
        X, y = table("chi2")
        with pytest.raises(ValueError, match="Unknown label type"):
            ours.f_regression(X, y.astype(str))
        with pytest.raises(ValueError, match="Unknown label type: continuous"):
            ours.chi2(X, y + 0.5)

    def test_more_than_there_are(self):
        X, y = table("f_classif")
        with pytest.warns(UserWarning, match="k=10 is greater than n_features=6"):
            ours.SelectKBest().fit(X, y)
