"""Estimators that turn their data into another container first, and their results back."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ooclearn.backend import owner_of
from ooclearn.testing.tables import uneven_cut
from ooclearn.types import Array

__all__ = ["CONTAINERS", "FRAMES", "LAZY", "Turn", "turned"]

Turn = Callable[[Array], Any]

_METHODS = (
    "fit",
    "partial_fit",
    "fit_transform",
    "fit_predict",
    "transform",
    "inverse_transform",
    "predict",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "score",
    "score_samples",
)
_DATA = ("X", "y", "sample_weight")


def _dask(values: Array) -> Any:
    import dask.array as da

    # The cuts of X and of y follow from their shapes, so they differ where the shapes do: both are tried.
    return da.from_array(np.array(values), chunks=(uneven_cut(len(values), values.ndim), *values.shape[1:]))


def _strict(device: str) -> Turn:
    def turn(values: Array) -> Any:
        import array_api_strict as xp

        # What the standard has no dtype for stays on the host: half precision, text.
        known = values.dtype.kind in "iubc" or values.dtype in (np.float32, np.float64)
        return xp.asarray(np.array(values), device=xp.Device(device)) if known else values

    return turn


def _blocks(values: Array) -> Any:
    from ooclearn.testing.sources import CountingBlocks

    return CountingBlocks(values, uneven_cut(len(values), values.ndim))


CONTAINERS: dict[str, Turn] = {
    "blocks": _blocks,
    "dask": _dask,
    "array_api_strict": _strict("CPU_DEVICE"),
    "array_api_strict:device1": _strict("device1"),
}
"""What :func:`~ooclearn.testing.check_estimator` turns data into, by name."""

LAZY = frozenset({"blocks", "dask"})
"""Those of them whose results are lazy."""

FRAMES = dict.fromkeys(
    (
        "check_set_output_transform_pandas",
        "check_set_output_transform_polars",
        "check_global_output_transform_pandas",
        "check_global_set_output_transform_polars",
    ),
    "a data frame of a lazy result would be read into memory whole: refused, with what to do instead",
)
"""The checks that a transformer fails on these, and why."""


def turned(estimator: Any, turn: Turn, /) -> Any:
    """Return an estimator that does everything as `estimator` does, on data that `turn` has turned.

    Its class is a subclass made for this: parameters, tags, signatures and attributes are the estimator's
    own. Host arrays of numbers among X, y and sample_weight are turned, other things (lists, data frames,
    sparse rows) are passed on as they are. Results are read back into NumPy arrays.

    Parameters
    ----------
    estimator : estimator
        An instance; is not changed.
    turn : callable
        Takes a host array, returns a container.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.preprocessing import StandardScaler
    >>> from ooclearn.testing.turned import CONTAINERS, turned
    >>> turned(StandardScaler(), CONTAINERS["blocks"]).fit_transform(np.array([[1.0], [3.0]]))
    array([[-1.],
           [ 1.]])
    """
    cls: Any = type(estimator)
    return _subclass(cls, turn)(**estimator.get_params(deep=False))


@functools.cache
def _subclass(cls: Any, turn: Turn) -> Any:
    made = type(cls)(cls.__name__, (cls,), {"__module__": __name__, "__doc__": cls.__doc__, "__reduce__": _reduce})
    made._turn = staticmethod(turn)
    # Set afterwards: scikit-learn wraps the methods that it finds in the body of a class.
    for name in _METHODS:
        if hasattr(cls, name) or name in dir(cls):
            setattr(made, name, _Method(name, made))
    return made


# What turns the data of the classes made so far, by a name that a pickle can hold: it may be a function of a
# test.
_turns: dict[str, Turn] = {}


def _reduce(self: Any) -> tuple[Any, ...]:
    turn = type(self)._turn
    name = f"{turn.__qualname__} {id(turn)}"
    _turns[name] = turn
    return _loaded, (type(self).__mro__[1], name), self.__getstate__()


def _loaded(cls: Any, name: str) -> Any:
    made = _subclass(cls, _turns[name])
    return made.__new__(made)


class _Method:
    """A method of an estimator, with what goes in turned and what comes out turned back."""

    def __init__(self, name: str, cls: Any) -> None:
        self.name = name
        self.cls = cls

    def __get__(self, estimator: Any, cls: type) -> Any:
        method = getattr(super(self.cls, cls if estimator is None else estimator), self.name)
        if estimator is None:
            return method
        turn = self.cls._turn

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            names = [
                p.name
                for p in inspect.signature(method).parameters.values()
                if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
            ]
            seen = [_turned(value, turn) if name in _DATA else value for name, value in zip(names, args, strict=False)]
            turned_kwargs = {name: _turned(value, turn) if name in _DATA else value for name, value in kwargs.items()}
            X = next(iter(seen), turned_kwargs.get("X"))
            out = method(*seen, *args[len(seen) :], **turned_kwargs)
            # A call from within, such as that of `transform` by `fit_transform`, goes on with what was
            # turned.
            given = next(iter(args), kwargs.get("X"))
            return out if out is estimator or X is given else _turned_back(out, X)

        return call


def _turned(value: Any, turn: Turn) -> Any:
    if not isinstance(value, np.ndarray) or value.ndim == 0 or value.dtype.kind not in "fiubc":
        return value
    return turn(value)


def _turned_back(out: Any, X: Any) -> Any:
    if isinstance(out, list):
        return [_turned_back(part, X) for part in out]
    owner = owner_of(out)
    if owner is None:
        return out
    asked = owner_of(X)
    # Text, which not every library has, stays on the host.
    text = isinstance(out, np.ndarray) and out.dtype.kind not in "fiubc"
    assert asked is None or owner is asked or text, (
        f"data of the backend {asked.name} are answered by a {type(out).__name__} of {owner.name}; "
        "results are of the container that was given"
    )
    return owner.blocks(out).to_numpy()
