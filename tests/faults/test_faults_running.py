"""Fits that fail or are interrupted at any moment, and estimators that several threads work with."""

from __future__ import annotations

import copy
import errno
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from itertools import count, pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import SGDClassifier
from threadpoolctl import threadpool_info

import ooclearn
from ooclearn import Incremental, base, blocks
from ooclearn.exceptions import BusyError, ReadError
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import MinMaxScaler, StandardScaler
from ooclearn.storage import callables
from ooclearn.testing import FaultySource, nothing_left

POOLS = ("ThreadPoolExecutor", "Dask")
LENGTHS = [200] * 5


@pytest.fixture
def hasty(monkeypatch):
    """Try again at once, and say how often it was tried."""
    monkeypatch.setattr(blocks, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(callables, "PAUSES", (0.0, 0.0, 0.0))


def disk_error():
    return OSError(errno.EIO, os.strerror(errno.EIO))


# An I/O error in one block.


@pytest.mark.parametrize("times", [1, 2, 3])
def test_51_an_error_that_passes(hasty, trained, same, times, X, y):
    faulty = FaultySource(X, 4, disk_error(), times=times, name="X.npy")
    with ooclearn.config_context(workers=1):
        fitted = clone(trained).fit(faulty.blocks(LENGTHS), y)
        same(fitted, trained.fit(FaultySource(X, None, disk_error()).blocks(LENGTHS), y))


def test_51_an_error_that_stays(hasty, trained, scaler, refused, X, y):
    for estimator, call in ((scaler, scaler.fit), (trained, lambda data: trained.fit(data, y))):
        faulty = FaultySource(X, 4, disk_error(), name="X.npy")
        with (
            ooclearn.config_context(workers=1),
            refused(estimator, "Input/output error", "X.npy", "block", "row", error=ReadError) as caught,
        ):
            call(faulty.blocks(LENGTHS))
        assert isinstance(caught.value, OSError)
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.EIO
        # The first attempt and three more, at each run of rows that was asked for meanwhile.
        assert {faulty.reads[4:].count(rows) for rows in faulty.reads[4:]} == {4}


def test_51_names_the_block_and_its_rows(hasty, scaler, refused, X):
    faulty = FaultySource(X, 3, disk_error(), name="X.npy")
    with ooclearn.config_context(workers=1), refused(scaler, "X.npy, block 3, rows 600 to 799", error=ReadError):
        scaler.fit(faulty.blocks(LENGTHS))


def test_51_waits_longer_each_time(monkeypatch, scaler, X):
    waits = []
    monkeypatch.setattr(blocks.time, "sleep", waits.append)
    with pytest.raises(ReadError), ooclearn.config_context(workers=1):
        scaler.fit(FaultySource(X, 2, disk_error()).blocks(LENGTHS))
    assert len(waits) == 3
    assert waits == sorted(waits)
    assert waits[0] > 0
    assert 0.5 < sum(waits) < 3


@pytest.mark.parametrize(
    "error",
    [PermissionError(errno.EACCES, "not yours"), FileNotFoundError(errno.ENOENT, "gone")],
    ids=["permission", "gone"],
)
def test_51_what_does_not_pass_is_not_tried_again(scaler, refused, error, X):
    faulty = FaultySource(X, 3, error, name="X.npy")
    with ooclearn.config_context(workers=1), refused(scaler, "X.npy", "block 3", str(error), error=ReadError):
        scaler.fit(faulty.blocks(LENGTHS))
    assert len(faulty.reads) == 4


def test_51_other_errors_are_not_tried_again(scaler, refused, X):
    faulty = FaultySource(X, 3, RuntimeError("broken"))
    with ooclearn.config_context(workers=1), refused(scaler, "broken", error=RuntimeError):
        scaler.fit(faulty.blocks(LENGTHS))
    assert len(faulty.reads) == 4


def test_51_a_callable_is_begun_anew(hasty, same, trained, refused, X, y):
    failures = {"left": 0, "at": 3}

    def rows():
        for i in range(5):
            if i == failures["at"] and failures["left"]:
                failures["left"] -= 1
                raise disk_error()
            yield X[200 * i : 200 * i + 200]

    data = ooclearn.scan(rows)
    clean = clone(trained).fit(data, y)
    failures["left"] = 2
    same(clone(trained).fit(data, y), clean)
    failures["left"] = 100
    with refused(trained, "Input/output error", "rows", "block 3", error=ReadError):
        trained.fit(data, y)
    failures["left"] = 0
    same(trained.fit(data, y), clean)


def test_51_blocks_that_dask_reads(hasty, scaler, same, refused, X):
    pytest.importorskip("dask.array")
    fine = type(scaler)().fit(X)
    np.testing.assert_allclose(
        type(scaler)().fit(FaultySource(X, 2, disk_error(), times=3).blocks(LENGTHS).to_dask()).scale_,
        fine.scale_,
        rtol=1e-12,
    )
    with refused(scaler, "Input/output error", "X.npy", "block", error=ReadError):
        scaler.fit(FaultySource(X, 2, disk_error(), name="X.npy").blocks(LENGTHS).to_dask())


# An error, or Ctrl-C, at every read and every step.


class Fragile(SGDClassifier):
    """A classifier whose n-th step of training fails, halfway: it has learned, and says so no more."""

    steps_left = None
    fault = RuntimeError

    def partial_fit(self, X, y=None, classes=None, sample_weight=None):
        super().partial_fit(X, y, classes=classes, sample_weight=sample_weight)
        if Fragile.steps_left is not None:
            Fragile.steps_left -= 1
            if Fragile.steps_left < 0:
                raise Fragile.fault("step")
        return self


@pytest.fixture(autouse=True)
def _sound():
    yield
    Fragile.steps_left, Fragile.fault = None, RuntimeError


FITS = {
    "scaler": StandardScaler,
    "incremental": lambda: Incremental(SGDClassifier(random_state=0), epochs=2),
    "pipeline": lambda: make_pipeline(MinMaxScaler(), StandardScaler(), Incremental(SGDClassifier(random_state=0))),
    "in order": lambda: make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0), shuffle=False)),
}


