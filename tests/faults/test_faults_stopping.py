"""Faults of the catalogue that stop a fit: 52 and 53."""

from __future__ import annotations

import copy
import subprocess
import sys
import textwrap
import time
from itertools import count

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import SGDClassifier
from threadpoolctl import threadpool_info

import ooclearn
from ooclearn import Incremental, base
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import MinMaxScaler, StandardScaler
from ooclearn.testing import FaultySource, nothing_left

POOLS = ("ThreadPoolExecutor", "Dask")
LENGTHS = [200] * 5


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
