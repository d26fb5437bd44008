"""What the classifier and the regressor trained by mini-batches share: parameters, passes, training on."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np

from ooclearn._compat import Interval, StrOptions
from ooclearn.base import busy, commit, unfitted_copy
from ooclearn.exceptions import DataError
from ooclearn.feeds import Feed, Joint, Order
from ooclearn.labels import Labels
from ooclearn.linear_model._minibatch import Descent, Held, Penalty, Schedule
from ooclearn.linear_model._sgd_losses import SgdLoss
from ooclearn.linear_model._sgd_training import ClassTargets, HostCheck, NumberTargets, Trainer
from ooclearn.partial import Check
from ooclearn.passes import Fit, Request, Stage, run
from ooclearn.predictors import Predictor
from ooclearn.statistics import Distinct, DistinctState
from ooclearn.table import Schema
from ooclearn.types import Array

__all__ = ["MiniBatchModel"]

# By default an epoch has at least so many batches, of rows within these bounds.
_BATCHES, _LEAST, _MOST = 128, 16, 4096


class MiniBatchModel(Predictor):
    """A linear model trained by mini-batches.

    A subclass gives ``_loss``, ``_begin`` and ``_take_parameters``, and ``_asks_classes`` if it needs any.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "penalty": [StrOptions({"l2", "l1", "elasticnet"}), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both"), None],
        "fit_intercept": ["boolean"],
        "epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_rows": [Interval(Integral, 1, None, closed="left"), None],
        "block_rows": [Interval(Integral, 1, None, closed="left"), None],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "learning_rate": [StrOptions({"constant", "optimal", "invscaling"})],
        "eta0": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "average": [Interval(Integral, 0, None, closed="left"), "boolean"],
    }

    #: Blocks of a device are learned from there.
    takes_device_arrays = True

    # What `fit` leaves for `partial_fit`, and what that is given; a fit works on a copy, on which these are set.
    _trained_: Held
    _whole: bool = True
    _given: Any = None

    coef_: Array
    intercept_: Array
    t_: float
    n_iter_: int

    loss: str
    penalty: str | None
    alpha: float
    l1_ratio: float | None
    fit_intercept: bool
    epochs: int
    batch_rows: int | None
    block_rows: int | None
    shuffle: bool
    random_state: Any
    learning_rate: str
    eta0: float
    power_t: float
    average: bool | int

    def _loss(self) -> SgdLoss:
        raise NotImplementedError(f"{type(self).__name__} must define _loss")  # a subclass's duty, not a path

    def _begin(self, found: DistinctState | None) -> tuple[ClassTargets | NumberTargets, Labels]:
        """Return what is learned, and the labels that can occur, from those that a pass has found."""
        raise NotImplementedError(f"{type(self).__name__} must define _begin")  # a subclass's duty, not a path

    def _take_parameters(self, coef: Array, constant: Array) -> None:
        """Set the coefficients, one row for each output."""
        raise NotImplementedError(
            f"{type(self).__name__} must define _take_parameters"
        )  # a subclass's duty, not a path

    def _asks_classes(self) -> bool:
        """Whether a pass over y is needed first."""
        return False

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.penalty == "elasticnet" and self.l1_ratio is None:
            raise ValueError("l1_ratio must be set when penalty is 'elasticnet'")
        if self.learning_rate == "optimal" and self.alpha == 0:
            raise ValueError(
                "alpha must be > 0 since learning_rate is 'optimal'. alpha is used to compute the optimal learning rate."
            )

    def _grow(self, X: Any, y: Any, sample_weight: Any, given: Any) -> Self:
        """Train on, by one epoch over these rows."""
        with busy(self):
            self._validate_params()
            new = "_trained_" not in vars(self)
            working = unfitted_copy(self) if new else copy.copy(self)
            working._whole, working._given = False, given
            table = working._table(X, y, sample_weight, reset=new)
            run([Stage(type(self).__name__, working._passes(table.schema))], table)
            commit(self, working)
        return self

    def _requests(self, schema: Schema) -> Sequence[Request]:
        feeds = [self._feed(None, Labels(None), epoch, schema) for epoch in range(self.epochs)]
        return [Distinct(), *feeds] if self._asks_classes() else feeds

    def _passes(self, schema: Schema) -> Fit:
        found = (yield Distinct()) if self._whole and self._asks_classes() else None
        targets, labels = self._begin(found)
        new = "_trained_" not in vars(self)
        trainer = Trainer(self._descent(schema), targets, None if new else self._trained_, 1 if new else int(self.t_))
        done = 0 if new else self.n_iter_
        for epoch in range(done, done + (self.epochs if self._whole else 1)):
            yield self._feed(trainer, labels, epoch, schema)
            trainer.end_epoch()
            held = trainer.brought()
            if "weight" in held and held["weight"][0] == 0:
                raise DataError("all sample weights are zero; expected at least one above 0")
            if not _sound(held):
                # It says where in the table the cell is that has spoilt it.
                yield self._careful(labels)
                raise DataError(
                    "Floating-point under-/overflow occurred in training: a coefficient or a product of two numbers in a "
                    "row became too large for its dtype. Scale the columns first (StandardScaler), or lower eta0"
                )
            self._trained_ = {name: held[name] for name in held if name not in {"trouble", "weight"}}
            self.n_iter_, self.t_ = epoch + 1, float(trainer.t)
        averaged = bool(self.average) and "mean_coef" in self._trained_
        coef, constant = (self._trained_[f"mean_{name}" if averaged else name] for name in ("coef", "constant"))
        dtype = np.float32 if schema.dtype == np.float32 else np.float64
        self._take_parameters(coef.astype(dtype), constant[:, 0].astype(dtype))

    def _descent(self, schema: Schema) -> Descent:
        penalty = Penalty.named(self.penalty, self.alpha, self.l1_ratio)
        schedule = Schedule(self.learning_rate, self.eta0, self.power_t, self.alpha)
        rows = self._rows_of_batch(schema)
        return Descent((self._loss(),), (penalty,), (schedule,), self.fit_intercept, int(self.average), rows)

    def _rows_of_batch(self, schema: Schema) -> int:
        if self.batch_rows is not None:
            return self.batch_rows
        return _MOST if schema.n_rows is None else min(_MOST, max(_LEAST, schema.n_rows // _BATCHES))

    def _feed(self, trainer: Trainer | None, labels: Labels, epoch: int, schema: Schema) -> Feed:
        state = self.random_state
        # A generator is not used up: a fit that fails, or is only explained, leaves it as it was.
        drawn = copy.deepcopy(state).randint(2**31) if hasattr(state, "randint") else (state or 0)
        seed = int(np.random.SeedSequence([int(drawn), epoch]).generate_state(1)[0]) if self.shuffle else 0
        return Feed(
            _nothing if trainer is None else trainer.consume,
            Order(self.block_rows, self.shuffle, seed),
            mark=_nothing if trainer is None else trainer.mark,
            check=HostCheck(labels),
            finite=True,
            notices=True,
            title="mini-batches"
            + (f", epoch {epoch + 1} of {self.epochs}" if self._whole and self.epochs > 1 else "")
            + (", shuffled" if self.shuffle else ""),
            reads_only=True,
            joint=Joint(self._alike(schema, epoch), trainer, Trainer.as_one),
        )

    def _alike(self, schema: Schema, epoch: int) -> Hashable:
        """Return what is equal for models that are trained as one on the same rows: all but losses, penalties, steps."""
        weights = getattr(self, "class_weight", None)
        weights = frozenset(weights.items()) if isinstance(weights, dict) else weights
        begun = self._whole, epoch
        rows = self._rows_of_batch(schema)
        return type(self), weights, bool(self.fit_intercept), int(self.average), rows, begun

    def _careful(self, labels: Labels) -> Feed:
        """Return a feed that trains nothing, and refuses cells that are no numbers."""
        return Feed(
            _nothing,
            Order(self.block_rows),
            check=Check(labels),
            finite=True,
            title="the cell at fault",
            reads_only=True,
        )


def _sound(held: Held) -> bool:
    """Say whether nothing has spoilt the models."""
    names = [name for name in held if name.endswith(("coef", "constant"))]
    return bool((held["trouble"] == 0.0).all()) and all(bool(np.isfinite(held[name]).all()) for name in names)


def _nothing(*_: Any) -> None:
    """Stand in the place of a trainer."""
