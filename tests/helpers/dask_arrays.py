"""Dask arrays for tests: cut anywhere, with rows known and unknown."""

from __future__ import annotations

import numpy as np
import pytest

from ooclearn.testing.tables import uneven_cut

da = pytest.importorskip("dask.array", reason="the extra `dask` is not installed")


def chunked(values, lengths):
    return da.from_array(values, chunks=(tuple(lengths), *values.shape[1:]))


def unknown(values, lengths=None):
    """A Dask array that does not know the rows of its chunks."""
    array = chunked(values, lengths or uneven_cut(len(values)))
    rows = da.from_array(np.ones(len(values), dtype=bool), chunks=array.chunks[0])
    return array[rows]
