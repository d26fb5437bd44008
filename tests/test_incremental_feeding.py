"""``Incremental``: what reaches ``partial_fit``, of any object; and that nothing is left half done."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator
from sklearn.cluster import Birch, MiniBatchKMeans
from sklearn.decomposition import IncrementalPCA
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.utils.metaestimators import available_if

import ooclearn
from feeding import ONE_EPOCH, Recorder, close, fed, table
from ooclearn import Incremental
from ooclearn.exceptions import BlockMemoryError, BusyError, DataError, NonFiniteError
from ooclearn.testing import CountingBlocks, nothing_left


class TestBlocksThatAreFed:
    @pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "uint8", "bool"])
    @pytest.mark.parametrize("shuffle", [False, True])
    @pytest.mark.parametrize("order", ["C", "F", "strided", "backwards"])
    def test_one_dtype_and_order(self, dtype, order, shuffle):
        X = np.arange(600).reshape(200, 3).astype(dtype)
        given = {"C": X, "F": np.asfortranarray(X), "strided": np.repeat(X, 2, axis=0)[::2], "backwards": X[::-1][::-1]}
        for block in fed(given[order], block_rows=60, shuffle=shuffle).X:
            assert block.dtype == dtype
            assert block.flags.c_contiguous
            assert block.flags.writeable or not shuffle

    @pytest.mark.parametrize("first", ["float32", "float64", "int64"])
    @pytest.mark.parametrize("second", ["float32", "float64", "int64"])
    def test_one_dtype_over_calls(self, first, second):
        X, y = table(100)
        model = Incremental(SGDClassifier(shuffle=False))
        model.partial_fit((5 * X).astype(first), y, classes=[0, 1]).partial_fit((5 * X).astype(second), y)
        assert model.coef_.dtype == ("float32" if first == "float32" else "float64")

    def test_empty_blocks(self, leaves_nothing):
        X, y = table(50)
        blocks = ooclearn.scan(X).recut((0, 20, 0, 0, 30, 0))
        assert [len(block) for block in fed(blocks, shuffle=False, block_rows=30).X] == [30, 20]
        expected = SGDClassifier(**ONE_EPOCH).fit(X, y)
        close(Incremental(SGDClassifier(shuffle=False)).fit(blocks, y).coef_, expected.coef_)

    def test_rows_without_weight(self):
        X, y = table(90)
        w = np.repeat([0.0, 1.0, 0.0], 30)
        recorder = fed(X, y, w, shuffle=False, block_rows=30)
        assert_array_equal(np.concatenate(recorder.X), X[30:60])
        model = Incremental(SGDClassifier(shuffle=False), block_rows=30).fit(X, y, w)
        expected = SGDClassifier(shuffle=False).partial_fit(X[30:60], y[30:60], classes=[0, 1], sample_weight=w[30:60])
        assert_array_equal(model.coef_, expected.coef_)

    def test_no_weight_at_all(self):
        X, y = table(90)
        with pytest.raises(DataError, match="all sample weights are zero"):
            Incremental(SGDClassifier(), block_rows=30).fit(X, y, np.zeros(90))

    def test_negative_and_missing_weights(self, host_backend):
        X, y = table(90)
        w = np.ones(90)
        w[61] = -1.0
        with pytest.raises(DataError, match=r"sample_weight has negative.*row 61\)"):
            Incremental(SGDClassifier(), block_rows=30).fit(host_backend.make(X), y, host_backend.make(w))
        w[61] = np.nan
        with pytest.raises(NonFiniteError, match=r"sample_weight contains NaN.*row 61\)"):
            Incremental(SGDClassifier(), block_rows=30).fit(host_backend.make(X), y, host_backend.make(w))

    def test_a_first_block_that_is_too_small(self, host_backend):
        X, _ = table(100, columns=8)
        model = Incremental(IncrementalPCA(6), shuffle=False, block_rows=4).fit(host_backend.make(X))
        recorder = fed(host_backend.make(X), shuffle=False, block_rows=4)
        expected = IncrementalPCA(6)
        blocks, first = recorder.X, []
        while sum(map(len, first)) < 6:
            first.append(blocks.pop(0))
        for block in (np.concatenate(first), *blocks):
            expected.partial_fit(block)
        close(model.components_, expected.components_)
        # As many rows as columns, where the number of components is theirs.
        assert Incremental(IncrementalPCA(), block_rows=3).fit(X).components_.shape == (8, 8)
        assert Incremental(MiniBatchKMeans(8, random_state=0), block_rows=3).fit(X).cluster_centers_.shape == (8, 8)

    def test_too_few_rows_at_all(self):
        X, _ = table(5)
        with pytest.raises(ValueError, match="n_samples=5 should be >= n_clusters=8"):
            Incremental(MiniBatchKMeans(8), block_rows=2).fit(X)

    def test_later_calls_may_be_small(self):
        X, _ = table(100)
        model = Incremental(MiniBatchKMeans(8, random_state=0)).partial_fit(X).partial_fit(X[:1])
        assert model.n_steps_ == 2

    def test_labels_of_the_last_block_are_not_passed_off_as_all(self):
        X, _ = table(100)
        model = Incremental(MiniBatchKMeans(3, random_state=0), block_rows=40).fit(X)
        assert not hasattr(model, "labels_")
        assert model.estimator_.compute_labels
        assert_array_equal(model.fit_predict(X), model.estimator_.predict(X))

    def test_birch_clusters_once(self):
        X, _ = table(300)
        counted = []

        class Watched(Birch):
            def _global_clustering(self, X=None):
                counted.append(self.n_clusters)
                super()._global_clustering(X)

        model = Incremental(Watched(threshold=0.3, n_clusters=4), block_rows=50).fit(X)
        assert [one for one in counted if one is not None] == [4]
        assert model.estimator_.n_clusters == 4
        expected = Birch(threshold=0.3, n_clusters=4)
        for start in range(0, 300, 50):
            expected.partial_fit(X[start : start + 50])
        assert_array_equal(model.predict(X), expected.predict(X))

    def test_missing_values(self, host_backend):
        X, y = table(300)
        X[217, 2] = np.nan
        for shuffle in (False, True):
            with pytest.raises(NonFiniteError, match=r"X contains NaN.*row 217, column 2\)") as caught:
                Incremental(SGDClassifier(), shuffle=shuffle, block_rows=40).fit(host_backend.make(X), y)
            assert caught.value.rows == (217, 218)
        # Who can take them is given them.
        from sklearn.preprocessing import StandardScaler

        assert Incremental(StandardScaler(), block_rows=40).fit(host_backend.make(X)).n_samples_seen_[2] == 299

    def test_missing_targets(self, host_backend):
        X, y = table(300, classes=0)
        y[217] = np.nan
        with pytest.raises(NonFiniteError, match=r"y contains NaN.*row 217"):
            Incremental(SGDRegressor(), block_rows=40).fit(host_backend.make(X), host_backend.make(y))

    def test_input_is_never_written_to(self):
        X, y = table(300)
        X.flags.writeable = y.flags.writeable = False
        before = X.copy()
        Incremental(MLPRegressor(hidden_layer_sizes=(3,), random_state=0), block_rows=40).fit(X, y * 1.0)
        Incremental(IncrementalPCA(2, copy=False), block_rows=40).fit(X)
        writeable = X.copy()
        Incremental(IncrementalPCA(2, copy=False), block_rows=40).fit(writeable)
        assert_array_equal(writeable, before)

    def test_memory_limit_is_told_before_anything_is_read(self):
        X = CountingBlocks(np.zeros((1000, 4)))
        with ooclearn.config_context(memory_limit=10_000), pytest.raises(BlockMemoryError, match="block_rows"):
            Incremental(Recorder(), block_rows=1000).fit(X)
        assert not X.reads

    def test_reads(self):
        X, y = table(300)
        for epochs in (1, 3):
            source, target = CountingBlocks(X, (100, 200)), CountingBlocks(y)
            model = Incremental(SGDClassifier(), epochs=epochs, block_rows=40)
            plan = model.explain(source, target)
            assert not source.reads
            model.fit(source, target)
            assert source.passes == plan.n_passes == epochs
            assert target.passes == epochs + 1
            model.set_params(classes=[0, 1]).fit(source, target)
            assert target.passes == 2 * epochs + 1


class KeywordOnly(BaseEstimator):
    """Takes nothing but rows and targets by position, and more than scikit-learn knows of."""

    def partial_fit(self, X, y, *, sample_weight=None, classes, rate=1.0):
        self.seen_ = [*getattr(self, "seen_", []), (len(X), sample_weight is not None, list(classes), rate)]
        return self


class EveryCall(BaseEstimator):
    """Wants the classes at every call but can do without, and returns nothing."""

    def partial_fit(self, X, y=None, **kwargs):
        self.kwargs_ = [*getattr(self, "kwargs_", []), sorted(kwargs)]


class TestOtherEstimators:
    def test_keyword_only(self):
        X, y = table(100)
        model = Incremental(KeywordOnly())
        with pytest.raises(TypeError, match="classes"):
            model.set_params(block_rows=50).fit(X, y)
        model.set_params(block_rows=None).fit(X, y, np.ones(100), rate=0.5)
        assert model.seen_ == [(100, True, [0, 1], 0.5)]

    def test_any_keyword(self):
        X, y = table(100)
        model = Incremental(EveryCall(), block_rows=50).fit(X, y, np.ones(100), groups=3)
        assert model.kwargs_ == [["groups", "sample_weight"]] * 2

    def test_a_plain_object(self, host_backend):
        X, y = table(100)
        recorder = Recorder()
        model = Incremental(recorder, block_rows=30).fit(host_backend.make(X), host_backend.make(y))
        assert not recorder.X, "the one that was given is not trained"
        assert_array_equal(np.concatenate(model.estimator_.X), X)
        assert_array_equal(np.concatenate(model.estimator_.y), y)
        assert "Recorder" in repr(model)
        for method in ("predict", "transform", "score", "set_output"):
            assert not hasattr(model, method)
        with pytest.raises(AttributeError, match="its Recorder has none"):
            model.predict(X)

    def test_unknown_parameters(self):
        X, y = table(100)
        with pytest.raises(TypeError, match="SGDRegressor.partial_fit takes no 'groups'"):
            Incremental(SGDRegressor()).fit(X, y, groups=np.zeros(100))
        with pytest.raises(TypeError, match="Birch.partial_fit takes no 'sample_weight'"):
            Incremental(Birch()).fit(X, sample_weight=np.ones(100))

    def test_no_target(self):
        X, _ = table(100)
        with pytest.raises(ValueError, match="SGDClassifier requires y to be passed, but the target y is None"):
            Incremental(SGDClassifier()).fit(X)


class TestNothingHalfDone:
    @pytest.mark.parametrize("error", [RuntimeError("no more"), KeyboardInterrupt(), MemoryError()], ids=repr)
    @pytest.mark.parametrize("fail", [0, 2, 5])
    def test_a_fit_that_fails(self, error, fail, host_backend):
        X = host_backend.make(np.random.default_rng(0).standard_normal((300, 3)))
        model = Incremental(Recorder(fail, error), block_rows=50, epochs=2, shuffle=True)
        notes = []
        # Dask keeps its threads for the life of the process.
        with nothing_left(pools=("ThreadPoolExecutor", "Dask")):
            try:
                model.fit(X)
            except type(error) as raised:
                notes = raised.__notes__ if isinstance(raised, Exception) else ["while feeding block"]
        assert "while feeding block" in notes[0]
        assert not [name for name in vars(model) if name.endswith("_")]

    def test_what_was_learned_before_stays(self, leaves_nothing):
        X, y = table(300)
        model = Incremental(SGDClassifier(), block_rows=50).fit(X, y)
        before, coef = dict(vars(model)), model.coef_.copy()
        bad = X.copy()
        bad[290] = np.inf
        for train in (model.fit, model.partial_fit):
            with pytest.raises(NonFiniteError, match="row 290"):
                train(bad, y)
            assert vars(model) == before
            assert_array_equal(model.coef_, coef)

    def test_partial_fit_leaves_the_estimator_taken_before(self):
        X, y = table(300)
        model = Incremental(SGDClassifier()).fit(X, y)
        taken = model.estimator_
        coef, t = taken.coef_.copy(), taken.t_
        model.partial_fit(X, y)
        assert model.estimator_ is not taken
        assert_array_equal(taken.coef_, coef)
        assert taken.t_ == t < model.t_

    def test_fit_begins_anew(self):
        X, y = table(300)
        model = Incremental(SGDClassifier()).fit(X, y)
        coef = model.coef_
        assert_array_equal(model.partial_fit(X, y).fit(X, y).coef_, coef)
        other = np.random.default_rng(0).standard_normal((50, 7))
        assert model.fit(other, other[:, 0] > 0).n_features_in_ == 7

    def test_two_threads(self):
        X, y = table(300)
        entered, leave = threading.Event(), threading.Event()

        class Slow(Recorder):
            def partial_fit(self, X, y=None):
                entered.set()
                assert leave.wait(30)

            def __deepcopy__(self, memo):
                return self

        model = Incremental(Slow())
        thread = threading.Thread(target=model.fit, args=(X, y))
        thread.start()
        assert entered.wait(30)
        try:
            for train in (model.fit, model.partial_fit):
                with pytest.raises(BusyError, match="Incremental is being fitted by another thread"):
                    train(X, y)
        finally:
            leave.set()
            thread.join()
        assert model.n_epochs_ == 1

    def test_slow_training_holds_the_reading_back(self):
        """However slow ``partial_fit`` is, few blocks exist at a time."""
        import weakref

        alive, most = set(), 0

        class Slow(Recorder):
            def partial_fit(self, X, y=None):
                nonlocal most
                most = max(most, len(alive))

        def made():
            for i in range(60):
                block = np.full((100, 3), float(i))
                alive.add(i)
                weakref.finalize(block, alive.discard, i)
                yield block

        blocks = ooclearn.scan(made)
        with ooclearn.config_context(workers=2):
            Incremental(Slow(), block_rows=100, shuffle=False).fit(blocks)
        assert most < 20


class SometimesThere(SGDClassifier):
    """Its method is found by a descriptor, as many of scikit-learn's are."""

    @available_if(lambda _: True)
    def partial_fit(self, X, y, classes=None):
        return super().partial_fit(X, y, classes=classes)


@pytest.mark.parametrize("base", [SGDClassifier, SometimesThere])
def test_a_method_around_that_of_the_base_class_is_given_the_classes(base):
    """As of a user's class that logs, or counts, what it is fed: it names no parameter but rows and targets."""

    class Counted(base):
        def partial_fit(self, X, y, *args, **kwargs):
            self.rows_ = getattr(self, "rows_", 0) + len(X)
            return super().partial_fit(X, y, *args, **kwargs)

    X = np.random.default_rng(0).normal(size=(300, 3))
    y = np.where(X[:, 0] > 0, "b", "a")
    model = Incremental(Counted(random_state=0), block_rows=100).fit(X, y)
    plain = Incremental(SGDClassifier(random_state=0), block_rows=100).fit(X, y)
    assert model.estimator_.rows_ == 300
    assert_array_equal(model.coef_, plain.coef_)
