"""partial_fit and merge: as if everything had been fitted at once, whatever the parts."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ooclearn
import ooclearn.decomposition as ours
from ooclearn.exceptions import DataError
from ooclearn.testing import CountingBlocks

NAMES = ["PCA", "IncrementalPCA", "TruncatedSVD"]
X = np.random.default_rng(0).normal(size=(90, 4)) * [1.0, 2.0, 4.0, 8.0] + [1e3, 0.0, -5.0, 1e5]


def attributes(estimator):
    return {name: value for name, value in vars(estimator).items() if name.endswith("_") and not name.startswith("_")}


def assert_alike(a, b, room):
    left, right = attributes(a), attributes(b)
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_allclose(value, right[name], rtol=room, atol=room, err_msg=name)


@settings(max_examples=30, deadline=None)
@given(
    cuts=st.lists(st.integers(2, 88), max_size=6, unique=True).map(sorted),
    name=st.sampled_from(NAMES),
    merging=st.booleans(),
)
def test_any_parts_give_the_fit_of_all_rows(cuts, name, merging):
    cls = getattr(ours, name)
    parts = [part for part in np.split(X, cuts) if len(part) >= 2]
    whole = cls(n_components=2).fit(np.concatenate(parts))
    grown = cls(n_components=2)
    for part in parts:
        grown = (
            grown.merge(cls(n_components=2).fit(part)) if merging and part is not parts[0] else grown.partial_fit(part)
        )
    assert_alike(grown, whole, 1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_how_rows_are_cut_changes_nothing(backend, name):
    rows = X if backend.has("float64") else (X / [1e3, 1, 1, 1e4]).astype(np.float32)
    cls = getattr(ours, name)
    assert_alike(cls(n_components=2).fit(backend.make(rows)), cls(n_components=2).fit(rows), backend.within(1e6))


def test_incremental_pca_with_parts_of_two_rows_is_the_pca():
    """scikit-learn's, in batches of ten, is off by percents here."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(300, 6)) * np.linspace(1, 2, 6)
    grown = ours.IncrementalPCA(2)
    for start in range(0, 300, 2):
        grown.partial_fit(rows[start : start + 2])
    pca = ours.PCA(2).fit(rows)
    for name in ("components_", "explained_variance_", "noise_variance_", "explained_variance_ratio_"):
        np.testing.assert_allclose(getattr(grown, name), getattr(pca, name), rtol=1e-11, err_msg=name)
    assert grown.n_samples_seen_ == 300


def test_all_components_grow_with_the_rows():
    grown = ours.IncrementalPCA().partial_fit(X[:2])
    assert grown.n_components_ == 2
    assert grown.partial_fit(X[2:]).n_components_ == 4


@pytest.mark.parametrize("name", NAMES)
def test_a_part_that_is_refused_changes_nothing(name):
    mine = getattr(ours, name)(n_components=2).fit(X)
    before = pickle.dumps(mine)
    bad = X.copy()
    bad[3, 1] = np.nan
    with pytest.raises(DataError, match="contains NaN"):
        mine.partial_fit(bad)
    with pytest.raises(ValueError, match="X has 3 features"):
        mine.partial_fit(X[:, :3])
    with pytest.raises(ValueError, match=f"X has 4 features, but {name} is expecting 2 features"):
        mine.inverse_transform(X)
    with pytest.raises(TypeError, match="merges with its like"):
        mine.merge(next(getattr(ours, other)() for other in NAMES if other != name))
    assert pickle.dumps(mine) == before


@pytest.mark.parametrize("name", NAMES)
def test_one_reading_and_what_explain_says(name):
    rows = CountingBlocks(X, [30, 0, 1, 59])
    mine = getattr(ours, name)(n_components=2)
    plan = mine.explain(rows)
    assert rows.passes == 0
    mine.fit(rows)
    assert rows.passes == plan.n_passes == 1
    out = mine.transform(rows)
    assert rows.passes == 1, "transform of blocks is lazy"
    assert out.shape == (90, 2)
    if name == "PCA":
        mine.score(rows)
        assert rows.passes == 2


@pytest.mark.parametrize("name", NAMES)
def test_memory_does_not_grow_with_rows(name):
    def peak(n):
        rows = CountingBlocks(np.random.default_rng(0).normal(size=(n, 8)), [20_000] * (n // 20_000))
        mine = getattr(ours, name)(n_components=2)
        with ooclearn.config_context(workers=1):
            mine.fit(rows)  # what is kept for good, buffers and imports, is there now
            tracemalloc.start()
            try:
                mine.fit(rows)
                if name == "PCA":
                    mine.score(rows)
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    few, many = peak(60_000), peak(480_000)
    assert many <= 1.1 * few + 2**16, (few, many)
    assert many <= 24 * 2**20
