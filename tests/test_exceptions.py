"""Errors say where; rows are counted over the whole once, and no cell's value is told."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest

import ooclearn
from ooclearn import exceptions
from ooclearn.exceptions import BlockMemoryError, DataError, NonFiniteError, SourceChangedError
from ooclearn.preprocessing import Binarizer, MinMaxScaler, Normalizer, StandardScaler


def test_the_message_has_the_place():
    error = DataError("Bad.", source="X.npy", block=3, rows=(10, 11), column="age")
    assert str(error) == "Bad. (in X.npy, block 3, row 10, column 'age')"
    assert str(DataError("Bad.", rows=(10, 20), column=2)) == "Bad. (rows 10 to 19, column 2)"
    assert str(DataError("Bad.")) == "Bad."


def test_located_adds_what_is_not_known_yet():
    error = NonFiniteError("Bad.", rows=(1, 2), column=1)
    placed = error.located(source="X.npy", block=2, first_row=100, names=["a", "b"])
    assert type(placed) is NonFiniteError
    assert (placed.source, placed.block, placed.rows, placed.column) == ("X.npy", 2, (101, 102), "b")
    again = placed.located(source="other", block=7, first_row=1000, names=["c", "d"])
    assert str(again) == str(placed), "the innermost caller is the nearest"
    assert (error.rows, error.source) == ((1, 2), None)


@pytest.mark.parametrize("cls", [DataError, NonFiniteError, SourceChangedError, exceptions.ReadError])
def test_errors_survive_pickling(cls):
    """A worker in another process sends them so."""
    error = pickle.loads(pickle.dumps(cls("Bad.", source="X.npy", block=3, rows=(1, 2), column=0)))
    assert type(error) is cls
    assert (error.source, error.block, error.rows, error.column) == ("X.npy", 3, (1, 2), 0)


def test_errors_are_those_that_users_catch():
    assert issubclass(DataError, ValueError)
    assert issubclass(BlockMemoryError, MemoryError)
    assert issubclass(exceptions.ReadError, OSError)
    assert issubclass(exceptions.BackendError, ImportError)
    assert issubclass(exceptions.DataWarning, UserWarning)


SECRET = 4711.125


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("estimator", [StandardScaler(), MinMaxScaler(), Normalizer(), Binarizer()])
def test_no_cell_is_told(backend, estimator, bad):
    X = np.full((30, 2), SECRET, dtype=np.float32)
    X[17, 1] = bad
    container = backend.make(X)
    try:
        backend.back(estimator.fit(container).transform(container))
    except ValueError as error:
        assert "4711" not in str(error)
        assert isinstance(error, NonFiniteError) or type(error) is ValueError
        if isinstance(error, NonFiniteError):
            assert error.rows == (17, 18)
            assert error.column == 1
    else:
        assert np.isnan(bad)
        assert not isinstance(estimator, (Normalizer, Binarizer))


@pytest.mark.parametrize("X", [[[SECRET, "4711.125 secret"]], [SECRET, SECRET], [[[SECRET]]]])
def test_not_even_of_what_has_the_wrong_form(X):
    with pytest.raises(ValueError) as error:
        StandardScaler().fit(X)
    assert "4711" not in str(error.value)


def test_warnings_point_at_the_line_of_the_user(tmp_path):
    np.save(tmp_path / "f.npy", np.asfortranarray(np.ones((4, 3))))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        ooclearn.scan(tmp_path / "f.npy")
    assert [one.filename for one in said] == [__file__]
