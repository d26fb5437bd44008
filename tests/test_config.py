"""Configuration: global defaults, and a context that belongs to one thread."""

from __future__ import annotations

import threading

import pytest

import ooclearn
from ooclearn.config import n_workers


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
