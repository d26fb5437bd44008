"""``Incremental``: the numbers of one epoch, and the order of the rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.linear_model import Perceptron, SGDClassifier, SGDOneClassSVM, SGDRegressor
from sklearn.naive_bayes import GaussianNB

import ooclearn
from feeding import ONE_EPOCH, Recorder, close, fed, table
from ooclearn import Incremental
from ooclearn.exceptions import DataWarning
from ooclearn.testing.strategies import cuts


class TestSameNumbersAsFit:
    """With ``shuffle=False`` any cut of the rows is one epoch of the estimator's own fit."""

    MODELS = pytest.mark.parametrize(
        ("cls", "classes"),
        [
            (SGDClassifier, 2),
            (SGDClassifier, 3),
            (Perceptron, 2),
            (Perceptron, 3),
            (SGDRegressor, 0),
            (SGDOneClassSVM, 0),
        ],
        ids=lambda value: getattr(value, "__name__", str(value)),
    )

    @MODELS
    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(cut=cuts(90), block_rows=st.integers(1, 100))
    def test_any_cut(self, cls, classes, cut, block_rows):
        X, y = table(90, classes=classes)
        expected = cls(**ONE_EPOCH).fit(X, y)
        model = Incremental(cls(shuffle=False), block_rows=block_rows, shuffle=False)
        close(model.fit(ooclearn.scan(X).recut(cut), ooclearn.scan(y)).coef_, expected.coef_)
        for name in ("intercept_", "offset_"):
            if hasattr(expected, name):
                close(getattr(model, name), getattr(expected, name))

    @MODELS
    @settings(max_examples=15, deadline=None, derandomize=True)
    @given(cut=cuts(60), block_rows=st.one_of(st.none(), st.integers(1, 70)))
    def test_any_chunks(self, cls, classes, cut, block_rows):
        da = pytest.importorskip("dask.array", reason="the extra `dask` is not installed")
        X, y = table(60, classes=classes)
        expected = cls(**ONE_EPOCH).fit(X, y)
        model = Incremental(cls(shuffle=False), block_rows=block_rows, shuffle=False)
        model.fit(da.from_array(X, chunks=(cut, (4,))), da.from_array(y, chunks=17))
        close(model.coef_, expected.coef_)

    @pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
    def test_every_container(self, backend, dtype):
        if not backend.has(dtype):
            pytest.skip(f"{backend.name} has no {dtype}")
        X, y = table(300)
        X = (10 * X).astype(dtype)
        expected = SGDClassifier(**ONE_EPOCH).fit(X, y)
        model = Incremental(SGDClassifier(shuffle=False), block_rows=70).fit(backend.make(X), backend.make(y))
        close(model.coef_, expected.coef_, rtol=1e-12 if dtype != "float32" else 1e-5)
        assert model.coef_.dtype == expected.coef_.dtype
        assert type(model.coef_) is np.ndarray
        assert_array_equal(backend.back(model.predict(backend.make(X))), expected.predict(X))

    def test_epochs(self):
        X, y = table()
        expected = SGDClassifier(shuffle=False, max_iter=4, tol=None).fit(X, y)
        model = Incremental(SGDClassifier(shuffle=False), epochs=4, block_rows=100).fit(X, y)
        close(model.coef_, expected.coef_)
        assert model.n_epochs_ == 4
        assert model.t_ == expected.t_

    def test_averages_of_regressions(self):
        X, y = table(classes=0)
        expected = SGDRegressor(average=True, **ONE_EPOCH).fit(X, y)
        model = Incremental(SGDRegressor(average=True, shuffle=False), block_rows=70).fit(X, y)
        close(model.coef_, expected.coef_)
        close(model.intercept_, expected.intercept_)
        expected = SGDOneClassSVM(average=True, **ONE_EPOCH).fit(X)
        model = Incremental(SGDOneClassSVM(average=True, shuffle=False), block_rows=70).fit(X)
        close(model.coef_, expected.coef_)

    def test_weights(self, host_backend):
        X, y = table(200)
        w = np.random.default_rng(1).uniform(0, 2, 200)
        expected = SGDClassifier(**ONE_EPOCH).fit(X, y, sample_weight=w)
        model = Incremental(SGDClassifier(shuffle=False), block_rows=30)
        close(model.fit(*map(host_backend.make, (X, y, w))).coef_, expected.coef_)
        close(model.fit(host_backend.make(X), y, w).coef_, expected.coef_)
        close(model.fit(X, y, 3.0).coef_, SGDClassifier(**ONE_EPOCH).fit(X, y, sample_weight=np.full(200, 3.0)).coef_)


