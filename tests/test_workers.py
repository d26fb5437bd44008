"""Ordered results of threads: in order, few at a time, nothing left behind, settings carried along."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import warnings
import weakref
from contextlib import suppress

import pytest
import sklearn
from threadpoolctl import threadpool_limits

import ooclearn
from ooclearn import workers
from ooclearn.testing import nothing_left
from ooclearn.workers import blas_threads, one_blas_thread, ordered

SHAPES = [(0, 2, 0), (1, 4, 2), (7, 1, 0), (7, 1, 2), (7, 2, 0), (50, 3, 0), (50, 3, 5), (3, 8, 0)]


@pytest.mark.parametrize(("n", "workers", "ahead"), SHAPES)
def test_results_come_in_order(n, workers, ahead):
    def slow_at_first(i):
        time.sleep(0.002 if i % 3 == 0 else 0)
        return i * i

    with nothing_left():
        assert list(ordered(slow_at_first, n, workers=workers, ahead=ahead)) == [i * i for i in range(n)]


@pytest.mark.parametrize("stop", [5, 2], ids=["to the end", "early"])
def test_what_the_function_holds_is_let_go_at_once(stop):
    """Buffers of a pass, of some 100 MB, would wait for the next collection of garbage, beside those of the next pass."""

    class Held:
        def take(self, i):
            return i

    held = Held()
    alive = weakref.ref(held)
    gc.collect()
    gc.disable()
    try:
        results = ordered(held.take, 5, workers=2)
        for _ in range(stop):
            next(results)
        results.close()
        del results, held
        assert alive() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(("workers", "ahead"), [(2, 0), (3, 0), (2, 4), (1, 3)])
def test_few_results_live_at_a_time_however_slow_the_consumer(workers, ahead):
    class Result:
        pass

    living: weakref.WeakSet = weakref.WeakSet()
    lock = threading.Lock()
    most = 0

    def make(i):
        nonlocal most
        result = Result()
        with lock:
            living.add(result)
            most = max(most, len(living))
        return result

    for result in ordered(make, 40, workers=workers, ahead=ahead):
        time.sleep(0.002)
        del result
    gc.collect()
    # One more that the consumer holds; and a worker may not yet have let go of what was taken from it.
    bound = 2 * workers + ahead + 1
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        bound += workers + ahead  # what a thread has made and another lets go is freed when the first one runs next
    assert most <= bound
    assert not living


def test_threads_work_at_the_same_time():
    meeting = threading.Barrier(2, timeout=5)

    def meet(i):
        meeting.wait()
        return i

    assert list(ordered(meet, 6, workers=2)) == list(range(6))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    "error", [ValueError("bad"), KeyboardInterrupt(), SystemExit(3)], ids=lambda e: type(e).__name__
)
def test_an_error_comes_in_the_place_of_its_result(workers, error):
    begun = []

    def fail(i):
        begun.append(i)
        if i == 5:
            raise error
        return i

    got = []
    with nothing_left(), pytest.raises(type(error)):  # noqa: PT012  (what came before the error is looked at)
        for result in ordered(fail, 1000, workers=workers, ahead=2):
            got.append(result)  # noqa: PERF402  (the same)
    assert got == [0, 1, 2, 3, 4]
    assert max(begun) <= 5 + workers + 2


@pytest.mark.parametrize("how", ["close", "forget", "raise"])
def test_a_consumer_that_stops_early_leaves_no_thread_and_begins_no_more(how):
    begun = []
    with nothing_left():
        results = ordered(begun.append, 1000, workers=3, ahead=2)
        next(results)
        if how == "close":
            results.close()
        elif how == "forget":
            del results
            gc.collect()
        else:
            with pytest.raises(RuntimeError, match="the consumer's"):
                results.throw(RuntimeError("the consumer's"))
    seen = len(begun)
    time.sleep(0.02)
    assert len(begun) == seen <= 10


def test_one_worker_and_nothing_ahead_is_the_thread_of_the_caller():
    threads = set(ordered(lambda _: threading.current_thread(), 5, workers=1))
    assert threads == {threading.current_thread()}


def test_settings_of_the_caller_hold_in_workers():
    def settings(_):
        return ooclearn.get_config()["block_bytes"], sklearn.get_config()["assume_finite"]

    with ooclearn.config_context(block_bytes=123), sklearn.config_context(assume_finite=True):
        assert set(ordered(settings, 8, workers=2)) == {(123, True)}
    assert (123, True) not in set(ordered(settings, 8, workers=2))


def test_threads_have_names_for_timelines():
    names = set(ordered(lambda _: threading.current_thread().name, 8, workers=2, name="reader"))
    assert names <= {"reader-0", "reader-1"}


def test_ctrl_c_while_waiting():
    """Python raises it in the main thread, which waits for a result."""
    waiting = threading.Event()

    def slow(i):
        waiting.set()
        time.sleep(0.2)
        return i

    import _thread

    timer = threading.Timer(0.1, _thread.interrupt_main)
    with nothing_left():
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            list(ordered(slow, 50, workers=2))
        timer.join()
    assert waiting.is_set()


@pytest.mark.parametrize(("yielding", "at_work"), [(True, {6, 7}), (False, {6, 7, 8})])
def test_one_worker_rests_while_the_next_results_wait(yielding, at_work):
    begun, go = [], threading.Event()

    def function(i):
        begun.append(i)
        if i > 5:
            assert go.wait(30)
        return i

    results = ordered(function, 30, workers=3, ahead=20, yielding=yielding)
    try:
        assert next(results) == 0
        end = time.monotonic() + 30
        while len(begun) < 6 + len(at_work) and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(0.05)  # for one more to begin, if it may
        assert {i for i in begun if i > 5} == at_work
        go.set()
        assert list(results) == list(range(1, 30))
    finally:
        go.set()
        results.close()


@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_blas_has_its_threads_again_after_fits_that_ran_at_a_time(first_to_leave):
    """Whoever notes down the number while another holds it at one, and leaves last, would put back one for good."""
    with threadpool_limits(3, user_api="blas"):
        before = blas_threads()
        held = [one_blas_thread(), one_blas_thread()]
        for one in held:
            one.__enter__()
            assert set(blas_threads().values()) == {1}
        held.pop(first_to_leave).__exit__(None, None, None)
        assert set(blas_threads().values()) == {1}
        held.pop().__exit__(None, None, None)
        assert blas_threads() == before
        assert set(before.values()) == {3}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_blas_has_its_threads_again_in_a_child_of_fork():
    """It has no thread but one, so nobody holds BLAS there; not even the lock of a thread that is not there."""
    with threadpool_limits(3, user_api="blas"), one_blas_thread(), workers._hold.lock:
        child = os.fork()
        if not child:
            status = 1
            with suppress(BaseException):
                with one_blas_thread():
                    at_work = set(blas_threads().values())
                status = 0 if (at_work, set(blas_threads().values())) == ({1}, {3}) else 2
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def validate_at_a_time(i, meet, left):
    """Enter ``catch_warnings`` in two threads as scikit-learn's validation does; who comes first leaves first."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", BytesWarning)
        meet.wait(10)
        if i:
            with warnings.catch_warnings():
                meet.wait(10)
                assert left.wait(10)
        else:
            meet.wait(10)
    left.set()


def test_filters_of_warnings_are_as_before():
    meet, left = threading.Barrier(2), threading.Event()
    before = warnings.filters[:]
    for _ in ordered(lambda i: validate_at_a_time(i, meet, left), 2, workers=2):
        pass
    assert warnings.filters == before


def test_filters_that_are_added_meanwhile_stay():
    """As by a module that is imported for the first time."""
    with warnings.catch_warnings():
        for _ in ordered(lambda i: i, 2, workers=2):
            warnings.filterwarnings("ignore", "of a module that is imported")
        warnings.warn("of a module that is imported", UserWarning, stacklevel=1)  # which is an error in these tests
