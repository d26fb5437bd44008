"""Feeding mini-batch descent: batches that run over the borders of blocks, targets, and what has gone wrong by the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ooclearn._namespace import device_of, float_dtype, int_dtype, is_numpy, like, namespace, run_of
from ooclearn.backend import backend_of
from ooclearn.blocks import concatenated
from ooclearn.exceptions import DataError
from ooclearn.labels import Labels
from ooclearn.linear_model._minibatch import Batch, Descent, Held, begun, descended, of_model, side_by_side
from ooclearn.partial import host
from ooclearn.statistics.checks import refuse_nonfinite, refuse_weights
from ooclearn.summing import brought_back
from ooclearn.table import Rows
from ooclearn.types import Array

__all__ = ["ClassTargets", "HostCheck", "NumberTargets", "Trainer"]


# Models are trained as one as long as the predictions for a batch take no more bytes; temporary arrays take several times
# that.
_AT_ONCE = 2**25


@dataclass(frozen=True)
class HostCheck:
    """Looks at the targets and weights of a block, in a worker, as far as they lie on the host.

    Those on a device are looked at as they are learned from, without waiting for it.
    """

    labels: Labels

    def __call__(self, rows: Rows, /) -> None:
        """Raise if they will not do."""
        beside_host = rows.X is None or is_numpy(rows.X)
        y = rows.y if rows.labels is None else rows.labels
        w, y = (host(part) if beside_host else part for part in (rows.w, y))
        if isinstance(w, np.ndarray):
            refuse_weights(w)
        if isinstance(y, np.ndarray):
            if y.dtype.kind == "f" and y.size and not np.isfinite(y.sum()):
                refuse_nonfinite(y, role="y")
            self.labels.check(y)


class NumberTargets:
    """Targets that are numbers."""

    outputs = 1

    def of(self, y: Array, x: Array, /) -> tuple[Array, Array | None, Any]:
        """Return targets, factors of the weights, and what is not 0 if some will not do."""
        xp = namespace(x)
        if is_numpy(y) and not is_numpy(x):
            y = like(y, x, x.dtype)
        y = xp.expand_dims(xp.astype(y, x.dtype, copy=False), axis=0)
        return y, None, 0.0 * xp.sum(y)


class ClassTargets:
    """Labels as signs: 1 for the class of an output and -1 for all others.

    Parameters
    ----------
    classes : ndarray
        The labels, sorted; two of them have one output, for the second.
    weight : ndarray or None
        The weight of each.
    """

    def __init__(self, classes: Array, weight: Array | None = None) -> None:
        self.classes = classes
        self.weight = weight
        self.outputs = 1 if len(classes) == 2 else len(classes)
        self._there: dict[str, Array] = {}

    def of(self, y: Array, x: Array, /) -> tuple[Array, Array | None, Any]:
        """Return targets, factors of the weights, and what is not 0 if some will not do."""
        xp = namespace(x)
        numbers = self.classes
        if is_numpy(y) and (y.dtype.kind not in "fiub" or not is_numpy(x)):
            y, numbers = np.searchsorted(self.classes, y), np.arange(len(self.classes))
            y = y if is_numpy(x) else like(y, x, int_dtype(x))
        member = xp.expand_dims(y, axis=0) == self._sent("classes", numbers, y)
        strange: Any = 0.0
        if not is_numpy(y):
            # On the host they were looked at before.
            strange = y.shape[0] - xp.sum(xp.astype(member, x.dtype))
        if len(self.classes) == 2:
            member = member[1:, :]
        inside = xp.astype(member, x.dtype)
        if self.weight is None:
            return 2.0 * inside - 1.0, None, strange
        of, others = self._factors()
        factor = inside * self._sent("of", of, x) + (1.0 - inside) * self._sent("others", others, x)
        return 2.0 * inside - 1.0, factor, strange

    def _factors(self) -> tuple[Array, Array]:
        """Return the weights of the rows of the class of each output, and of the rows of all others."""
        assert self.weight is not None
        if len(self.classes) == 2:
            return self.weight[1:], self.weight[:1]
        return self.weight, np.ones(len(self.classes))

    def _sent(self, name: str, values: Array, like_it: Array) -> Array:
        """Return numbers as a column where `like_it` lies; they are sent there once."""
        if is_numpy(like_it):
            return values[:, None]
        key = f"{name} {like_it.dtype} {device_of(like_it)}"
        if key not in self._there:
            self._there[key] = like(values[:, None], like_it, like_it.dtype)
        return self._there[key]


class Trainer:
    """Trains linear models on blocks, in batches that run over their borders.

    One whose model is trained as one with others, by another trainer, is a :class:`Part` of that.

    No value is looked at between blocks: what spoils the models leaves its mark in them, or is counted beside.

    Parameters
    ----------
    descent : Descent
        How to train.
    targets : ClassTargets or NumberTargets
        What is learned.
    held : dict or None
        The models to go on from; host arrays will do.
    t : int
        The number of the next row, counted from 1.
    """

    def __init__(self, descent: Descent, targets: ClassTargets | NumberTargets, held: Held | None, t: int) -> None:
        self.descent = descent
        self.targets = targets
        self.batch_rows = descent.batch_rows
        self.held = None if held is None else held | {"trouble": np.zeros(np.shape(held["constant"]))}
        self.t = t
        self.part: Part | None = None
        self._left: list[Rows] = []
        self._brought: Held | None = None

    def consume(self, rows: Rows, /) -> None:
        """Train on the rows of a block and those left over before; keep what makes no whole batch."""
        start = 0
        if self._left:
            start = min(rows.n, self.batch_rows - sum(part.n for part in self._left))
            self._left.append(_cut(rows, 0, start))
            if sum(part.n for part in self._left) < self.batch_rows:
                self._left[-1] = _copied(self._left[-1])
                return
            self._train_on_left()
        whole = start + (rows.n - start) // self.batch_rows * self.batch_rows
        for first in range(start, whole, self.batch_rows):
            self._train(_cut(rows, first, first + self.batch_rows))
        if whole < rows.n:
            # The memory of the block is another's as soon as this returns.
            self._left.append(_copied(_cut(rows, whole, rows.n)))

    def end_epoch(self) -> None:
        """Train on what is left over."""
        if self._left:
            self._train_on_left()
        if self.held is None:
            raise DataError("there was no row to train on")

    def mark(self) -> Any:
        """Return what training goes on from."""
        if self.part is not None:
            held, t, left = self.part.whole.mark()
            return (self.part.of(held) if held else held), t, left
        return dict(self.held or {}), self.t, list(self._left)

    def brought(self) -> Held:
        """Return the models as host arrays, by one copy; by one for all, if they were trained as one."""
        if self.part is not None:
            # Copies: none keeps the arrays of the others in memory.
            return {name: value.copy() for name, value in self.part.of(self.part.whole.brought()).items()}
        assert self.held is not None
        if self._brought is None:
            coef = self.held["coef"]
            held = [self.held] if is_numpy(coef) else brought_back([self.held], backend_of(coef).to_host)
            self._brought = held[0]
        return self._brought

    @classmethod
    @contextmanager
    def as_one(cls, trainers: Sequence[Trainer], /) -> Iterator[Callable[[Rows], None]]:
        """Give what trains the models of all trainers; at the end, each of these goes on from its own."""
        # Equal losses are put side by side: the slopes of their models are computed at once.
        losses = [trainer.descent.losses[0] for trainer in trainers]
        trainers = sorted(trainers, key=lambda trainer: losses.index(trainer.descent.losses[0]))
        first = trainers[0]
        most = max(1, _AT_ONCE // (8 * first.batch_rows * first.targets.outputs))
        wholes = [cls._whole(trainers[start : start + most]) for start in range(0, len(trainers), most)]

        def consume(rows: Rows) -> None:
            for whole in wholes:
                whole.consume(rows)

        yield consume
        for whole in wholes:
            if whole._left:
                whole._train_on_left()
        for trainer in trainers:
            assert trainer.part is not None
            whole = trainer.part.whole
            trainer.held = None if whole.held is None else trainer.part.of(whole.held)
            trainer.t = whole.t

    @classmethod
    def _whole(cls, trainers: Sequence[Trainer]) -> Trainer:
        """Return what trains the models of all trainers, which become its parts."""
        first = trainers[0]
        descents, helds = [one.descent for one in trainers], [one.held for one in trainers]
        descent, held = side_by_side(descents, helds)
        whole = cls(descent, first.targets, None, first.t)
        whole.held = held
        for model, trainer in enumerate(trainers):
            trainer.part = Part(whole, model)
        return whole

    def _train_on_left(self) -> None:
        parts = zip(*((rows.X, rows.y, rows.w) for rows in self._left), strict=True)
        self._left, rows = [], Rows(*[None if part[0] is None else concatenated(part) for part in parts])
        self._train(rows)

    def _train(self, rows: Rows) -> None:
        self.part = self._brought = None
        with np.errstate(all="ignore"):
            batch, trouble, weight = self._batch(rows)
            if self.held is None:
                self.held = begun(self.descent, batch)
            elif is_numpy(self.held["coef"]) and not is_numpy(batch.x):
                self.held = {name: like(value, batch.x) for name, value in self.held.items()}
            elif not is_numpy(self.held["coef"]) and is_numpy(batch.x):
                self.held = self.brought()
            before = self.held
            after = descended(before, self.descent, batch, self.t)
            after["trouble"] = after["trouble"] + trouble
            if weight is not None:
                after["weight"] = before["weight"] + weight if "weight" in before else weight
            self.held, self._brought = after, None
        self.t += rows.n

    def _batch(self, rows: Rows) -> tuple[Batch, Any, Array | None]:
        """Return rows as they are learned from, what is not 0 if some will not do, and the sum of their weights."""
        x = rows.X
        xp = namespace(x)
        if x.dtype not in (xp.float32, xp.float64):
            x = xp.astype(x, float_dtype(x))
        y, w = (host(part) if is_numpy(x) else part for part in (rows.y, rows.w))
        target, factor, trouble = self.targets.of(y, x)
        if w is None:
            return Batch(x, target, factor), trouble, None
        w = xp.astype(w, x.dtype, copy=False)
        total = xp.sum(xp.astype(w, float_dtype(x), copy=False))
        trouble = trouble + 0.0 * total + xp.sum(xp.astype(w < 0.0, x.dtype))
        w = xp.expand_dims(w, axis=0)
        return Batch(x, target, w if factor is None else w * factor), trouble, xp.reshape(total, (1,))


@dataclass(frozen=True, eq=False)
class Part:
    """A model, known by its number, of those that a trainer trains as one."""

    whole: Trainer
    model: int

    def of(self, held: Held, /) -> Held:
        """Return what is held for the model."""
        return of_model(held, self.whole.descent, self.model)


def _cut(rows: Rows, start: int, stop: int) -> Rows:
    parts = (part if part is None else run_of(part, start, stop) for part in (rows.X, rows.y, rows.w))
    return Rows(*parts)


def _copied(rows: Rows) -> Rows:
    def copied(part: Array | None) -> Array | None:
        if part is None or is_numpy(part):
            return part if part is None else part.copy()
        return namespace(part).asarray(part, copy=True)

    return Rows(copied(rows.X), copied(rows.y), copied(rows.w))
