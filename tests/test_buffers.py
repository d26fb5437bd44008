"""Buffers: memory used again, never while anybody still looks at it."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from ooclearn.buffers import Buffers

F8 = np.dtype(np.float64)


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_when_the_last_view_is_gone():
    buffers = Buffers(keep=2)
    a = buffers.empty((100, 3), F8)
    place = address(a)
    view = a[10:20].reshape(-1)[::2]
    del a
    other = buffers.empty((100, 3), F8)
    assert address(other) != place, "a view still lives"
    del view
    gc.collect()
    assert address(buffers.empty((100, 3), F8)) == place


@pytest.mark.parametrize("dtype", ["float64", "float32", "int8", "bool", "U5", "complex128"])
@pytest.mark.parametrize("shape", [(0,), (3,), (2, 3), (0, 4), (2, 3, 4)])
def test_shape_and_dtype(shape, dtype):
    array = Buffers().empty(shape, np.dtype(dtype))
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert array.flags.c_contiguous
    assert array.flags.writeable
    array[...] = np.ones((), dtype=dtype)
    assert (array == np.ones((), dtype=dtype)).all()


def test_objects_are_never_put_into_borrowed_memory():
    array = Buffers().empty((3,), np.dtype(object))
    assert array.tolist() == [None, None, None]


def test_no_more_is_kept_than_said():
    buffers = Buffers(keep=2)
    several = [buffers.empty((1000,), F8) for _ in range(5)]
    del several
    gc.collect()
    assert len(buffers._free) == 2


def test_a_much_larger_buffer_is_not_taken_for_a_small_array():
    buffers = Buffers()
    large = buffers.empty((10_000,), F8)
    place = address(large)
    del large
    gc.collect()
    assert address(buffers.empty((10,), F8)) != place


def test_many_threads_never_share_memory():
    buffers = Buffers(keep=4)
    mixed = []

    def use(k):
        for _ in range(300):
            array = buffers.empty((50,), F8)
            array[:] = k
            if (array != k).any():
                mixed.append(k)

    threads = [threading.Thread(target=use, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not mixed