def faulty_blocks(name, X, n, fault):
    """Return rows whose n-th read fails: as Blocks, as a Dask array, or made by a callable."""
    if name == "blocks":
        return FaultySource(X, n, fault).blocks(LENGTHS)
    reads = count()

    def read(block):
        if n is not None and len(block) and next(reads) == n:
            raise fault
        return block

    if name == "callable":
        blocks = ooclearn.scan(lambda: iter([X[200 * i : 200 * i + 200] for i in range(5)]))
        blocks._make = lambda: (read(X[200 * i : 200 * i + 200]) for i in range(5))
        return blocks
    da = pytest.importorskip("dask.array")
    return da.from_array(np.array(X), chunks=(200, 5)).map_blocks(read, meta=np.empty((0, 0)))


def settings_now():
    """Return what a fit sets for its own time in the process."""
    return [(one["user_api"], one["num_threads"]) for one in threadpool_info()], ooclearn.get_config()


@pytest.mark.parametrize("fault", [RuntimeError("broken"), KeyboardInterrupt()], ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("name", ["blocks", "callable", "dask"])
@pytest.mark.parametrize("make", FITS.values(), ids=FITS)
def test_52_53_any_read_may_fail(make, name, fault, bits, same, X, y):
    """As SQLite is tested: the first read fails, the second, ... until the fit runs through."""
    ooclearn.set_config(block_bytes=2**15)
    clean = make().fit(faulty_blocks(name, X, None, fault), y)
    # In turn one that was never fitted, and one that has something to lose.
    estimators = [make(), make().fit(X[:300], y[:300])]
    settings_before = settings_now()
    for n in count():
        estimator = estimators[n % 2]
        before = bits(estimator)
        data = faulty_blocks(name, X, n, fault)
        start = time.perf_counter()
        try:
            with nothing_left(pools=POOLS):
                estimator.fit(data, y)
        except type(fault):
            assert time.perf_counter() - start < 30  # it does not hang
            assert bits(estimator) == before
        else:
            break
    assert 5 <= n < 60  # every block was read at least once
    assert settings_now() == settings_before
    for estimator in estimators:
        same(estimator.fit(faulty_blocks(name, X, None, fault), y), clean)


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("call", ["fit", "partial_fit"])
@pytest.mark.parametrize("name", ["numpy", "scan", "dask"])
def test_52_53_any_step_of_training_may_fail(containers, name, call, fault, bits, same, leaves_nothing, X, y):
    data, target = containers(name)(X), containers(name)(y, "y")
    trained = Incremental(Fragile(random_state=0), epochs=2 if call == "fit" else 1, classes=[0, 1])
    trained.fit(X[:500], y[:500])
    clean = clone(trained).fit(X[:500], y[:500])
    getattr(clean, call)(data, target)
    for n in count():
        assert n < 60
        Fragile.steps_left, Fragile.fault = n, fault
        before, inner = bits(trained), trained.estimator_
        try:
            getattr(trained, call)(data, target)
        except fault as error:
            assert bits(trained) == before
            assert trained.estimator_ is inner
            if fault is RuntimeError:
                assert any("while feeding block" in note for note in error.__notes__)
            Fragile.steps_left = None
            np.testing.assert_array_equal(trained.predict(X[:3]), inner.predict(X[:3]))
        else:
            break
    assert n >= 8
    same(trained, clean)


def test_52_a_step_below_that_fails_leaves_those_above_as_they_were(bits, same, X, y):
    scaler, model = StandardScaler(), Incremental(Fragile(random_state=0))
    pipe = make_pipeline(scaler, model)
    before = bits(pipe)
    Fragile.steps_left = 3
    with pytest.raises(RuntimeError, match="step"):
        pipe.fit(X, y)
    assert bits(pipe) == before
    assert not hasattr(scaler, "mean_")
    Fragile.steps_left = None
    pipe.fit(X[:500], y[:500])
    before, mean = bits(pipe), scaler.mean_
    Fragile.steps_left = 3
    with pytest.raises(RuntimeError, match="step"):
        pipe.fit(X, y)
    assert bits(pipe) == before
    assert scaler.mean_ is mean


def test_52_a_pipeline_that_is_fitted_step_by_step(bits, X, y):
    from sklearn.preprocessing import QuantileTransformer

    pipe = make_pipeline(QuantileTransformer(n_quantiles=10), Incremental(Fragile(random_state=0)))
    for _ in range(2):
        before = bits(pipe)
        Fragile.steps_left = 3
        with pytest.raises(RuntimeError, match="step"):
            pipe.fit(X, y)
        assert bits(pipe) == before
        Fragile.steps_left = None
        pipe.fit(X[:500], y[:500])


def test_53_ctrl_c_between_any_two_instructions_of_a_commit(bits, X, y):
    """A signal is looked at between instructions of the interpreter: interrupt at each of them in turn."""

    def fitted(n):
        return make_pipeline(MinMaxScaler(), Incremental(SGDClassifier(random_state=0))).fit(X[:n], y[:n])

    done = fitted(1000)
    pipe = fitted(500)
    old, new = bits(pipe), bits(done)
    inside = {function.__code__ for function in (base.commit, base.commit_all, base.replace_contents)}
    for n in count():
        pipe, left = copy.deepcopy(pipe), n

        def trace(frame, event, arg):
            nonlocal left
            if frame.f_code not in inside:
                return None
            frame.f_trace_opcodes = True
            if event == "opcode":
                left -= 1
                if left < 0:
                    sys.settrace(None)
                    raise KeyboardInterrupt
            return trace

        before = bits(pipe)
        try:
            sys.settrace(trace)
            base.commit_all(zip([step for _, step in pipe.steps], [step for _, step in done.steps], strict=True))
        except KeyboardInterrupt:
            assert bits(pipe) in (old, new)
        else:
            break
        finally:
            sys.settrace(None)
        if bits(pipe) != before:
            pipe = fitted(500)
    assert n > 50
    assert bits(pipe) == new


def test_53_an_open_file_of_a_callable_is_closed(tmp_path, scaler, trained, X, y):
    np.save(tmp_path / "X.npy", X)
    opened = []

    def rows():
        with open(tmp_path / "X.npy", "rb") as file:
            opened.append(file)
            file.seek(128)
            for _ in range(10):
                yield np.frombuffer(file.read(4000)).reshape(100, 5)

    data = ooclearn.scan(rows)
    Fragile.steps_left = 2
    with nothing_left(pools=POOLS), pytest.raises(RuntimeError, match="step"):
        Incremental(Fragile()).fit(data, y)
    scaler.fit(data)
    trained.fit(data, y)
    assert len(opened) > 3
    assert all(file.closed for file in opened)


INTERRUPTED = """
    import os, signal, sys, threading, time
    import numpy as np, psutil
    import ooclearn
    from ooclearn import Incremental
    from ooclearn.pipeline import make_pipeline
    from ooclearn.preprocessing import StandardScaler
    from sklearn.linear_model import SGDClassifier

    kind, folder = sys.argv[1:]
    ooclearn.set_config(block_bytes=2**16, workers=3)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40_000, 5))
    y = (X[:, 0] > 0).astype(np.int64)
    np.save(folder + "/X.npy", X)
    began = []
    if kind == "dask":
        import dask.array as da
        def chunk(block):
            began.append(time.perf_counter())
            time.sleep(0.001)
            return block
        data = da.from_array(X, chunks=(1000, 5)).map_blocks(chunk, meta=np.empty((0, 0)))
    else:
        data = ooclearn.scan(folder + "/X.npy")
    def opened():
        return {(file.fd, file.path) for file in psutil.Process().open_files()}
    def made():
        return make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0), epochs=2))
    def state(pipe):
        scaler, model = pipe[0], pipe[-1].estimator_
        return [one.tobytes() for one in (scaler.mean_, scaler.var_, model.coef_, model.intercept_)] + [model.t_]
    start = time.perf_counter()
    clean = made().fit(data, y)
    took = time.perf_counter() - start
    pipe = made().fit(X[:100], y[:100])
    before = state(pipe)
    threads, files = threading.active_count(), opened()
    interrupted = late = 0
    for attempt in range(80):
        if interrupted == 8:
            break
        began.clear()
        sent = []
        def interrupt():
            sent.append(time.perf_counter())
            os.kill(os.getpid(), signal.SIGINT)
        timer = threading.Timer(took * (attempt % 8 + 0.3) / 9, interrupt)
        try:
            timer.start()
            if attempt % 4 == 3:
                for _ in range(3):
                    ooclearn.scan(clean.predict(data)).to_npy(folder + "/out.npy")
            else:
                pipe.fit(data, y)
            timer.cancel()
            timer.join()
        except KeyboardInterrupt:
            returned = time.perf_counter()
            interrupted += 1
            assert returned - sent[0] < 1.0, returned - sent[0]
            # All or nothing: the signal may come when the fit is done and about to return.
            assert state(pipe) in (before, state(clean))
            timer.join()
            mine = [t for t in threading.enumerate() if not t.name.startswith(("ThreadPoolExecutor", "Dask", "MainThread"))]
            assert not mine, mine
            assert opened() <= files
            time.sleep(0.05)
            late += sum(time > returned for time in began)
            pipe = made().fit(X[:100], y[:100])
        else:
            assert state(pipe) in (before, state(clean))
            pipe = made().fit(X[:100], y[:100])
    assert set(os.listdir(folder)) <= {"X.npy", "out.npy"}
    assert state(pipe.fit(data, y)) == state(clean)
    print(interrupted, late)
"""


@pytest.mark.parametrize("kind", ["scan", "dask"])
def test_53_ctrl_c_of_the_terminal(kind, tmp_path):
    """A real SIGINT, at moments all over the fit."""
    if kind == "dask":
        pytest.importorskip("dask.array")
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED), kind, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    interrupted, late = map(int, result.stdout.split())
    assert interrupted == 8
    assert late == 0, "blocks were begun after control had returned"


