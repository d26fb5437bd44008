"""What tests of the ring share: a device that is late, and rows of the host for it."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np

import ooclearn
from ooclearn.rowmaps import Affine
from ooclearn.testing.device import register_fake

N = 2400
CUT = (40,) * (N // 40)
SCALED = Affine(np.array([2.0, 0.5, 1.0]), center=np.array([1.0, 100.0, 0.0]))


@contextmanager
def late_device(**settings):
    """Register a device whose every step is late by up to a millisecond, and set the configuration."""
    with ooclearn.config_context(**settings):
        yield register_fake(delay=0.001)
    register_fake()


def numbers(n=N, d=3, dtype=np.float64):
    X = np.random.default_rng(0).normal(100, 2, (n, d)).astype(dtype)
    X[:, 0] = np.arange(n) % 100
    return X


def sent(X, cut=CUT):
    return ooclearn.scan(X).recut(cut).on("device")


def weighed(n=3000, d=3, dtype=np.float64):
    rng = np.random.default_rng(0)
    X = rng.normal(100, 2, (n, d)).astype(dtype)
    X[:, 0] = np.arange(n)
    return X, rng.integers(0, 3, n), rng.random(n)
