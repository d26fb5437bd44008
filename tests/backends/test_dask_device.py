"""Dask arrays whose chunks lie on a device: the chunk's backend does the work, and fitted attributes are host arrays."""

from __future__ import annotations

import numpy as np
import pytest

from ooclearn.decomposition import PCA
from ooclearn.linear_model import LogisticRegression, Ridge
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import MinMaxScaler, StandardScaler
from ooclearn.testing.device import register_fake
from ooclearn.testing.syncs import values_of

dask = pytest.importorskip("dask", reason="the extra `dask` is not installed")


@pytest.fixture
def data():
    """A NumPy table, and the same rows as a Dask array whose chunks are made on a device when they are asked for."""
    import dask.array as da

    backend = register_fake()
    rng = np.random.default_rng(0)
    X = rng.normal(5, 2, (1000, 4))
    y = X @ np.arange(4.0)
    parts = np.split(X, [100, 400, 900])
    chunks = [da.from_delayed(dask.delayed(backend.from_host)(part), part.shape, dtype=float) for part in parts]
    return X, y, da.concatenate(chunks), da.from_array(y, chunks=(tuple(map(len, parts)),))


@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler()])
def test_scalers(data, scaler):
    X, _, on_device, _ = data
    scaler.fit(on_device)
    assert type(scaler.scale_) is np.ndarray
    chunks = dask.compute(*scaler.transform(on_device).to_delayed().ravel())
    assert {type(chunk).__module__.partition(".")[0] for chunk in chunks} == {"array_api_strict"}, "they stay there"
    np.testing.assert_allclose(np.concatenate([values_of(chunk) for chunk in chunks]), scaler.transform(X), rtol=1e-12)


def test_a_pipeline(data):
    X, y, on_device, target = data
    pipe = make_pipeline(StandardScaler(), PCA(2), Ridge())
    expected = pipe.fit(X, y)[-1].coef_
    np.testing.assert_allclose(pipe.fit(on_device, target)[-1].coef_, expected, rtol=1e-10)


def test_a_model_of_several_passes(data):
    X, y, on_device, target = data
    expected = LogisticRegression().fit(X, y > 20).coef_
    np.testing.assert_allclose(LogisticRegression().fit(on_device, target > 20).coef_, expected, rtol=1e-6)
