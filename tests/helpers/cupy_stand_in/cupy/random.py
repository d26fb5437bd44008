"""Of CuPy's ``random``."""

import numpy as np

from cupy._calls import fresh


def standard_normal(size=None, dtype=float):
    return fresh(np.random.default_rng(0).standard_normal(size, dtype=dtype))
