from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from ooclearn.diagnostics import MemorySampler, limit_memory, memory, peak_memory

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces RLIMIT_DATA for what NumPy allocates")


def samplers():
    return [thread for thread in threading.enumerate() if thread.name == "memory-sampler"]


def wait_until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


def test_the_peak_of_a_passing_array_is_seen():
    # In a process of its own: here, what other tests have left may be freed meanwhile.
    code = """
import time
import numpy as np
from ooclearn.diagnostics import peak_memory
with peak_memory(interval=0.001) as seen:
    array = np.ones(8_000_000)
    taken = len(seen.samples)
    while len(seen.samples) < taken + 2:
        time.sleep(0.001)
    del array
assert 0.9 * 64e6 <= seen.growth <= 64e6 + 30e6, seen
assert seen.peak == seen.before + seen.growth
assert max(sample.memory for sample in seen.samples) == seen.peak
assert "MB of anonymous memory" in repr(seen)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_mapped_files_do_not_count(tmp_path):
    path = tmp_path / "X.npy"
    np.save(path, np.ones(8_000_000))
    gc.collect()
    with peak_memory(interval=0.001) as seen:
        mapped = np.load(path, mmap_mode="r")
        assert mapped.sum() == 8_000_000
    assert seen.growth < 30e6


def test_busy_cores_are_counted():
    with MemorySampler(interval=0.005) as seen:
        start, spent = time.perf_counter(), time.process_time()
        while time.process_time() - spent < 0.15:
            pass
        seen.sample()  # the thread may be kept from it where other processes take the cores
        middle, busy = time.perf_counter(), time.process_time() - spent
        time.sleep(0.15)
        seen.sample()
        stop, idle = time.perf_counter(), time.process_time() - spent - busy
    assert seen.cores_between(start, middle) == pytest.approx(busy / (middle - start), rel=0.2)
    assert seen.cores_between(middle, stop) == pytest.approx(idle / (stop - middle), abs=0.1)
    assert seen.cores < 1.1
    assert seen.cores_between(2.0, 1.0) == 0.0
    assert [sample.time for sample in seen.samples] == sorted(sample.time for sample in seen.samples)


def test_the_number_of_samples_is_bounded_and_no_peak_is_lost(monkeypatch):
    sizes = iter(range(10**9))
    monkeypatch.setattr(memory, "_measure", lambda: ("anonymous memory", lambda: high if next(sizes) == 777 else 5))
    high = 10**12
    with MemorySampler(interval=1000.0, max_samples=10) as seen:
        for _ in range(5000):
            seen.sample()
            assert len(seen.samples) <= 10
    assert seen.peak == high
    assert max(sample.memory for sample in seen.samples) == high
    assert seen.samples[0].memory == 5


def test_the_thread_ends_with_the_block():
    before = len(samplers())
    sampler = MemorySampler()
    with sampler:
        assert len(samplers()) == before + 1
    assert len(samplers()) == before
    with pytest.raises(ZeroDivisionError), sampler:
        1 / 0  # noqa: B018  (it is there to raise)
    assert len(samplers()) == before


def test_the_thread_of_a_forgotten_sampler_ends():
    before = len(samplers())
    seen = MemorySampler(interval=0.001)
    seen.__enter__()
    assert len(samplers()) == before + 1
    del seen
    gc.collect()
    assert wait_until(lambda: len(samplers()) == before)


def test_a_sampler_is_for_one_block_at_a_time():
    seen = MemorySampler()
    with seen, pytest.raises(RuntimeError, match="at work already"), seen:
        pass
    with seen:
        pass
    assert len(seen.samples) >= 1


def test_nothing_is_known_before_the_block():
    with pytest.raises(RuntimeError, match="nothing was measured yet"):
        _ = MemorySampler().before


@pytest.mark.parametrize("wrong", [{"interval": 0.0}, {"interval": -1.0}, {"max_samples": 1}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MemorySampler(**wrong)


@pytest.mark.parametrize(
    ("told", "measure"),
    [(SimpleNamespace(rss=7), "resident memory"), (SimpleNamespace(rss=7, private=7), "private memory")],
)
def test_psutil_is_asked_where_there_is_no_proc(monkeypatch, tmp_path, told, measure):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "missing")
    psutil = SimpleNamespace(Process=lambda: SimpleNamespace(memory_info=lambda: told))
    monkeypatch.setitem(sys.modules, "psutil", psutil)
    with peak_memory() as seen:
        pass
    assert (seen.measure, seen.peak) == (measure, 7)


def test_it_is_said_that_nothing_can_be_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "missing")
    monkeypatch.setitem(sys.modules, "psutil", None)
    with peak_memory() as seen:
        pass
    assert seen.measure is None
    assert seen.samples[-1].memory is None
    assert "not measured" in repr(seen)
    for name in ("peak", "before", "growth"):
        with pytest.raises(OSError, match="pip install psutil"):
            getattr(seen, name)


@linux
def test_the_limit_is_enforced_and_taken_back():
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    # Larger than what the C library may have kept of earlier tests' memory, which a limit cannot take away.
    much = 40_000_000
    with limit_memory(50_000_000) as limit:
        assert resource.getrlimit(resource.RLIMIT_DATA) == (limit, before[1])
        np.ones(2_000_000)
        with pytest.raises(MemoryError):
            np.ones(much)
        with limit_memory(2_000_000_000) as inner:
            assert inner == limit  # a wider limit inside widens nothing
        with limit_memory(20_000_000) as inner, pytest.raises(MemoryError):
            np.ones(much)
        assert inner < limit
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    np.ones(10_000_000)


@linux
def test_the_limit_is_taken_back_after_an_error():
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(ZeroDivisionError), limit_memory(50_000_000):
        1 / 0  # noqa: B018  (it is there to raise)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


@linux
def test_mapped_files_are_not_limited(tmp_path):
    path = tmp_path / "X.npy"
    np.save(path, np.ones(8_000_000))
    with limit_memory(30_000_000):
        assert np.load(path, mmap_mode="r").sum() == 8_000_000


@pytest.mark.parametrize("wrong", [0, -1])
def test_a_limit_is_above_zero(wrong):
    with pytest.raises(ValueError, match="above 0"), limit_memory(wrong):
        pass


def test_other_platforms_are_told_what_to_do(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(OSError, match="cannot be limited on darwin"), limit_memory(10):
        pass


def test_diagnostics_import_no_optional_library():
    code = (
        # scikit-learn imports psutil where it is installed.
        "import sys, sklearn.base, ooclearn; before = set(sys.modules); import ooclearn.diagnostics as d;"
        "d.Timeline(); d.Progress(); new = set(sys.modules) - before;"
        "print(sorted(name for name in ('rich', 'psutil', 'IPython') if name in new))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