# Threads.


def test_54_an_estimator_that_was_taken_stays_as_it_was(container, bits, X, y):
    data, target = container(X), container(y, "y")
    model = Incremental(SGDClassifier(random_state=0), classes=[0, 1]).partial_fit(data, target)
    kept = model.estimator_
    before = bits(kept)
    model.partial_fit(data, target)
    assert bits(kept) == before
    assert kept.t_ == 1001
    assert model.estimator_ is not kept
    assert model.estimator_.t_ == 2001
    model.fit(data, target)
    assert bits(kept) == before
    assert bits(model.estimator) == bits(SGDClassifier(random_state=0))


def test_54_merging_leaves_the_other_as_it_was(scaler, bits, X):
    other = type(scaler)().fit(X[500:])
    before = bits(other)
    scaler.fit(X[:500]).merge(other)
    assert bits(other) == before
    np.testing.assert_allclose(scaler.scale_, type(scaler)().fit(X).scale_, rtol=1e-12)


def held_up(X, entered, go_on):
    """Return rows whose third read waits."""

    def wait(rows):
        entered.set()
        assert go_on.wait(20)
        return rows

    return FaultySource(X, 2, wait, times=1).blocks(LENGTHS)


def test_55_a_second_thread_is_refused(scaler, trained, bits, same, X, y):
    for estimator, target in ((scaler, ()), (trained, (y,))):
        expected = clone(estimator).fit(X, *target)
        estimator.fit(X[:500], *(part[:500] for part in target))
        entered, go_on = threading.Event(), threading.Event()
        errors = []

        def first(estimator=estimator, target=target, entered=entered, go_on=go_on, errors=errors):
            try:
                estimator.fit(held_up(X, entered, go_on), *target)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=first)
        thread.start()
        try:
            assert entered.wait(20)
            before = bits(estimator)
            parts = [estimator, *(step for _, step in getattr(estimator, "steps", []))]
            for one in parts:
                for call in ("fit", "partial_fit", "merge"):
                    if hasattr(one, call):
                        with pytest.raises(BusyError, match="is being fitted by another thread"):
                            getattr(one, call)(*((X, *target) if call != "merge" else (type(one)().fit(X),)))
            assert bits(estimator) == before
        finally:
            go_on.set()
            thread.join(20)
        assert errors == []
        assert bits(estimator) != before
        same(estimator.fit(X, *target), expected)  # and is free again


