"""Files that are damaged, change under a fit, or do not fit on the disk."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import SGDClassifier

import ooclearn
from ooclearn import Incremental
from ooclearn.exceptions import DataError, DataWarning, PerformanceWarning, SourceChangedError
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import StandardScaler
from ooclearn.rowmaps import Rowwise
from ooclearn.storage import arrays

# The clock of a file system ticks some hundred times a second; a change within one tick has the same time.
TICK = 0.05


@pytest.fixture
def path(tmp_path, X):
    file = tmp_path / "X.npy"
    np.save(file, X)
    return file


# Damaged.


def test_38_truncated_in_the_header(path):
    whole = path.read_bytes()
    for length in (0, 1, 5, 6, 7, 8, 9, 10, 11, 64, 127):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"not a \.npy file") as caught:
            ooclearn.scan(path)
        assert str(path) in str(caught.value)
        assert "not fully written?" in str(caught.value)


def test_38_truncated_in_the_data(path, scaler, refused):
    whole = path.read_bytes()
    for length in (128, 129, 20_000, len(whole) - 1):
        path.write_bytes(whole[:length])
        with refused(scaler, str(path), f"promises {len(whole):,} bytes", f"has {length:,}", "not fully written?"):
            scaler.fit(path)


def test_38_truncated_and_mapped(path):
    os.truncate(path, 20_000)
    with pytest.raises(ValueError, match="mmap length is greater than file size"):
        np.load(path, mmap_mode="r")  # NumPy's own, at the place where it is loaded


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 127), byte=st.integers(0, 255))
def test_38_any_damage_to_a_header_is_an_error_that_names_the_file_or_another_array(tmp_path_factory, at, byte):
    file = tmp_path_factory.getbasetemp() / "damaged.npy"
    np.save(file, np.arange(50.0).reshape(10, 5))
    whole = bytearray(file.read_bytes())
    whole[at] = byte
    file.write_bytes(bytes(whole))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            blocks = ooclearn.scan(file)
        except DataError as error:
            assert str(file) in str(error)
        else:
            # Another shape or dtype, all of which is in the file.
            assert blocks.to_numpy().nbytes <= 400


def test_38_objects_are_not_unpickled(tmp_path, refused):
    file = tmp_path / "objects.npy"
    np.save(file, np.array([["secret", 1]], dtype=object), allow_pickle=True)
    with refused(StandardScaler(), str(file), "only pickle can read", never=("secret",)):
        StandardScaler().fit(file)


@pytest.mark.parametrize("junk", [1, 8, 100_000])
def test_39_bytes_after_the_array(path, junk, X):
    with path.open("ab") as file:
        file.write(b"\1" * junk)
    with pytest.warns(DataWarning, match=f"{junk:,} bytes after the array") as caught:
        blocks = ooclearn.scan(path)
    assert len(caught) == 1
    assert str(path) in str(caught[0].message)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(blocks.to_numpy(), X)
        StandardScaler().fit(blocks)


@pytest.mark.parametrize(
    "fit",
    [
        lambda data, y: StandardScaler().fit(data),
        lambda data, y: make_pipeline(StandardScaler(), Incremental(SGDClassifier())).fit(data, y),
    ],
    ids=["scaler", "pipeline"],
)
@pytest.mark.parametrize("mapped", [False, True])
def test_39_bytes_after_the_array_that_is_passed_straight_on(path, fit, mapped, y):
    with path.open("ab") as file:
        file.write(b"\1" * 1000)
    data = np.load(path, mmap_mode="r") if mapped else path
    with pytest.warns(DataWarning, match="1,000 bytes after the array") as caught:
        fit(data, y)
    assert len(caught) == 1
    assert caught[0].filename == __file__


# Changed while they are read.


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
    sizes = iter([(500, 500), (500, 500), (400, 600)])

    def blocks():
        first, second = next(sizes)
        yield rng.standard_normal((first, 5))
        yield rng.standard_normal((second, 5))

    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier()))
    with refused(pipe, "(400, 5)", "(500, 5)", "block 0", error=SourceChangedError):
        pipe.fit(blocks, y)


# A full disk.


@pytest.fixture
def result(X):
    """Blocks that are computed when they are written."""
    return StandardScaler().fit(X).transform(ooclearn.scan(np.array(X), block_rows=100))


@pytest.fixture(params=[False, True], ids=["new", "there already"])
def target(request, tmp_path):
    """Where a result is to go; and what is there, which must not change unless it is replaced by a whole file."""
    file = tmp_path / "out.npy"
    if request.param:
        np.save(file, np.arange(3))
    return file


def unharmed(target):
    """Check that there is what was there before, and nothing else."""
    if target.exists():
        assert [file.name for file in target.parent.iterdir()] == ["out.npy"]
        np.testing.assert_array_equal(np.load(target), np.arange(3))
    else:
        assert list(target.parent.iterdir()) == []


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_57_not_enough_space_is_seen_before_anything_is_computed(monkeypatch, target, leaves_nothing, X):
    usage = shutil.disk_usage(target.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    counted = ooclearn.testing.CountingBlocks(X, [100] * 10)
    with pytest.raises(OSError, match="40,128 bytes are to be written and 1,000 are free") as caught:
        StandardScaler().fit(X).transform(counted).to_npy(target)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(target)
    assert counted.reads == []
    unharmed(target)


def test_57_space_that_others_take_is_seen_when_it_is_set_aside(monkeypatch, result, target, leaves_nothing):
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        result.to_npy(target)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(target)
    unharmed(target)


@pytest.mark.parametrize("n", range(12))
def test_57_a_disk_that_is_full_at_the_nth_write(monkeypatch, result, target, leaves_nothing, n):
    write, lock, times = os.pwrite, threading.Lock(), []

    def pwrite(fd, data, offset):
        with lock:
            times.append(None)
            if len(times) > n:
                full()
        return write(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    if n == 11:  # a header and ten blocks: it is done
        result.to_npy(target)
        np.testing.assert_array_equal(np.load(target), result.to_numpy())
        return
    with pytest.raises(OSError, match="No space left on device") as caught:
        result.to_npy(target)
    assert caught.value.filename == str(target)
    unharmed(target)


def test_57_a_file_system_that_sets_nothing_aside(monkeypatch, result, target):
    def unsupported(*_):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    result.to_npy(target)
    np.testing.assert_array_equal(np.load(target), result.to_numpy())


def test_57_writes_that_are_cut_short_go_on(monkeypatch, result, target):
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: write(fd, data[:777], offset))
    result.to_npy(target)
    np.testing.assert_array_equal(np.load(target), result.to_numpy())


def test_57_a_limit_that_the_system_sets(tmp_path):
    """A real one: no file of the process may grow beyond 64 KiB, and fallocate and writes fail at it."""
    pytest.importorskip("resource")
    script = textwrap.dedent("""
        import errno, os, resource, sys
        import numpy as np, ooclearn
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
        blocks = ooclearn.scan(np.ones((20_000, 5)), block_rows=100)
        for fallocate in (os.posix_fallocate, lambda *_: None):
            os.posix_fallocate = fallocate
            try:
                blocks.to_npy(sys.argv[1] + "/out.npy")
            except OSError as error:
                assert error.errno == errno.EFBIG, error
                assert error.filename == sys.argv[1] + "/out.npy", error
                print("refused", os.listdir(sys.argv[1]))
    """)
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.splitlines() == ["refused []"] * 2


@pytest.mark.parametrize("name", ["scan", "dask"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, MemoryError])
def test_57_a_block_that_cannot_be_computed(containers, name, target, leaves_nothing, error, X):
    def fail(block):
        if block[0, 0] == X[500, 0]:
            raise error
        return block

    data = (
        ooclearn.scan(np.array(X), block_rows=100) if name == "scan" else ooclearn.scan(containers(name)(X, rows=109))
    )
    failing = (
        data.map(Rowwise(fail))
        if name == "scan"
        else ooclearn.scan(
            data.array.map_blocks(
                lambda block: block if len(block) == 0 or X[500, 0] not in block else fail(X[500:501]),
                meta=np.empty((0, 0)),
            )
        )
    )
    with pytest.raises(error):
        failing.to_npy(target)
    unharmed(target)


def test_57_a_folder_in_the_place_of_the_file(result, tmp_path):
    (tmp_path / "out.npy").mkdir()
    with pytest.raises(IsADirectoryError, match=r"out\.npy"):
        result.to_npy(tmp_path / "out.npy")
    assert list((tmp_path / "out.npy").iterdir()) == []


def test_57_a_folder_that_is_not_there(result, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        result.to_npy(tmp_path / "nowhere" / "out.npy")


def test_57_the_file_that_a_link_leads_to_is_replaced(result, tmp_path):
    np.save(tmp_path / "real.npy", np.arange(3))
    (tmp_path / "link.npy").symlink_to(tmp_path / "real.npy")
    result.to_npy(tmp_path / "link.npy")
    assert (tmp_path / "link.npy").is_symlink()
    np.testing.assert_array_equal(np.load(tmp_path / "real.npy"), result.to_numpy())


def test_57_the_source_itself_may_be_the_target(tmp_path, X):
    np.save(tmp_path / "X.npy", X)
    scaler = StandardScaler().fit(X)
    scaler.transform(ooclearn.scan(tmp_path / "X.npy")).to_npy(tmp_path / "X.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "X.npy"), scaler.transform(X))
    assert [file.name for file in tmp_path.iterdir()] == ["X.npy"]


def test_57_values_that_the_declared_dtype_would_cut_off(tmp_path, X):
    blocks = ooclearn.scan(np.array(X), block_rows=100)
    for function, dtype in ((_long_text, np.dtype("<U3")), (_halves, np.dtype(np.int64))):
        with pytest.raises(DataError, match="was declared, which cannot hold them"):
            blocks.map(Rowwise(function, n_columns=None, out_dtype=dtype)).to_npy(tmp_path / "out.npy")
    with pytest.raises(DataError, match="row maps keep the rows"):
        blocks.map(Rowwise(_fewer)).to_npy(tmp_path / "out.npy")
    assert list(tmp_path.iterdir()) == []


def _long_text(block):
    return np.full(len(block), "maybe")


def _halves(block):
    return np.full(len(block), 0.5)


def _fewer(block):
    return block[:-1]
