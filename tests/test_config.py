"""Configuration: global defaults, and a context that belongs to one thread."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier

import ooclearn
from ooclearn import Incremental, make_pipeline
from ooclearn.config import n_workers
from ooclearn.exceptions import PerformanceWarning
from ooclearn.linear_model import LogisticRegression
from ooclearn.preprocessing import StandardScaler


def test_a_context_ends_as_it_began():
    before = ooclearn.get_config()
    with ooclearn.config_context(workers=3, memory_limit=10**9):
        with ooclearn.config_context(block_bytes=4096):
            inner = ooclearn.get_config()
            assert (inner["workers"], inner["memory_limit"], inner["block_bytes"]) == (3, 10**9, 4096)
        assert ooclearn.get_config()["block_bytes"] == before["block_bytes"]
    assert ooclearn.get_config() == before


def test_a_context_ends_after_an_error():
    before = ooclearn.get_config()
    with pytest.raises(RuntimeError), ooclearn.config_context(workers=3):
        raise RuntimeError
    assert ooclearn.get_config() == before


def test_a_context_is_of_its_thread_and_a_default_of_all():
    seen = {}
    with ooclearn.config_context(workers=7):
        thread = threading.Thread(target=lambda: seen.update(ooclearn.get_config()))
        thread.start()
        thread.join()
    assert seen["workers"] != 7
    ooclearn.set_config(workers=5)
    thread = threading.Thread(target=lambda: seen.update(ooclearn.get_config()))
    thread.start()
    thread.join()
    assert seen["workers"] == 5


def test_threads_inside_a_context_keep_theirs():
    with ooclearn.config_context(block_bytes=1000):
        thread = threading.Thread(target=ooclearn.set_config, kwargs={"block_bytes": 2000})
        thread.start()
        thread.join()
        assert ooclearn.get_config()["block_bytes"] == 1000
    assert ooclearn.get_config()["block_bytes"] == 2000


@pytest.mark.parametrize("name", ["workers", "memory_limit", "block_bytes"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "4", True])
def test_nonsense_is_refused_and_changes_nothing(name, value):
    before = ooclearn.get_config()
    with pytest.raises(ValueError, match=name):
        ooclearn.set_config(**{name: value})
    with pytest.raises(ValueError, match=name), ooclearn.config_context(**{name: value}):
        pass
    assert ooclearn.get_config() == before


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"memory_limit": "2GiB"}, r"memory_limit must be a whole number of bytes above 0, such as 2 \* 2\*\*30"),
        ({"block_bytes": 1e6}, "block_bytes must be a whole number of bytes above 0, got 1000000.0"),
        ({"workers": 0}, "workers must be a whole number above 0 or None, got 0"),
    ],
)
def test_the_unit_is_told(setting, said):
    with pytest.raises(ValueError, match=said):
        ooclearn.set_config(**setting)


def test_other_nonsense():
    with pytest.raises(TypeError, match="unknown setting 'worker'; there are backend, block_bytes"):
        ooclearn.set_config(worker=2)
    with pytest.raises(ValueError, match="name of a backend"):
        ooclearn.set_config(backend=3)
    with pytest.raises(ValueError, match="progress must be True or False, got 'yes'"):
        ooclearn.set_config(progress="yes")
    with pytest.raises(ValueError, match="block_bytes"):
        ooclearn.set_config(block_bytes=None)


def test_a_copy_of_the_settings_is_given_away():
    ooclearn.get_config()["workers"] = 99
    assert ooclearn.get_config()["workers"] != 99


def test_workers_by_default_are_the_cores_of_this_process():
    import joblib

    assert n_workers() == joblib.cpu_count()
    with ooclearn.config_context(workers=3):
        assert n_workers() == 3


def _np(n, d, tmp_path):
    return np.ones((n, d))


def _folder(n, d, tmp_path):
    for i in range(2):
        np.save(tmp_path / f"{i}.npy", np.ones((n // 2, d)))
    return tmp_path


@pytest.mark.parametrize("block_bytes", [10, 40])
@pytest.mark.parametrize("make", [_np, _folder])
def test_blocks_that_come_out_far_too_small(make, block_bytes, tmp_path):
    source = make(1000, 4, tmp_path)
    with ooclearn.config_context(block_bytes=block_bytes), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        blocks = ooclearn.scan(source)
    (one,) = caught
    assert one.category is PerformanceWarning
    assert "1,000 blocks of 1 row, 32 bytes" in str(one.message)
    assert f"block_bytes is {block_bytes}" in str(one.message)
    assert one.filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        StandardScaler().fit(blocks)  # it was told where they were cut


def test_a_fit_tells_once_of_small_blocks():
    X, y = np.random.default_rng(0).normal(size=(500, 3)), np.arange(500) % 2
    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0)))
    for model in (StandardScaler(), LogisticRegression(), pipe):
        with ooclearn.config_context(block_bytes=10), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(X, y)
        assert [one.category for one in caught] == [PerformanceWarning]
        assert caught[0].filename == __file__


@pytest.mark.parametrize(("n", "d", "block_bytes"), [(30, 4, 10), (1000, 4, 4096), (200, 4000, 10), (1, 4, 1)])
def test_other_blocks_are_no_matter(n, d, block_bytes):
    """A table that is small itself, blocks of some hundred rows, and rows that are long."""
    with ooclearn.config_context(block_bytes=block_bytes), warnings.catch_warnings():
        warnings.simplefilter("error")
        StandardScaler().fit(np.ones((n, d)))
        ooclearn.scan(np.ones((n, d)))
        if n >= 1000:
            ooclearn.scan(np.ones((n, d)), block_rows=1)  # as asked for