def test_55_no_update_is_lost(scaler, X):
    rows, refusals = [0] * 4, [0] * 4
    barrier = threading.Barrier(4)
    switch = sys.getswitchinterval()

    def work(k):
        barrier.wait()
        for _ in range(30):
            try:
                scaler.partial_fit(X[:50])
            except BusyError:
                refusals[k] += 1
                time.sleep(0.0005)
            else:
                rows[k] += 50

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert sum(rows) + 50 * sum(refusals) == 4 * 30 * 50
    assert np.max(scaler.n_samples_seen_) == sum(rows) > 0


def test_55_a_fit_that_failed_frees_the_estimator(scaler, X):
    with pytest.raises(RuntimeError):
        scaler.fit(FaultySource(X, 2, RuntimeError()).blocks(LENGTHS))
    done = []
    thread = threading.Thread(target=lambda: done.append(scaler.fit(X)))
    thread.start()
    thread.join()
    assert done == [scaler]


@pytest.mark.parametrize("kind", ["scan", "callable", "dask"])
def test_55_two_threads_may_share_a_source(kind, containers, same, X, y):
    if kind == "callable":
        data = ooclearn.scan(lambda: (X[i : i + 100] for i in range(0, 1000, 100)))
    else:
        data = containers(kind)(X)
    alone = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(data, y)
    both = [clone(alone), clone(alone)]
    threads = [threading.Thread(target=pipe.fit, args=(data, y)) for pipe in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for pipe in both:
        same(pipe, alone)


def test_55_a_worker_may_be_fitted_beside_another(same, scaler, X):
    """Different estimators in different threads never stand in each other's way."""
    scalers = [clone(scaler) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda one=one: [one.partial_fit(X[:100]) for _ in range(10)]) for one in scalers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in scalers:
        assert np.max(one.n_samples_seen_) == 1000


# Anything, anywhere.

FAULTS = {
    "error": lambda rows: (_ for _ in ()).throw(RuntimeError("broken")),
    "interrupt": lambda rows: (_ for _ in ()).throw(KeyboardInterrupt),
    "memory": lambda rows: (_ for _ in ()).throw(MemoryError),
    "disk": lambda rows: (_ for _ in ()).throw(PermissionError(errno.EACCES, "not yours")),
    "exit": lambda rows: (_ for _ in ()).throw(SystemExit),
    "short": lambda rows: rows[:-1],
    "narrow": lambda rows: rows[:, :-1],
    "one-dimensional": lambda rows: rows[:, 0],
    "missing": lambda rows: rows * np.nan,
    "infinite": lambda rows: rows + np.inf,
    "another dtype": lambda rows: rows.astype("<U8"),
}
CALLS = {
    "scaler.fit": (StandardScaler, lambda one, data, y: one.fit(data)),
    "scaler.partial_fit": (StandardScaler, lambda one, data, y: one.partial_fit(data)),
    "weighted": (StandardScaler, lambda one, data, y: one.fit(data, sample_weight=np.arange(1000.0))),
    "incremental.fit": (
        lambda: Incremental(
            SGDClassifier(random_state=np.random.RandomState(3)), epochs=2, random_state=np.random.RandomState(5)
        ),
        lambda one, data, y: one.fit(data, y),
    ),
    "incremental.partial_fit": (
        lambda: Incremental(SGDClassifier(random_state=0), classes=[0, 1]),
        lambda one, data, y: one.partial_fit(data, y),
    ),
    "pipeline.fit": (FITS["pipeline"], lambda one, data, y: one.fit(data, y)),
    "pipeline.score": (FITS["pipeline"], lambda one, data, y: one.score(data, y)),
    "pipeline.predict": (FITS["pipeline"], lambda one, data, y: np.asarray(one.predict(data))),
    "scaler.transform": (StandardScaler, lambda one, data, y: np.asarray(one.transform(data))),
}


def spoilt_container(kind, X, lengths, n, fault):
    """Return rows of which the n-th run that is read goes through `fault`."""
    if kind == "blocks":
        return FaultySource(X, n, fault, times=1).blocks(lengths)
    reads, starts = count(), np.cumsum([0, *lengths])

    def read(block):
        return fault(block) if len(block) and next(reads) == n else block

    if kind == "callable":
        blocks = ooclearn.scan(lambda: [X[a:b] for a, b in pairwise(starts)])
        blocks._make = lambda: (read(X[a:b]) for a, b in pairwise(starts))
        return blocks
    da = pytest.importorskip("dask.array")
    return da.from_array(np.array(X), chunks=(tuple(lengths), 5)).map_blocks(read, meta=np.empty((0, 0)))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    kind=st.sampled_from(["blocks", "callable", "dask"]),
    call=st.sampled_from(sorted(CALLS)),
    fault=st.sampled_from(sorted(FAULTS)),
    n=st.integers(0, 20),
    fitted=st.booleans(),
    cut=st.lists(st.integers(1, 999), max_size=6, unique=True).map(sorted),
    workers=st.integers(1, 4),
    block_bytes=st.sampled_from([2**14, 2**16, 2**24]),
)
def test_any_fault_anywhere_leaves_an_estimator_as_it_was(
    bits, X, y, kind, call, fault, n, fitted, cut, workers, block_bytes
):
    make, act = CALLS[call]
    estimator = make()
    if fitted or call.endswith(("predict", "score", "transform")):
        estimator.fit(X[:400], y[:400])
    data = spoilt_container(kind, X, np.diff([0, *cut, 1000]).tolist(), n, FAULTS[fault])
    before = bits(estimator)
    try:
        with nothing_left(pools=POOLS), ooclearn.config_context(workers=workers, block_bytes=block_bytes):
            act(estimator, data, y)
    except (RuntimeError, KeyboardInterrupt, MemoryError, SystemExit, OSError, ValueError) as error:
        assert bits(estimator) == before
        # Shapes, dtypes and positions, but no cell of the table.
        assert not re.search(r"\d\.\d{3}", str(error))
        assert len(str(error)) < 1000
        assert (
            isinstance(error, ooclearn.exceptions.DataError) or fault in UNTOUCHED or (kind, fault) == ("dask", "disk")
        )
    else:
        # The fault was never come to, or is one that is taken.
        if call.endswith(("predict", "score", "transform")):
            assert bits(estimator) == before


# Errors that are raised on as they are; so are those of the system in a task of Dask, which has its own way to try again.
UNTOUCHED = {"error", "interrupt", "memory", "exit"}
