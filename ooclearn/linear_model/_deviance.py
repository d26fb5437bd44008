"""The share of the deviance of targets that predictions explain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ooclearn.linear_model._losses import Tweedie
from ooclearn.rowmaps import RowMap
from ooclearn.statistics.checks import refuse_nonfinite, refuse_weights
from ooclearn.statistics.coded import host

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["Deviance", "DevianceState"]


@dataclass(frozen=True)
class DevianceState:
    """State of :class:`Deviance`: weighted sums over rows, and the mean and squares of the targets."""

    loss: Tweedie
    n: float = 0.0
    mean: float = 0.0
    m2: float = 0.0
    missed: float = 0.0
    lacks: float = 0.0

    def score(self) -> float:
        """Return the share of the deviance that is explained."""
        if not self.n:
            return float("nan")
        null = self.n * self.loss.null(self.mean, self.m2 / self.n) + self.lacks
        # Half of the deviances, whose factor cancels.
        return 1.0 - self.missed / null if null > 0 else float("nan") if self.missed else 1.0


@dataclass(frozen=True)
class Deviance:
    """What the share of explained deviance needs."""

    predict: RowMap
    loss: Tweedie
    parts: frozenset[str] = frozenset("Xyw")

    def of(self, rows: Rows, /) -> DevianceState:
        """Return the state of one block."""
        if not rows.n:
            return DevianceState(self.loss)
        assert rows.y is not None
        y = host(rows.y).reshape(-1)
        refuse_nonfinite(y, role="y")
        self.loss.refuse(y)
        w = np.ones(rows.n)
        if rows.w is not None:
            refuse_weights(rows.w)
            w = host(rows.w)
        n = float(w.sum())
        if not n:
            return DevianceState(self.loss)
        predicted = host(self.predict(rows.X)).reshape(-1)
        lacks = self.loss.to_zero(y)
        with np.errstate(divide="ignore", over="ignore"):
            raw = np.log(predicted) if self.loss.log else predicted
            missed = self.loss.values(raw.reshape(1, 1, -1), y)[0] + lacks
        mean = float(w @ y) / n
        return DevianceState(self.loss, n, mean, float(w @ (y - mean) ** 2), float(w @ missed), float(w @ lacks))

    def merge(self, a: DevianceState, b: DevianceState, /) -> DevianceState:
        """Return the state of the rows of `a` and `b`."""
        n, delta = a.n + b.n, b.mean - a.mean
        if not n:
            return a
        m2 = a.m2 + b.m2 + delta * delta * (a.n * (b.n / n))
        return DevianceState(self.loss, n, a.mean + delta * (b.n / n), m2, a.missed + b.missed, a.lacks + b.lacks)