class TestOrder:
    def ids(self, container, **settings):
        """Return the numbers of the rows, block by block, in the order in which they were fed."""
        return [block[:, 0].astype(int) for block in fed(container, **settings).X]

    @pytest.fixture
    def numbered(self):
        return np.stack([np.arange(500.0), np.zeros(500)], axis=1)

    def test_each_row_once_an_epoch_and_epochs_differ(self, numbered, host_backend):
        blocks = self.ids(host_backend.make(numbered), shuffle=True, epochs=3, block_rows=90)
        rows = np.concatenate(blocks)
        epochs = rows.reshape(3, 500)
        for epoch in epochs:
            assert_array_equal(np.sort(epoch), np.arange(500))
        assert len({epoch.tobytes() for epoch in epochs}) == 3
        assert max(map(len, blocks)) <= 90

    def test_rows_are_drawn_from_all_over_the_table(self, numbered, host_backend):
        container = host_backend.make(numbered)
        if host_backend.name == "dask":
            # Chunk by chunk: from all over the table only where several make up a block.
            container = container.rechunk((10, 2))
        blocks = self.ids(container, shuffle=True, block_rows=100)
        assert all(np.ptp(block) > 300 for block in blocks if len(block) > 50)
        assert all((np.diff(block) < 0).any() for block in blocks if len(block) > 5)

    def test_rows_stay_in_order_without(self, numbered, host_backend):
        blocks = self.ids(host_backend.make(numbered), shuffle=False, block_rows=90, epochs=2)
        assert_array_equal(np.concatenate(blocks), np.tile(np.arange(500), 2))
        assert max(map(len, blocks)) <= 90

    def test_targets_and_weights_stay_with_their_rows(self, numbered, host_backend):
        y, w = np.arange(500), np.arange(500.0) + 1
        recorder = fed(*map(host_backend.make, (numbered, y, w)), shuffle=True, block_rows=70)
        for X_block, y_block, w_block in zip(recorder.X, recorder.y, recorder.w, strict=True):
            assert_array_equal(X_block[:, 0], y_block)
            assert_array_equal(w_block, y_block + 1)

    def test_the_same_every_time(self):
        X, y = table()
        first = Incremental(SGDClassifier(), epochs=2, block_rows=90).fit(X, y)
        assert_array_equal(first.coef_, Incremental(SGDClassifier(), epochs=2, block_rows=90).fit(X, y).coef_)
        assert_array_equal(first.coef_, first.fit(X, y).coef_)
        before = str(np.random.get_state())
        fed(X, y, shuffle=True, block_rows=90)
        assert str(np.random.get_state()) == before, "the generator that all share is not touched"

    def test_workers_change_no_bit(self):
        X, y = table(2000)
        models = []
        for workers in (1, 2, 5):
            with ooclearn.config_context(workers=workers):
                models.append(Incremental(SGDClassifier(), block_rows=90).fit(X, y).coef_)
        assert_array_equal(models[0], models[1])
        assert_array_equal(models[0], models[2])

    def test_seeds(self, numbered):
        def order(**settings):
            return np.concatenate(self.ids(numbered, shuffle=True, block_rows=90, **settings)).tolist()

        assert order() == order(random_state=0) != order(random_state=1)
        generator = np.random.RandomState(3)
        first = order(random_state=generator)
        assert first == order(random_state=generator), "a fit does not use it up"
        generator.random_sample()
        assert first != order(random_state=generator)

    def test_the_seed_of_the_estimator_is_taken(self):
        X, y = table()
        by_estimator, by_parameter, other = (
            Incremental(SGDClassifier(random_state=estimator), random_state=own, block_rows=90).fit(X, y).coef_
            for estimator, own in ((5, None), (None, 5), (5, 6))
        )
        assert_array_equal(by_estimator, by_parameter)
        assert not np.array_equal(by_estimator, other)

    def test_a_plan_draws_nothing(self, numbered):
        generator = np.random.RandomState(3)
        model = Incremental(Recorder(), shuffle=True, random_state=generator, epochs=2)
        before = generator.get_state()[1].copy()
        assert model.explain(numbered).n_passes == 2
        assert_array_equal(generator.get_state()[1], before)

    def test_the_estimators_own_shuffling(self):
        X, y = table()
        for own in (True, False):
            seen = []

            class Watched(SGDClassifier):
                def partial_fit(self, X, y, classes=None, sample_weight=None):
                    seen.append(self.shuffle)  # noqa: B023  (called within the turn of the loop)
                    return super().partial_fit(X, y, classes=classes, sample_weight=sample_weight)

            model = Incremental(Watched(shuffle=own), block_rows=100).fit(X, y)
            assert not any(seen)
            assert model.estimator_.shuffle is own
            model.set_params(shuffle=False).fit(X, y)
            assert seen[-1] is own, "asked not to shuffle here, the estimator does as it likes"
            model.partial_fit(X, y)
            assert model.estimator_.shuffle is own

    @pytest.mark.parametrize(("classes", "block_rows"), [(2, 200), (2, 1000), (8, 400)])
    def test_rows_sorted_by_class(self, classes, block_rows):
        """By default they are learned as well as scikit-learn does, which mixes all rows in memory."""
        X, y = table(4000, classes=classes)
        by_class = np.argsort(y, kind="stable")
        X, y = X[by_class], y[by_class]

        def mean_score(make):
            return np.mean([make(seed).fit(X, y).score(X, y) for seed in range(8)])

        ours = mean_score(lambda seed: Incremental(SGDClassifier(random_state=seed), block_rows=block_rows))
        theirs = mean_score(lambda seed: SGDClassifier(random_state=seed, max_iter=1, tol=None))
        assert ours > theirs - 0.04
        with pytest.warns(DataWarning, match="sorted by class.*shuffle=True") as caught:
            poor = Incremental(SGDClassifier(random_state=0), shuffle=False, block_rows=block_rows).fit(X, y)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert poor.score(X, y) < ours - 0.08

    def test_chunks_sorted_by_class(self):
        """Chunks as large as a block are not taken apart: that is said; smaller ones are mixed."""
        da = pytest.importorskip("dask.array", reason="the extra `dask` is not installed")
        X, y = table(4000)
        by_class = np.argsort(y, kind="stable")
        X, y = X[by_class], y[by_class]
        with pytest.warns(DataWarning, match="sorted by class.*cut it into more, smaller ones"):
            Incremental(SGDClassifier(), block_rows=500).fit(da.from_array(X, chunks=(500, 4)), y)
        model = Incremental(SGDClassifier(), block_rows=500).fit(da.from_array(X, chunks=(50, 4)), y)
        assert model.score(X, y) > 0.9

    def test_no_warning_where_order_does_no_harm(self):
        X, y = table(4000)
        by_class = np.argsort(y, kind="stable")
        Incremental(SGDClassifier(), shuffle=False, block_rows=200).fit(X, y)
        Incremental(SGDClassifier(), block_rows=200).fit(X[by_class], y[by_class])
        Incremental(SGDClassifier(), shuffle=False).fit(X[by_class], y[by_class])
        # Counts are the same in any order.
        Incremental(GaussianNB(), block_rows=200).fit(X[by_class], y[by_class])
        # A first block of one class is no wonder where one row in a hundred thousand is of the other.
        rare = np.zeros(4000, dtype=int)
        rare[-1] = 1
        Incremental(SGDClassifier(), shuffle=False, block_rows=200).fit(X, rare)

    def test_epochs_by_hand(self):
        """So many calls of ``partial_fit`` are one fit of so many epochs, in the same orders."""
        X, y = table()
        expected = Incremental(SGDClassifier(), epochs=3, block_rows=90).fit(X, y)
        model = Incremental(SGDClassifier(), block_rows=90)
        for _ in range(3):
            model.partial_fit(X, y, classes=[0, 1])
        assert_array_equal(model.coef_, expected.coef_)
        assert model.n_epochs_ == expected.n_epochs_ == 3
        assert model.fit(X, y).n_epochs_ == 1
