"""Of ``cupyx``: page-locked arrays."""

import math

import numpy as np
from cupy.cuda import alloc_pinned_memory


def empty_pinned(shape, dtype=float, order="C"):
    """Return a NumPy array in page-locked memory."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    return np.ndarray(shape, dtype=dtype, buffer=alloc_pinned_memory(nbytes), order=order)


def zeros_pinned(shape, dtype=float, order="C"):
    """Return a NumPy array of zeros in page-locked memory."""
    out = empty_pinned(shape, dtype, order)
    out[...] = 0
    return out
