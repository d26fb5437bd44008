"""Law 10: a fit that fails or is interrupted at any read leaves the estimator as it was, and nothing else."""

from __future__ import annotations

import itertools
import pickle
import threading

import numpy as np
import pytest

import ooclearn
from ooclearn.exceptions import BusyError, DataError, NonFiniteError
from ooclearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler
from ooclearn.testing import FaultySource, nothing_left

X = np.random.default_rng(0).normal(3, 2, (60, 3))
LENGTHS = (7, 1, 20, 1, 31)


def not_a_number(rows):
    rows[-1, 1] = np.inf
    return rows


# What goes wrong at a read, and what comes out.
FAULTS = {
    "OSError": (PermissionError(13, "the disk says no"), OSError),
    "KeyboardInterrupt": (KeyboardInterrupt(), KeyboardInterrupt),
    "an error of the source": (RuntimeError("the source's"), RuntimeError),
    "MemoryError": (MemoryError(), MemoryError),
    "rows missing": ("short", DataError),
    "a column missing": ("narrow", DataError),
    "not finite": (not_a_number, NonFiniteError),
}

SCALERS = [StandardScaler, MinMaxScaler, MaxAbsScaler]


def state_of(estimator):
    return pickle.dumps(vars(estimator))


def fitted_or_error(estimator, source, workers, expected):
    try:
        with ooclearn.config_context(workers=workers):
            return estimator.fit(source.blocks(LENGTHS)), None
    except expected as error:
        return None, error


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("scaler", SCALERS)
def test_at_every_read(scaler, fault, workers, tmp_path):
    """The n-th read fails for n = 0, 1, ... until the fit succeeds, as a clean one does."""
    what, expected = FAULTS[fault]
    clean = scaler().fit(ooclearn.scan(X).recut(LENGTHS))
    fitted, unfitted = scaler().fit(X[:9] * 5), scaler()
    before = state_of(fitted), state_of(unfitted)
    for n in itertools.count():
        source = FaultySource(X, n, what, times=1)
        with nothing_left(tmp_path):
            again, error = fitted_or_error(scaler(), source, workers, expected)
        if error is None:
            break
        if isinstance(error, DataError):
            assert (error.source, error.rows is None, error.block is None) == ("faulty", False, False)
        for estimator in (fitted, unfitted):
            for method in ("fit", "partial_fit"):
                retried = FaultySource(X, n, what, times=1)
                with ooclearn.config_context(workers=workers), pytest.raises(expected):
                    getattr(estimator, method)(retried.blocks(LENGTHS))
        assert (state_of(fitted), state_of(unfitted)) == before
    assert n >= 4, "each block was read"
    for attribute in vars(clean):
        if attribute.endswith("_") and not attribute.startswith("_"):
            np.testing.assert_array_equal(getattr(again, attribute), getattr(clean, attribute))


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_read_that_fails_for_a_moment_is_tried_again(times, monkeypatch):
    monkeypatch.setattr("ooclearn.sources.PAUSES", (0.001, 0.001, 0.001))
    for n in range(5):
        source = FaultySource(X, n, OSError(5, "a hiccup of the network"), times=times)
        with ooclearn.config_context(workers=1):
            scaler = StandardScaler().fit(source.blocks(LENGTHS))
        np.testing.assert_array_equal(scaler.mean_, StandardScaler().fit(ooclearn.scan(X).recut(LENGTHS)).mean_)
        assert len(source.reads) == 5 + times


@pytest.mark.parametrize("workers", [1, 3])
def test_a_read_that_keeps_failing_says_where(workers, monkeypatch, tmp_path):
    monkeypatch.setattr("ooclearn.sources.PAUSES", (0.001,))

    class Broken(FaultySource):
        def read(self, start, stop, /, out=None):
            if start == 7:
                raise OSError(5, "the disk is broken")
            return super().read(start, stop, out)

    with (
        ooclearn.config_context(workers=workers),
        nothing_left(tmp_path),
        pytest.raises(OSError, match="the disk is broken") as error,
    ):
        StandardScaler().fit(Broken(X, None, "short", name="the file").blocks((7, 20, 33)))
    assert "the file" in str(error.value)
    assert "block 1" in str(error.value)
    assert "rows 7 to 26" in str(error.value)


