"""What tests of statistics that are added up on a device share: rows of late classes, passes over them, and refusals."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import numpy as np
import pytest

import ooclearn
from ooclearn.backend import get_backend
from ooclearn.exceptions import DataError
from ooclearn.summing import brought_back
from ooclearn.table import Rows
from ooclearn.testing.syncs import no_synchronisation

CUTS = (0, 1, 60, 61, 300, 301, 700)
BACKEND = get_backend("array_api")


def on_device(values, device="device1"):
    import array_api_strict as xp

    if values is None or values.dtype.kind not in "fiub":
        return values
    if device == "no_float64" and values.dtype == np.float64:
        values = values.astype(np.float32)
    return xp.asarray(np.array(values), device=xp.Device(device))


def blocks(X, y=None, w=None, *, cuts=CUTS, labels=True, device="device1"):
    """Return rows in blocks as a backend would give them: labels stay where they were read, if that is the host."""
    for start, stop in zip(cuts, (*cuts[1:], len(X)), strict=True):
        at = slice(start, stop)
        if start == stop or start >= len(X):
            continue
        label = None if y is None else y[at]
        weight = None if w is None else on_device(w[at], device)
        yield Rows(
            on_device(X[at], device),
            on_device(label, device) if label is not None else None,
            weight,
            labels=label if labels else None,
        )


def added_up(statistic, parts, *, silent=True):
    """Return the state of a pass over a device; raise if a value is asked for before its end."""
    origin, sums, n = None, None, 0
    with no_synchronisation() if silent else np.errstate():
        for part in parts:
            origin = statistic.origin(part) if origin is None else origin
            more = statistic.sums(part, origin)
            sums = more if sums is None else statistic.add(sums, more)
            n += part.n
    origin, sums = brought_back([origin, sums], BACKEND.to_host)
    return statistic.state(origin, sums, n)


def assert_like(got, expected, rtol=1e-11, atol=0.0):
    assert type(got) is type(expected)
    if not is_dataclass(expected):
        assert got == expected
        return
    for field in fields(expected):
        mine, theirs = getattr(got, field.name), getattr(expected, field.name)
        if is_dataclass(theirs):
            assert_like(mine, theirs, rtol, atol)
        elif field.name in ("rest", "rounding") or theirs is None:
            assert type(mine) is type(theirs)
        elif isinstance(theirs, np.ndarray) and theirs.dtype.kind != "f":
            assert mine.dtype.kind == theirs.dtype.kind, field.name
            np.testing.assert_array_equal(mine, theirs, err_msg=field.name)
        else:
            scale = np.max(np.abs(theirs), initial=0.0, where=np.isfinite(theirs))
            np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=atol + rtol * scale, err_msg=field.name)


def table(n=700, d=3, dtype="float64", names=("b", "a", "long", "c"), weighted=False, offset=0.0, apart=0.0, seed=0):
    """Return rows whose classes come one after the other, some late, with a mixed head."""
    rng = np.random.default_rng(seed)
    at = np.sort(rng.integers(0, len(names), n))
    at[:100] = np.minimum(at[:100], 1)
    X = (rng.normal(size=(n, d)) + offset + apart * at[:, None]).astype(dtype)
    w = None
    if weighted:
        w = rng.uniform(0.5, 2.0, n) * (rng.random(n) < 0.7)
        w[:80] = 0.0  # the first blocks, and the first rows of the class that is met first
    return X, np.array(names)[at], w


def refused(statistic, X, y=None, w=None):
    """Return the error of the backend's fold."""
    from ooclearn.events import Work
    from ooclearn.table import Table

    made = [None if part is None else ooclearn.scan(part).recut(np.diff([*CUTS, 700])) for part in (y, w)]
    given = Table(BACKEND.blocks(on_device(X)).recut(np.diff([*CUTS, 700])), *made)
    with pytest.raises(DataError) as caught:
        given.backend.fold(given.only(statistic.parts), statistic, work=Work("fold", "test", 700, None, len(CUTS)))
    return caught.value
