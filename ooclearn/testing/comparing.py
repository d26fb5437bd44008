"""States compared: their arrays found, and how far two may lie apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from ooclearn.table import Rows
from ooclearn.types import Array

__all__ = ["CELL_ROUNDINGS", "DEGREES", "assert_close", "assert_identical", "leaves", "sway"]

CELL_ROUNDINGS = 32
"""By how many roundings each cell may seem to have moved.

An algorithm is as exact as can be asked for if its answer is the right one for a table that differs from the
given one by a few roundings in each cell (it is *backward stable*). So two ways to one answer may differ by
as much as the answer itself moves when the cells do: little for a mean, ``mean / std`` times more for a
variance. Summing n numbers in any order moves them by fewer than ``log2(n)`` roundings on average; 32 leaves
room for the some hundred rows of a check. Raw sums (``E[x**2] - E[x]**2``) miss the bound a hundred times
over at an offset of 1e4.
"""

# Fields that are sums of products of so many deviations from the mean.
DEGREES = {"m2": 2, "scatter": 2, "xy": 2, "third": 3, "fourth": 4}

_PLAIN = (int, float, str, bool, np.number, np.bool_, type(None))


def leaves(state: Any, path: str = "state") -> Iterator[tuple[str, Any]]:
    """Yield the arrays and numbers of a state, each with its place in it.

    Raises
    ------
    AssertionError
        There is something in the state that cannot be saved as plain arrays.
    """
    if is_dataclass(state) and not isinstance(state, type):
        for field in fields(state):
            yield from leaves(getattr(state, field.name), f"{path}.{field.name}")
    elif isinstance(state, Mapping):
        for key in state:
            yield from leaves(state[key], f"{path}[{key!r}]")
    elif isinstance(state, (tuple, list)):
        yield f"{path} length", len(state)
        for k, part in enumerate(state):
            yield from leaves(part, f"{path}[{k}]")
    else:
        array = isinstance(state, np.ndarray)
        plain = not state.dtype.hasobject if array else isinstance(state, _PLAIN)
        kind = "an object array" if array else f"a {type(state).__qualname__}"
        assert plain, (
            f"{path} is {kind}; expected arrays of numbers or text on the host, numbers, text, or "
            "dataclasses, dicts and tuples of these, so that a state can be saved and sent anywhere"
        )
        yield path, state


def assert_identical(got: Any, expected: Any, law: str, /) -> None:
    """Raise AssertionError unless two states agree in every bit (NaN in one place being alike)."""
    mine, theirs = dict(leaves(got)), dict(leaves(expected))
    assert list(mine) == list(theirs), f"{law}: one state has the fields {list(mine)}, the other {list(theirs)}"
    for path, value in mine.items():
        other = theirs[path]
        a, b = np.asarray(value), np.asarray(other)
        assert a.dtype == b.dtype, f"{law}: {path} is {a.dtype} in one state and {b.dtype} in the other"
        same = a.shape == b.shape and (a == b if a.dtype.kind not in "fc" else (a == b) | (np.isnan(a) & np.isnan(b)))
        assert np.all(same), f"{law}: {path} differs: {value!r} and {other!r}"


def assert_close(got: Any, expected: Any, law: str, /, slack: Mapping[str, Array] | None = None) -> None:
    """Raise AssertionError unless two states are alike: text and counts equal, the rest within `slack`.

    Parameters
    ----------
    got, expected
        States.
    law : str
        What is being checked, for the message.
    slack : mapping, optional
        How far each field may be off, from :func:`sway`; a few roundings of the field itself where it says
        nothing.
    """
    mine, theirs = dict(leaves(got)), dict(leaves(expected))
    assert list(mine) == list(theirs), f"{law}: one state has the fields {list(mine)}, the other {list(theirs)}"
    for path, value in mine.items():
        a, b = np.asarray(value), np.asarray(theirs[path])
        assert a.shape == b.shape, f"{law}: {path} has shape {a.shape} in one state and {b.shape} in the other"
        if a.dtype.kind not in "fc" and b.dtype.kind not in "fc":
            assert np.array_equal(a, b), f"{law}: {path} differs: {value!r} and {theirs[path]!r}"
            continue
        finite = np.isfinite(a) & np.isfinite(b)
        room = 4 * np.finfo(np.float64).eps * np.abs(np.where(finite, b, 0.0))
        if slack is not None and path in slack:
            room = room + slack[path]
        with np.errstate(invalid="ignore"):
            off = np.where(finite, np.abs(a - b), 0.0)
            alike = (a == b) | (np.isnan(a) & np.isnan(b)) | ~np.isfinite(room)
        bad = np.where(finite, off > room, ~alike)
        worst, bound = (np.max(np.where(bad, by, 0.0), initial=0.0) for by in (off, room))
        assert not bad.any(), (
            f"{law}: {path} differs by {worst:.3g} where {bound:.3g} is the bound: {value!r} and {theirs[path]!r}"
        )


def sway(
    answer: Callable[[Rows], Any],
    rows: Rows,
    /,
    roundings: float = CELL_ROUNDINGS,
    *,
    allowance: Callable[[Any], Any] | None = None,
) -> dict[str, Array]:
    """Return by how much each field of an answer moves when every cell moves by so many roundings.

    Parameters
    ----------
    answer : callable
        Takes rows, returns a state.
    rows : Rows
        The rows. Cells of X and w, and of y if it is floating, are moved: all up, all down, away from and
        towards the middle of their column, and at random.
    roundings : float
        How far, in units of float64's ``eps``; 0 for answers that must be exact.
    allowance : callable, optional
        Takes an answer, returns one of the same form: how far each number may be off besides, for one rounding.
    """
    given = answer(rows)
    base = {path: np.asarray(value) for path, value in leaves(given)}
    moved = {path: np.zeros(value.shape) for path, value in base.items() if value.dtype.kind == "f"}
    if allowance is not None:
        for path, value in leaves(allowance(given)):
            if path in moved:
                moved[path] = moved[path] + roundings * np.finfo(np.float64).eps * np.asarray(value)
    if roundings and rows.n:
        for signs in (_up, _down, _outwards, _inwards, _random):
            step_of = roundings * np.finfo(np.float64).eps
            other = dict(leaves(answer(_moved(rows, signs, step_of))))
            if any(np.asarray(other.get(path)).shape != so_far.shape for path, so_far in moved.items()):
                # A y of labels: moved, one class has become several.
                other = dict(leaves(answer(Rows(_moved(rows, signs, step_of).X, rows.y, rows.w))))
            for path, so_far in moved.items():
                value = np.asarray(other.get(path))
                if value.shape == so_far.shape and value.dtype.kind == "f":
                    with np.errstate(invalid="ignore"):
                        step = np.abs(value - base[path])
                    moved[path] = so_far + np.where(np.isnan(step), 0.0, step)
        _add_products(moved, base, float(rows.n if rows.w is None else np.sum(rows.w)))
    return moved


def _add_products(moved: dict[str, Array], base: Mapping[str, Array], weight: float) -> None:
    """Let sums of products be off by the products of what their means are off by.

    Where all rows are alike these sums are 0 however the cells move, and no mean is exact.
    """
    for path, off in moved.items():
        owner, _, name = path.rpartition(".")
        mean = next((at for at in (f"{owner}.mean", f"{owner}.scatter.mean") if at in moved), None)
        if mean is None or name not in DEGREES:
            continue
        by = moved[mean] + 4 * np.finfo(np.float64).eps * np.abs(base[mean])
        with np.errstate(invalid="ignore"):
            if off.shape == by.shape:
                product = by ** DEGREES[name]
            elif off.shape == (*by.shape, by.shape[-1]):
                product = by[..., :, None] * by[..., None, :]
            else:
                product = np.broadcast_to(np.max(by, initial=0.0) ** DEGREES[name], off.shape)
            moved[path] = off + np.nan_to_num(weight * product, posinf=0.0)


def _moved(rows: Rows, signs: Callable[[Array], Array], step: float) -> Rows:
    def move(part: Array | None) -> Array | None:
        if part is None or part.dtype.kind not in "fiub":
            return part
        values = part.astype(np.float64)
        return values * (1.0 + step * signs(values))

    y = rows.y if rows.y is None or rows.y.dtype.kind != "f" else move(rows.y)
    return Rows(move(rows.X), y, move(rows.w))


def _up(values: Array) -> Array:
    return np.ones_like(values)


def _down(values: Array) -> Array:
    return -np.ones_like(values)


def _outwards(values: Array) -> Array:
    # Cells are moved in proportion to themselves, so their own sign counts too.
    middle = np.sort(values, axis=0)[(values.shape[0] - 1) // 2]
    with np.errstate(invalid="ignore"):
        signs = np.sign(values - middle) * np.sign(values)
    return np.where(np.isfinite(values) & np.isfinite(middle), signs, 1.0)


def _inwards(values: Array) -> Array:
    return -_outwards(values)


def _random(values: Array) -> Array:
    # Of unequal sizes: moves by the same would leave the mean of a few cells where it is.
    rng = np.random.default_rng(20260417)
    return rng.choice([-1.0, 1.0], values.shape) * rng.uniform(0.5, 1.5, values.shape)
