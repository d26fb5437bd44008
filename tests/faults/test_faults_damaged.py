"""Faults of the catalogue that lie in damaged files: 38 and 39."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import SGDClassifier

import ooclearn
from ooclearn import Incremental
from ooclearn.exceptions import DataError, DataWarning
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import StandardScaler


@pytest.fixture
def path(tmp_path, X):
    file = tmp_path / "X.npy"
    np.save(file, X)
    return file


def test_38_truncated_in_the_header(path):
    whole = path.read_bytes()
    for length in (0, 1, 5, 6, 7, 8, 9, 10, 11, 64, 127):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"not a \.npy file") as caught:
            ooclearn.scan(path)
        assert str(path) in str(caught.value)
        assert "not fully written?" in str(caught.value)


def test_38_truncated_in_the_data(path, scaler, refused):
    whole = path.read_bytes()
    for length in (128, 129, 20_000, len(whole) - 1):
        path.write_bytes(whole[:length])
        with refused(scaler, str(path), f"promises {len(whole):,} bytes", f"has {length:,}", "not fully written?"):
            scaler.fit(path)


def test_38_truncated_and_mapped(path):
    os.truncate(path, 20_000)
    with pytest.raises(ValueError, match="mmap length is greater than file size"):
        np.load(path, mmap_mode="r")  # NumPy's own, at the place where it is loaded


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 127), byte=st.integers(0, 255))
def test_38_any_damage_to_a_header_is_an_error_that_names_the_file_or_another_array(tmp_path_factory, at, byte):
    file = tmp_path_factory.getbasetemp() / "damaged.npy"
    np.save(file, np.arange(50.0).reshape(10, 5))
    whole = bytearray(file.read_bytes())
    whole[at] = byte
    file.write_bytes(bytes(whole))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            blocks = ooclearn.scan(file)
        except DataError as error:
            assert str(file) in str(error)
        else:
            # Another shape or dtype, all of which is in the file.
            assert blocks.to_numpy().nbytes <= 400


def test_38_objects_are_not_unpickled(tmp_path, refused):
    file = tmp_path / "objects.npy"
    np.save(file, np.array([["secret", 1]], dtype=object), allow_pickle=True)
    with refused(StandardScaler(), str(file), "only pickle can read", never=("secret",)):
        StandardScaler().fit(file)


@pytest.mark.parametrize("junk", [1, 8, 100_000])
def test_39_bytes_after_the_array(path, junk, X):
    with path.open("ab") as file:
        file.write(b"\1" * junk)
    with pytest.warns(DataWarning, match=f"{junk:,} bytes after the array") as caught:
        blocks = ooclearn.scan(path)
    assert len(caught) == 1
    assert str(path) in str(caught[0].message)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(blocks.to_numpy(), X)
        StandardScaler().fit(blocks)


@pytest.mark.parametrize(
    "fit",
    [
        lambda data, y: StandardScaler().fit(data),
        lambda data, y: make_pipeline(StandardScaler(), Incremental(SGDClassifier())).fit(data, y),
    ],
    ids=["scaler", "pipeline"],
)
@pytest.mark.parametrize("mapped", [False, True])
def test_39_bytes_after_the_array_that_is_passed_straight_on(path, fit, mapped, y):
    with path.open("ab") as file:
        file.write(b"\1" * 1000)
    data = np.load(path, mmap_mode="r") if mapped else path
    with pytest.warns(DataWarning, match="1,000 bytes after the array") as caught:
        fit(data, y)
    assert len(caught) == 1
    assert caught[0].filename == __file__
