"""Doing what CuPy is asked for with NumPy, and noting what memory it reads and writes."""

import inspect
import re
from functools import cache
from pathlib import Path

import gpu_stand_in as stand_in
import numpy as np
from gpu_stand_in import gpu

from cupy.cuda.stream import get_current_stream

DTYPES = "?bhilqBHILQefdFD"


@cache
def surface():
    """Return what CuPy has, by name: what it takes, " ufunc", or nothing."""
    lines = (Path(__file__).parent.parent / "surface.txt").read_text(encoding="utf-8").splitlines()
    names = [re.match(r"[\w.]*", line).group() for line in lines]
    return {name: line[len(name) :] for name, line in zip(names, lines, strict=True) if name}


@cache
def signature(path):
    """Return the signature of a function or method of CuPy."""
    names = {"nan": np.nan, "inf": np.inf}
    exec(f"def f{surface()[path]}: pass", names)
    return inspect.signature(names["f"])


def known_dtype(dtype):
    """Return a dtype that CuPy has."""
    dtype = np.dtype(dtype)
    if dtype.char not in DTYPES:
        raise ValueError(f"Unsupported dtype {dtype}")
    return dtype


def host(values, arrays):
    """Return arguments as NumPy's, and append the arrays of the device among them."""
    from cupy import ndarray

    if isinstance(values, ndarray):
        arrays.append(values)
        return values._a
    if isinstance(values, (list, tuple)):
        return type(values)([host(one, arrays) for one in values])
    if isinstance(values, np.ndarray):
        raise TypeError(f"Unsupported type {type(values)}")
    return values


def done(work, arrays, written=()):
    """Give the current stream work that reads some arrays and writes others, and do it; return what NumPy does."""
    queue = get_current_stream()._queue
    with stand_in.lock:
        tick = queue.begin()
        queue.settle()
        for x in arrays:
            x._note(queue, tick, write=False)
        for x in written:
            x._note(queue, tick, write=True)
    with np.errstate(all="ignore"):
        return work()


def fresh(values):
    """Return new memory of the device with values that were computed."""
    from cupy import ndarray

    if isinstance(values, (tuple, list)):
        return type(values)(*map(fresh, values)) if hasattr(values, "_fields") else type(values)(map(fresh, values))
    values = np.asarray(values)
    known_dtype(values.dtype)
    order = "F" if values.flags.f_contiguous and not values.flags.c_contiguous else "C"
    out = ndarray(values.shape, values.dtype, order=order)
    done(lambda: out._a.__setitem__(..., values), (), (out,))
    return out


def seen(values, arrays):
    """Return views of arrays that were looked at another way; None where the values had to be copied."""
    if isinstance(values, (tuple, list)):
        views = [seen(one, arrays) for one in values]
        return None if any(one is None for one in views) else type(values)(views)
    for x in arrays:
        if isinstance(values, np.ndarray) and (np.may_share_memory(values, x._a) or not values.size):
            return x._seen(values)
    return None


def call(function, args, kwargs, *, out=None, view=False):
    """Call NumPy's function; the answer is new memory of the device, `out`, or a view where CuPy gives one."""
    arrays = []
    args = [host(one, arrays) for one in args]
    kwargs = {name: host(one, arrays) for name, one in kwargs.items()}
    if view:
        with np.errstate(all="ignore"):
            views = seen(function(*args, **kwargs), arrays)
        if views is not None:
            return views
    if out is not None:
        done(lambda: function(*args, out=out._a, **kwargs), arrays, (out,))
        return out
    return fresh(done(lambda: function(*args, **kwargs), arrays))


def waited(*arrays):
    """Wait, as CuPy does where a shape or an answer depends on values."""
    done(lambda: None, arrays)
    gpu.ledger.fetched(8)
    get_current_stream().synchronize()
