"""Streams of the CuPy adapter on the stand-in: no wait is missing, and each that is left out is found."""

from __future__ import annotations

import numpy as np
import pytest

import ooclearn
from ooclearn.backend import get_backend
from ooclearn.events import Work
from ooclearn.linear_model import LogisticRegression, SGDClassifier
from ooclearn.preprocessing import StandardScaler
from ooclearn.ring import Ring
from ooclearn.rowmaps import Columns
from ooclearn.table import Table

cupy = pytest.importorskip("cupy", reason="test_cupy.py runs this file where a stand-in is found")
gpu_stand_in = pytest.importorskip("gpu_stand_in", reason="this is CuPy itself")

N, D = 3000, 5


@pytest.fixture(autouse=True)
def gpu():
    """The device behind the stand-in, put back as it was."""
    gpu = gpu_stand_in.gpu
    yield gpu
    gpu.devices = 1
    gpu.forget()


@pytest.fixture
def rows(tmp_path):
    X = np.random.default_rng(0).normal(5, 2, (N, D))
    np.save(tmp_path / "X.npy", X)
    with ooclearn.config_context(block_bytes=2**11, workers=1, resident_bytes=0):
        yield X, ooclearn.scan(tmp_path / "X.npy").on("cupy")


class Deaf:
    """An event that nobody waits for."""

    def __init__(self, event):
        self._event = event

    def synchronize(self):
        pass

    def __getattr__(self, name):
        return getattr(self._event, name)


# Not all: there, nothing is fetched, and the host may come to a slot when its copy is done in any case; back, the host
# has most often seen a result come before its room is copied to again.
LEFT_OUT = [
    ("there", None),
    ("there", "copying"),
    ("there", "computing"),
    ("and back", None),
    ("and back", "computing"),
    ("and back", "fetching"),
    ("and back", "host"),
]


@pytest.mark.parametrize(("way", "left_out"), LEFT_OUT)
def test_a_wait_that_is_left_out_is_found(gpu, rows, tmp_path, monkeypatch, way, left_out):
    X, sent = rows
    device = get_backend("cupy").device()
    scaler = StandardScaler().fit(X)
    if left_out == "host":
        event = device.event
        monkeypatch.setattr(device, "event", lambda: Deaf(event()))
    elif left_out is not None:
        monkeypatch.setattr(getattr(device, left_out), "wait", lambda event: None)

    def run():
        if way == "there":
            return StandardScaler().fit(sent).mean_
        scaler.transform(sent).to_npy(tmp_path / "out.npy")
        return np.load(tmp_path / "out.npy")

    if left_out is None:
        np.testing.assert_allclose(run(), X.mean(axis=0) if way == "there" else scaler.transform(X), rtol=1e-9)
        assert not gpu.hazards
        return
    with pytest.raises((gpu_stand_in.HazardError, ooclearn.exceptions.BackendError)):
        run()


def test_memory_that_is_given_again_is_waited_for(gpu, monkeypatch):
    backend = get_backend("cupy")
    values = np.ones(2**18)

    def recycled():
        before = cupy.zeros(2**18)
        _ = before + 1.0
        del before, _
        return backend.from_host(values)

    np.testing.assert_array_equal(recycled().get(), values)
    monkeypatch.setattr(cupy.cuda.Stream, "wait_event", lambda self, event: None)
    with pytest.raises(gpu_stand_in.HazardError, match="does not wait"):
        recycled()


def test_memory_is_kept_until_the_device_is_done_with_it(gpu, rows):
    """CuPy gives memory to others once nobody refers to it, though copies and work are under way."""
    _, sent = rows
    device = get_backend("cupy").device()
    ring = Ring(device, Table(sent.on_host()))
    given = set()

    def take(first, block):
        given.add(block.X.data.mem.ptr)

    def end():
        there, here = device.room(ring.room_bytes), device.pinned(ring.slot_bytes)
        return there.data.mem.ptr, here.min()

    ptr, poison = ring.deliver(take, end, work=Work("fold", "test"))
    assert len(given) == ring.rooms
    assert ptr not in given
    assert poison == gpu_stand_in.POISON, "fresh, or let go"


def test_what_a_map_keeps_on_the_device_is_there_for_another_stream(gpu, rows, tmp_path):
    X, sent = rows
    mapped = sent.map(Columns((0, 2)))
    mapped.read(0)  # sends the positions, on the stream that is current here
    mapped.to_npy(tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), X[:, [0, 2]])
    assert not gpu.hazards


@pytest.mark.parametrize("model", [LogisticRegression(), SGDClassifier()], ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("place", ["stream", "device"])
def test_threads_work_where_the_one_that_asked_does(gpu, rows, model, place):
    X, sent = rows
    c = (X[:, 0] > 5).astype(int)
    gpu.devices = 2
    with cupy.cuda.Stream(non_blocking=True) if place == "stream" else cupy.cuda.Device(1):
        for there in (sent, cupy.asarray(X)):
            model.fit(there, c)
            assert model.score(there, c) > 0.7
        predicted = model.predict(cupy.asarray(X))
    assert predicted.device == cupy.cuda.Device(int(place == "device"))
    assert not gpu.hazards
