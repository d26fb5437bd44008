"""What tests of scalers share: results read into NumPy arrays, and two fitted scalers compared."""

from __future__ import annotations

import numpy as np

import ooclearn


def host(x):
    if hasattr(x, "compute"):
        return x.compute()
    return x.to_numpy() if isinstance(x, ooclearn.Blocks) else np.asarray(x)


def assert_alike(ours, theirs, **tolerance):
    """Check that two fitted scalers have the same numbers."""
    for name in ("mean_", "var_", "scale_", "min_", "data_min_", "data_max_", "data_range_", "max_abs_"):
        if hasattr(theirs, name):
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), err_msg=name, **tolerance)
