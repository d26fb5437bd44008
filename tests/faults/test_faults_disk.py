"""Faults of the catalogue that lie in a full disk: 57."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import ooclearn
from ooclearn.exceptions import DataError
from ooclearn.preprocessing import StandardScaler
from ooclearn.rowmaps import Rowwise


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
