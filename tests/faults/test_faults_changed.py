"""Faults of the catalogue that lie in files that change: 40 and 41."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from functools import partial
from itertools import chain, repeat

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier

import ooclearn
from ooclearn import Incremental
from ooclearn.exceptions import PerformanceWarning, SourceChangedError
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import StandardScaler
from ooclearn.storage import arrays

# The clock of a file system ticks some hundred times a second; a change within one tick has the same time.
TICK = 0.05


class Meddler:
    """An estimator that does something to a file before its n-th training step, and keeps what it was fed."""

    def __init__(self, meddle=None, step=0):
        self.meddle = meddle
        self.step = step

    def get_params(self, deep=True):
        return {"meddle": self.meddle, "step": self.step}

    def set_params(self, **params):
        vars(self).update(params)
        return self

    def partial_fit(self, X, y=None):
        self.steps_ = getattr(self, "steps_", 0) + 1
        if self.steps_ == self.step + 1:
            self.meddle()
        return self


def truncate(path):
    os.truncate(path, 20_000)


def empty(path):
    os.truncate(path, 0)


def replace_by_shorter(path):
    np.save(path.with_suffix(".new.npy"), np.ones((10, 5)))
    path.with_suffix(".new.npy").replace(path)


def rewrite(path):
    time.sleep(TICK)
    header = path.read_bytes()[:128]
    with path.open("r+b") as file:
        file.write(header + np.full((1000, 5), 100.0).tobytes())


def replace(path):
    np.save(path.with_suffix(".new.npy"), np.full((1000, 5), 100.0))
    path.with_suffix(".new.npy").replace(path)


def append(path):
    with path.open("ab") as file:
        file.write(b"\1" * 4000)


def remove(path):
    path.unlink()


SHRUNK = {"truncated": truncate, "emptied": empty, "replaced by a shorter one": replace_by_shorter}
CHANGED = {"rewritten": rewrite, "replaced": replace, "appended to": append, "removed": remove}


@pytest.mark.parametrize("step", [0, 1, 6])
@pytest.mark.parametrize("change", SHRUNK.values(), ids=SHRUNK)
def test_40_a_file_that_shrinks_in_the_middle_of_a_pass(file_container, change, step, refused, X):
    data = file_container(X)
    meddle = partial(change, file_container.folder / "X.npy")
    model = Incremental(Meddler(meddle, step), epochs=2)
    with refused(model, file_container.inside(), "block", "row", error=SourceChangedError):
        model.fit(data)


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
def test_41_a_file_that_changes_in_the_middle_of_a_pass(file_container, change, refused, X):
    data = file_container(X)
    meddle = partial(change, file_container.folder / "X.npy")
    model = Incremental(Meddler(meddle, 3), epochs=2)
    with refused(model, file_container.inside(), error=SourceChangedError):
        model.fit(data)


class _BetweenPasses(ooclearn.preprocessing.MaxAbsScaler):
    """A scaler that does something to a file when its own pass is over."""

    meddle = None

    def _set_from(self, state):
        super()._set_from(state)
        type(self).meddle()


@pytest.mark.parametrize("change", [*SHRUNK.values(), *CHANGED.values()], ids=[*SHRUNK, *CHANGED])
def test_40_41_a_file_that_changes_between_two_passes(file_container, change, refused, X, y):
    data = file_container(X)
    _BetweenPasses.meddle = partial(change, file_container.folder / "X.npy")
    pipe = make_pipeline(_BetweenPasses(), Incremental(SGDClassifier(random_state=0)))
    with refused(pipe, file_container.inside(), error=SourceChangedError):
        pipe.fit(data, y)


@pytest.mark.parametrize("change", [*SHRUNK.values(), *CHANGED.values()], ids=[*SHRUNK, *CHANGED])
def test_40_41_a_file_of_targets_that_changes(file_container, change, refused, X, y):
    values = np.repeat(y, 5).reshape(1000, 5)[:, 0].astype(np.float64)
    data, target = file_container(X), file_container(np.repeat(values, 5)[:1000], "y")
    file = file_container.folder / "y.npy"
    if change is rewrite:
        change = lambda path: (time.sleep(TICK), np.save(path, np.zeros(1000)))  # noqa: E731  (one of two short stand-ins)
    if change is truncate:
        change = lambda path: os.truncate(path, 2000)  # noqa: E731  (one of two short stand-ins)
    _BetweenPasses.meddle = partial(change, file)
    pipe = make_pipeline(_BetweenPasses(), Incremental(SGDClassifier(random_state=0)))
    with refused(pipe, str(file), error=SourceChangedError):
        pipe.fit(data, target)


@pytest.mark.parametrize("change", [truncate, empty], ids=["truncated", "emptied"])
def test_40_a_file_that_shrank_before_the_fit(file_container, change, scaler, trained, refused, X, y):
    data = file_container(X)
    change(file_container.folder / "X.npy")
    with refused(scaler, file_container.inside(), error=SourceChangedError):
        scaler.fit(data)
    with refused(trained, file_container.inside(), error=SourceChangedError):
        trained.fit(data, y)


def test_40_a_file_that_shrinks_before_a_lazy_result_is_computed(file_container, tmp_path, X):
    lazy = StandardScaler().fit(X).transform(file_container(X))
    os.truncate(file_container.folder / "X.npy", 20_000)
    with pytest.raises(SourceChangedError, match="is not the one that was scanned"):
        np.asarray(lazy)
    with pytest.raises(SourceChangedError, match="is not the one that was scanned"):
        lazy.to_npy(tmp_path / "out.npy")
    assert [file.name for file in tmp_path.iterdir()] == ["X.npy"]


VIEWS = {
    "rows": lambda mapped: mapped[100:900],
    "every other row": lambda mapped: mapped[::2],
    "columns": lambda mapped: mapped[:, 1:4],
    "every other column": lambda mapped: mapped[:, ::2],
    "reversed": lambda mapped: mapped[::-1],
    "reversed columns": lambda mapped: mapped[:, ::-1],
    "transposed": lambda mapped: mapped[:5].T,
    "whole": lambda mapped: mapped,
    "read only view": lambda mapped: mapped.view(),
}
ORDERS = {
    "C": lambda X: X,
    "Fortran": np.asfortranarray,
    "foreign bytes": lambda X: X.astype(">f8"),
    "foreign Fortran": lambda X: np.asfortranarray(X.astype(">f4")),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("mode", ["r", "c"])
@pytest.mark.filterwarnings("ignore:.*is in Fortran order:ooclearn.exceptions.PerformanceWarning")
def test_40_every_view_of_a_mapped_file_is_read_rightly_and_survives_that_it_shrinks(
    tmp_path, order, view, mode, refused, X
):
    np.save(tmp_path / "X.npy", order(X))
    data = view(np.load(tmp_path / "X.npy", mmap_mode=mode))
    scaler = StandardScaler().fit(data)
    expected = StandardScaler().fit(np.array(data, dtype=data.dtype.newbyteorder("=")))
    np.testing.assert_allclose(scaler.mean_, expected.mean_, rtol=1e-12)
    np.testing.assert_array_equal(ooclearn.scan(data).to_numpy(), data)
    lazy = scaler.transform(data)
    os.truncate(tmp_path / "X.npy", 200)
    with refused(scaler, str(tmp_path / "X.npy"), error=SourceChangedError):
        scaler.fit(data)
    with pytest.raises(SourceChangedError, match=r"X\.npy"):
        lazy.read(lazy.n_blocks - 1)


def test_40_a_whole_view_is_never_read_through_the_mapping(file_container, X):
    """No moment is left between looking at the size and reading: a mapping is not touched at all."""
    source = ooclearn.scan(file_container(X)).source
    assert not any(isinstance(value, np.memmap) for value in vars(source).values())


@pytest.mark.parametrize("order", [ORDERS["C"], ORDERS["foreign Fortran"]], ids=["C", "foreign Fortran"])
@pytest.mark.filterwarnings("ignore:.*is in Fortran order:ooclearn.exceptions.PerformanceWarning")
def test_40_in_a_process_of_its_own_while_another_thread_truncates(tmp_path, order, X):
    """The real thing: SIGBUS would kill the process without a word."""
    np.save(tmp_path / "X.npy", order(np.tile(X, (40, 1))))
    script = textwrap.dedent("""
        import os, sys, threading, time, warnings
        import numpy as np, ooclearn
        from ooclearn.preprocessing import StandardScaler
        from ooclearn.exceptions import SourceChangedError
        warnings.simplefilter("ignore")
        path, errors = sys.argv[1], 0
        whole = open(path, "rb").read()
        ooclearn.set_config(block_bytes=2**16)
        for attempt in range(12):
            with open(path, "r+b") as file:
                file.write(whole)
            data = np.load(path, mmap_mode="r") if attempt % 2 else ooclearn.scan(path)
            stop = threading.Timer(0.0005 * attempt, os.truncate, (path, 200))
            scaler = StandardScaler()
            stop.start()
            try:
                while stop.is_alive() or attempt >= 0:
                    scaler.fit(data)
            except SourceChangedError as error:
                errors += path in str(error)
            stop.join()
            del data
        print("errors", errors)
    """)
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "X.npy")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.split() == ["errors", "12"]


def test_40_fortran_order_is_slow_and_says_so(tmp_path, X):
    np.save(tmp_path / "X.npy", np.asfortranarray(X))
    with pytest.warns(PerformanceWarning, match="Fortran order") as caught:
        blocks = ooclearn.scan(tmp_path / "X.npy")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(blocks.to_numpy(), X)


@pytest.mark.parametrize("told", [True, False], ids=["system tells", "rows compared"])
def test_41_a_file_that_was_replaced_before_the_fit_is_not_taken_for_the_mapped_one(monkeypatch, tmp_path, told, X):
    if not told:
        monkeypatch.setattr(arrays, "_mapped_inode", lambda array: None)
    np.save(tmp_path / "X.npy", X)
    data = np.load(tmp_path / "X.npy", mmap_mode="r")
    other = np.array(X)
    other[3 if told else slice(None)] += 1000.0
    np.save(tmp_path / "new.npy", other)
    (tmp_path / "new.npy").replace(tmp_path / "X.npy")
    np.testing.assert_allclose(StandardScaler().fit(data).mean_, X.mean(axis=0), rtol=1e-12)


def test_41_a_callable_that_gives_other_blocks_the_second_time(refused, X, y):
    rng = np.random.default_rng(0)
    # Two workers read in the second pass, and either may be told first: the other then has it made anew.
    sizes = chain([(500, 500), (500, 500)], repeat((400, 600)))

    def blocks():
        first, second = next(sizes)
        yield rng.standard_normal((first, 5))
        yield rng.standard_normal((second, 5))

    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier()))
    with refused(pipe, "(400, 5)", "(500, 5)", "block 0", error=SourceChangedError):
        pipe.fit(blocks, y)
