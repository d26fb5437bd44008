"""Faults of the catalogue that lie in reading: 51."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
from sklearn.base import clone

import ooclearn
from ooclearn import sources
from ooclearn.exceptions import ReadError
from ooclearn.storage import callables
from ooclearn.testing import FaultySource

LENGTHS = [200] * 5


@pytest.fixture
def hasty(monkeypatch):
    """Try again at once, and say how often it was tried."""
    monkeypatch.setattr(sources, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(callables, "PAUSES", (0.0, 0.0, 0.0))


def disk_error():
    return OSError(errno.EIO, os.strerror(errno.EIO))


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
    monkeypatch.setattr(sources.time, "sleep", waits.append)
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