@pytest.mark.parametrize("fault", ["KeyboardInterrupt", "OSError", "an error of the source"])
def test_a_result_half_written_is_not_there(fault, tmp_path):
    what, expected = FAULTS[fault]
    scaler = StandardScaler().fit(X)
    for n in itertools.count():
        source = FaultySource(X, n, what, times=1)
        try:
            with nothing_left(tmp_path):
                scaler.transform(source.blocks(LENGTHS)).to_npy(tmp_path / "out.npy")
        except expected:
            assert not list(tmp_path.iterdir())
        else:
            break
    assert n >= 4
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), scaler.transform(X), rtol=1e-13)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_statistic_that_fails(workers, monkeypatch, tmp_path):
    from ooclearn.statistics import Moments

    merges = []
    merge = Moments.merge

    def failing(self, a, b):
        merges.append(1)
        if len(merges) == 2:
            raise RuntimeError("while merging")
        return merge(self, a, b)

    scaler = StandardScaler().fit(X[:10])
    before = state_of(scaler)
    monkeypatch.setattr(Moments, "merge", failing)
    with (
        ooclearn.config_context(workers=workers),
        nothing_left(tmp_path),
        pytest.raises(RuntimeError, match="while merging"),
    ):
        scaler.fit(ooclearn.scan(X, block_rows=5))
    assert state_of(scaler) == before


def test_bad_parameters_change_nothing():
    scaler = MinMaxScaler().fit(X)
    before = {name: value for name, value in vars(scaler).items() if name.endswith("_")}
    scaler.set_params(feature_range=(1, 0))
    with pytest.raises(ValueError, match="Minimum of desired feature range"):
        scaler.fit(X[:5])
    assert {name: value for name, value in vars(scaler).items() if name.endswith("_")} == before


# One estimator, several threads.


def slow_source():
    going, go_on = threading.Event(), threading.Event()

    def wait(rows):
        going.set()
        assert go_on.wait(10)
        return rows

    return FaultySource(X, 0, wait, times=1).blocks((30, 30)), going, go_on


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("other", ["fit", "partial_fit", "merge"])
def test_an_estimator_that_is_being_fitted_by_another_thread_is_refused(method, other):
    """Two threads that update one estimator would lose updates without a word."""
    scaler = StandardScaler().fit(X[:20])
    blocks, going, go_on = slow_source()
    thread = threading.Thread(target=getattr(scaler, method), args=(blocks,))
    thread.start()
    try:
        assert going.wait(10)
        with pytest.raises(BusyError, match="this StandardScaler is being fitted by another thread"):
            getattr(scaler, other)(StandardScaler().fit(X) if other == "merge" else X)
        StandardScaler().fit(X)  # another estimator is another matter
        scaler.transform(X)  # and so is using it
    finally:
        go_on.set()
        thread.join()
    expected = StandardScaler().fit(X)
    if method == "partial_fit":
        expected = StandardScaler().fit(X[:20]).partial_fit(X)
    np.testing.assert_allclose(scaler.mean_, expected.mean_, rtol=1e-12)
    scaler.fit(X)  # free again


def test_free_again_after_an_error():
    scaler = StandardScaler()
    with pytest.raises(NonFiniteError):
        scaler.fit(np.array([[np.inf], [1.0]]))
    done = []
    thread = threading.Thread(target=lambda: done.append(scaler.fit(X)))
    thread.start()
    thread.join()
    assert done == [scaler]


def test_many_threads_one_at_a_time_lose_nothing():
    scaler = StandardScaler()
    refused = 0
    lock = threading.Lock()

    def add(part):
        nonlocal refused
        while True:
            try:
                scaler.partial_fit(part)
            except BusyError:
                with lock:
                    refused += 1
            else:
                return

    threads = [threading.Thread(target=add, args=(part,)) for part in np.split(X, 12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scaler.n_samples_seen_ == len(X)
    np.testing.assert_allclose(scaler.var_, X.var(axis=0), rtol=1e-12)


def test_one_source_two_threads():
    """Two fits at a time over the same Blocks do not disturb one another."""
    blocks = ooclearn.scan(lambda: np.split(X, 10))
    scalers = [StandardScaler() for _ in range(4)]
    threads = [threading.Thread(target=scaler.fit, args=(blocks,)) for scaler in scalers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for scaler in scalers:
        np.testing.assert_array_equal(scaler.mean_, StandardScaler().fit(blocks).mean_)
