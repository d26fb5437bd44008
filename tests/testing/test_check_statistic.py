"""check_statistic catches what is wrong: each law is broken once, and found."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest

from ooclearn.exceptions import DataError, NonFiniteError
from ooclearn.statistics import Moments, MomentsState
from ooclearn.testing import check_statistic
from ooclearn.testing.comparing import assert_close, sway
from ooclearn.testing.tables import Column, hostile_tables, made_rows


@dataclass(frozen=True, eq=False)
class Sums:
    n: int
    total: np.ndarray


class Total:
    """The sum of each column of finite numbers, right."""

    parts = frozenset("X")

    def of(self, rows):
        x = np.asarray(rows.X, dtype=np.float64)
        bad = np.argwhere(~np.isfinite(x))
        if len(bad):
            raise NonFiniteError("not finite", rows=(int(bad[0][0]), int(bad[0][0]) + 1), column=int(bad[0][1]))
        return Sums(len(x), x.sum(axis=0))

    def merge(self, a, b):
        return Sums(a.n + b.n, a.total + b.total)


class ForgetsEmpty(Total):
    def merge(self, a, b):
        return Sums(a.n + b.n, a.total + b.total) if a.n and b.n else Sums(a.n + b.n, a.total * 0)


class Mean(Total):
    """Averages states without their counts."""

    def of(self, rows):
        state = super().of(rows)
        return Sums(state.n, state.total / max(state.n, 1))

    def merge(self, a, b):
        if not a.n or not b.n:
            return b if not a.n else a
        return Sums(a.n + b.n, (a.total + b.total) / 2)


class MergesInPlace(Total):
    def merge(self, a, b):
        total = a.total
        total += b.total
        return Sums(a.n + b.n, total)


class Counts(Total):
    calls = 0

    def merge(self, a, b):
        type(self).calls += 1
        return replace(super().merge(a, b), n=a.n + b.n + (self.calls if a.n and b.n else 0))


class Writes(Total):
    def of(self, rows):
        state = super().of(rows)
        if rows.X.flags.writeable:
            rows.X[:] = 0
        else:
            rows.X.flags.writeable = True
            rows.X[:] = 0
        return state


class NeedsToWrite(Total):
    def of(self, rows):
        state = super().of(rows)
        rows.X[:] = 0
        return state


class Deviations(Total):
    """Adds up squared deviations from different means."""

    def of(self, rows):
        mean = super().of(rows).total / max(rows.n, 1)
        return Sums(rows.n, ((rows.X - mean) ** 2).sum(axis=0))


class Unpicklable(Total):
    def of(self, rows):
        return super().of(rows), lambda: None

    def merge(self, a, b):
        return super().merge(a[0], b[0]), a[1]


class ObjectState(Total):
    def of(self, rows):
        state = super().of(rows)
        return replace(state, total=state.total.astype(object))


class TwoLines(Total):
    def of(self, rows):
        state = super().of(rows)
        return Loud(state.n, state.total)

    def merge(self, a, b):
        return Loud(a.n + b.n, a.total + b.total)


@dataclass(frozen=True, eq=False, repr=False)
class Loud(Sums):
    def __repr__(self):
        return "Loud\nstate"


class WrongPlace(Total):
    def of(self, rows):
        try:
            return super().of(rows)
        except NonFiniteError as error:
            raise NonFiniteError(error.message, rows=(0, 1), column=error.column) from None


class NoPlace(Total):
    def of(self, rows):
        try:
            return super().of(rows)
        except NonFiniteError as error:
            raise NonFiniteError(error.message) from None


class RefusesLarge(Total):
    """Refuses the whole table and takes it in parts."""

    def of(self, rows):
        if rows.n > 10:
            raise DataError("too many rows")
        return super().of(rows)


class DependsOnTheThread(Total):
    def of(self, rows):
        import threading

        state = super().of(rows)
        main = threading.current_thread() is threading.main_thread()
        return state if main else replace(state, total=state.total * (1 + 1e-12))


class RefusesAll(Total):
    def of(self, rows):
        raise DataError("no")


class AddedUp(Total):
    """The same, added up about the first row; right."""

    def origin(self, rows):
        first = np.asarray(rows.X[:1], dtype=np.float64)
        return {"first": np.where(np.isfinite(first), first, 0.0)}

    def sums(self, rows, origin):
        return {"off": (rows.X - origin["first"]).sum(axis=0)}

    def add(self, a, b):
        return {"off": a["off"] + b["off"]}

    def state(self, origin, sums, n):
        return Sums(n, n * origin["first"][0] + sums["off"]) if np.isfinite(sums["off"]).all() else None


class AddsTheLast(AddedUp):
    def add(self, a, b):
        return b


class ForgetsTheOrigin(AddedUp):
    def state(self, origin, sums, n):
        return super().state({"first": np.zeros((1, len(sums["off"])))}, sums, n)


class WritesWhatIsAdded(AddedUp):
    def add(self, a, b):
        b["off"] += a["off"]
        return b


class WritesRowsItAdds(AddedUp):
    def sums(self, rows, origin):
        rows.X[:] = 0
        return super().sums(rows, origin)


class NeverTells(AddedUp):
    def state(self, origin, sums, n):
        return None


class TellsWhatIsRefused(AddedUp):
    def state(self, origin, sums, n):
        return Sums(n, n * origin["first"][0] + sums["off"])


class RawSquares(AddedUp):
    """Moments, about 0 in place of the origin."""

    parts = frozenset("Xw")

    def of(self, rows):
        return Moments().of(rows)

    def merge(self, a, b):
        return Moments().merge(a, b)

    def origin(self, rows):
        return {**Moments().origin(rows), "shift": np.zeros(rows.X.shape[1])}

    def sums(self, rows, origin):
        return Moments().sums(rows, origin)

    def add(self, a, b):
        return Moments().add(a, b)

    def state(self, origin, sums, n):
        if not np.isfinite(sums["squares"]).all() or sums["bad"]:
            return None
        count = sums["count"]
        mean = sums["off"] / np.maximum(count, 1)
        m2 = sums["squares"] - sums["off"] * mean
        return MomentsState(n, float(n), count, mean, mean * 0, m2, origin["rounding"])


FINITE = [made_rows(n, [Column("normal"), Column("constant", 1e4)], seed=n) for n in (1, 2, 9, 30)]

BROKEN = {
    ForgetsEmpty: "no rows merged with a state",
    Mean: "associat|merge\\(merge|cut into blocks",
    MergesInPlace: "read-only|writeable",
    Counts: "merge called twice|merge\\(merge",
    Writes: "called twice",
    NeedsToWrite: "read-only",
    Deviations: "cut into blocks",
    Unpicklable: "function; expected arrays",
    ObjectState: "object array",
    TwoLines: "in one line",
    WrongPlace: "refused at rows",
    NoPlace: "refused at rows None",
    RefusesLarge: "cut into blocks it is not|refuse",
    DependsOnTheThread: "workers and one",
    RefusesAll: "refused every table",
    AddsTheLast: "added up",
    ForgetsTheOrigin: "added up over blocks",
    WritesWhatIsAdded: "what is added to sums",
    WritesRowsItAdds: "read-only",
    NeverTells: "None, where all cells are finite",
    TellsWhatIsRefused: "added up: Sums.* refuses the table",
    RawSquares: "added up over blocks .*m2 differs",
}


def test_the_right_one_passes():
    for right in (Total(), AddedUp()):
        check_statistic(right, rows=FINITE)
        check_statistic(right)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda one: one.__name__)
def test_each_broken_law_is_found(broken):
    with pytest.raises((AssertionError, ValueError), match=BROKEN[broken]):
        check_statistic(broken(), rows=FINITE)


def test_raw_sums_lose_their_digits():
    """The bound is strict enough to refuse the variance of raw sums, at an offset of 1e4 already."""
    rows = made_rows(40, [Column("normal", 1e4)])
    x = rows.X[:, 0]
    moments = Moments()
    right = moments.of(rows)
    slack = sway(moments.of, rows)
    assert_close(replace(right, m2=right.m2 * (1 + 4e-13)), right, "a little off", slack)
    naive = np.array([(x**2).sum() - x.sum() ** 2 / len(x)])
    assert abs(naive - right.m2) / right.m2 < 1e-6
    with pytest.raises(AssertionError, match="m2 differs"):
        assert_close(replace(right, m2=naive), right, "raw sums", slack)


def test_exact_answers_may_be_asked_for():
    with pytest.raises(AssertionError, match="is the bound"):
        check_statistic(Moments(), rows=hostile_tables(), roundings=0)


def test_without_hypothesis_it_says_what_to_do(tmp_path):
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import ooclearn.testing\n"
        "from ooclearn.statistics import Extrema\n"
        "from ooclearn.testing.tables import hostile_tables\n"
        "ooclearn.testing.check_statistic(Extrema(), rows=list(hostile_tables())[:9], roundings=0)\n"
        "ooclearn.testing.check_statistic(Extrema())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "pip install hypothesis" in done.stderr.splitlines()[-1]


def test_ooclearn_imports_no_testing(tmp_path):
    code = (
        "import sys, ooclearn, ooclearn.preprocessing, ooclearn.backend; ooclearn.backend.backends()\n"
        "unwanted = ('ooclearn.testing', 'hypothesis', 'pytest')\n"
        "print([name for name in sys.modules if name.startswith(unwanted)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.strip() == "[]", done.stderr
