"""One reading for scalers and what is fed behind them: fed through a provisional scaling, corrected at the end.

The stages before the feed are fitted to a sample of the rows. One pass feeds the last step through these provisional
maps, and gathers beside it the statistics that the exact fit of the stages needs. At the end the stages are fitted
exactly, and what the last step has learned of provisionally scaled columns is expressed in exactly scaled ones: a
linear first layer has the same value for ``coef @ z + intercept`` and, with ``z = ratio * exact + shift``, for
``(coef * ratio) @ exact + (intercept + coef @ shift)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ooclearn.blocks import concatenated
from ooclearn.exceptions import DataError
from ooclearn.passes import Stage, run
from ooclearn.plan import PassPlan, Plan, planned
from ooclearn.planned_fit import PlannedFit
from ooclearn.rowmaps import Affine, RowMap, compose
from ooclearn.table import Rows, Table
from ooclearn.types import Array
from ooclearn.validation import as_table

__all__ = ["OnePassFit", "sampled"]

# The sample is this share of the rows, within these bounds: more rows tell no more about means and deviations. Of fewer
# rows than the least, all are in it, and the scaling is the exact one.
_SHARE, _LEAST, _MOST = 0.02, 1024, 100_000
# It is read in so many runs from all over the table, so that rows in order of something do no harm.
_RUNS = 64
# Of a container that gives whole blocks only, so many at least, for the same reason.
_BLOCKS = 5


class OnePassFit(PlannedFit):
    """The fit of a pipeline whose last step is fed, over one reading of the table."""

    def _chained(self, table: Table, working: list[Any], *, plan: bool) -> tuple[list[Stage], Stage]:
        stages = self._stages(working, table, plan=plan)
        if len(stages) < 2 or _layers(working[-1]) is None:
            raise ValueError(
                "passes=1 feeds the last step through a provisional scaling and corrects its first layer at the end; "
                "expected scalers and then an Incremental with a linear model, a perceptron, k-means or an MLP, "
                f"got {', '.join(type(step).__name__ for step in working)}. Leave passes out"
            )
        kinds = {"same", "diagonal"}
        strange = [stage.name for stage in stages[:-1] if stage.kind not in kinds]
        if strange:
            raise ValueError(
                f"passes=1 can correct what was learned behind maps of each column by itself; {', '.join(strange)} is "
                "none that is known beforehand to be one. Leave passes out"
            )
        provisional = Stage("sample", _nothing())
        provisional.send(None)
        for stage in stages[:-1]:
            stage.rides = True
        stages[-1].above = provisional
        return stages, provisional

    def run(self, X: Any, y: Any) -> None:
        """Fit working copies of the steps, and commit them when all are fitted."""
        working = self._working()
        table = self._table(working, X, y)
        stages, provisional = self._chained(table, working, plan=False)
        provisional_map = self._provisional(table)
        provisional.row_map = lambda: provisional_map
        run(stages, table)
        exact_map = compose(*(stage.row_map() for stage in stages[:-1]))
        _re_express(working[-1], *_between(provisional_map, exact_map, table.schema.n_columns or 0))
        self._commit(working, stages, table)

    def _provisional(self, table: Table) -> RowMap:
        """Return the composed map of the stages before the feed, fitted to a sample of the rows."""
        rows = sampled(table)
        weighted = any(step.weight is not None for step in self._steps[:-1])
        working = self._working()
        sample = as_table(rows.X, rows.y, rows.w if weighted else None)
        stages = self._stages(working, sample, plan=False)[:-1]
        try:
            run(stages, sample)
        except DataError as error:
            error.add_note("in a sample of the rows, whose numbers are those of the sample")
            raise
        return compose(*(stage.row_map() for stage in stages))

    def explain(self, X: Any, y: Any) -> Plan:
        """Return the passes that ``run`` would make."""
        working = self._working()
        table = self._table(working, X, y)
        stages, _ = self._chained(table, working, plan=True)
        plan = planned(stages, table)
        n = sample_rows(table)
        row_bytes = sum(part.row_bytes for part in table.parts)
        read: int | None
        whole = table.n_rows is not None and n == table.n_rows
        if whole or _cuttable(table):
            blocks, read, held = (table.n_blocks if whole else _RUNS), n, 0
        else:
            group = _spread(table, n)
            lengths = table.X.lengths
            blocks, read = len(group), None if lengths is None else sum(lengths[i] for i in group)
            held = 0 if lengths is None else max((lengths[i] for i in group), default=0)
        first = PassPlan(
            ((", ".join(stage.name for stage in stages[:-1]), f"provisional fit to {n:,} rows"),),
            "a sample",
            None if read is None else read * row_bytes,
            blocks,
            (n + held) * row_bytes,
        )
        return replace(plan, passes=(first, *plan.passes))


def _nothing() -> Any:
    """Be a fit that asks for nothing."""
    yield from ()


def sample_rows(table: Table, /) -> int:
    """Return how many rows the sample of a table has."""
    n = table.n_rows
    return _LEAST if n is None else min(n, max(_LEAST, min(_MOST, int(_SHARE * n))))


def _cuttable(table: Table) -> bool:
    return table.n_rows is not None and table.X.cuttable


def sampled(table: Table, /) -> Rows:
    """Return rows from all over the table, read once; always the same ones."""
    n, wanted = table.n_rows, sample_rows(table)
    if n == wanted:
        try:
            return table.gather(range(table.n_blocks))
        finally:
            table.release()
    if n is None or not _cuttable(table):
        return _of_blocks(table, wanted)
    runs = min(_RUNS, wanted)
    starts = np.linspace(0, n - wanted // runs, runs).astype(int)
    cuts = np.unique(np.concatenate([[0, n], starts, np.minimum(starts + wanted // runs, n)]))
    cut = table.recut(np.diff(cuts).tolist())
    try:
        return cut.gather(np.unique(np.searchsorted(cuts, starts)).tolist())
    finally:
        cut.release()


def _spread(table: Table, wanted: int, share: int = _BLOCKS) -> list[int]:
    """Return the numbers of a few blocks from all over the table, which hold so many rows if that is known."""
    lengths = table.X.lengths
    if table.n_rows:
        share = max(share, -(-wanted * table.n_blocks // table.n_rows))
    filled = [i for i in range(table.n_blocks) if lengths is None or lengths[i]]
    at = np.unique(np.rint(np.linspace(0, len(filled) - 1, min(share, len(filled)))).astype(int))
    return [filled[i] for i in at]


def _of_blocks(table: Table, wanted: int, share: int = _BLOCKS) -> Rows:
    """Return rows of a few blocks, evenly from each; one block is held at a time."""
    group = _spread(table, wanted, share)
    each = -(-wanted // len(group))
    rows = []
    try:
        for i in group:
            block = table.gather([i])
            step = max(1, block.n // each)
            rows.append([None if part is None else part[::step] for part in (block.X, block.y, block.w)])
            if len(group) > 1:
                # A view would hold the block.
                rows[-1] = [None if part is None else concatenated([part, part[:0]]) for part in rows[-1]]
    finally:
        table.release()
    sample = Rows(*(None if parts[0] is None else concatenated(parts) for parts in zip(*rows, strict=True)))
    if table.n_rows is None and sample.n < wanted and len(group) < table.n_blocks:
        # That the blocks are small, only reading tells.
        return _of_blocks(table, wanted, 4 * share)
    return sample


def _between(provisional: RowMap, exact: RowMap, n_columns: int) -> tuple[Array, Array]:
    """Return ratio and shift by column: what the provisional map gives is ``ratio * exact + shift``."""
    slope, center, offset = _line(provisional, n_columns)
    exact_slope, exact_center, exact_offset = _line(exact, n_columns)
    # Centres are subtracted from each other first: far from 0, neither may be multiplied by a slope alone.
    shift = (exact_center - center - exact_offset / exact_slope) * slope + offset
    return slope / exact_slope, shift


def _line(row_map: RowMap, n_columns: int) -> tuple[Array, Array, Array]:
    """Return slope, centre and offset by column of a map of each column by itself."""
    assert isinstance(row_map, Affine)
    assert row_map.diagonal
    parts = ((row_map.factor(), 1.0), (row_map.center, 0.0), (row_map.offset, 0.0))
    slope, center, offset = (
        np.broadcast_to(np.float64(neutral) if part is None else part, (n_columns,)) for part, neutral in parts
    )
    return slope, center, offset


def _layers(step: Any) -> Callable[[Any, Array, Array], None] | None:
    """Return how the first layer of the model inside a fed step is expressed in other columns; None if it has none."""
    model = getattr(step, "estimator", None)
    names = {f"{cls.__module__.split('.')[1]}.{cls.__name__}" for cls in type(model).__mro__ if _of_sklearn(cls)}
    linear = {
        "linear_model.SGDClassifier",
        "linear_model.SGDRegressor",
        "linear_model.Perceptron",
        "linear_model.PassiveAggressiveClassifier",
        "linear_model.PassiveAggressiveRegressor",
    }
    if names & linear:
        return None if getattr(model, "average", False) else _linear
    if names & {"neural_network.MLPClassifier", "neural_network.MLPRegressor"}:
        return _network
    return _centers if "cluster.MiniBatchKMeans" in names else None


def _of_sklearn(cls: type) -> bool:
    return cls.__module__.startswith("sklearn.")


def _re_express(step: Any, ratio: Array, shift: Array) -> None:
    """Express the first layer of a fed step in columns ``z``, learned in columns ``ratio * z + shift``."""
    change = _layers(step)
    assert change is not None
    change(step.estimator_, ratio, shift)


def _linear(model: Any, ratio: Array, shift: Array) -> None:
    coef = model.coef_
    model.intercept_ = (model.intercept_ + coef @ shift).astype(model.intercept_.dtype)
    model.coef_ = (coef * ratio).astype(coef.dtype)


def _network(model: Any, ratio: Array, shift: Array) -> None:
    first = model.coefs_[0]
    model.intercepts_[0] = (model.intercepts_[0] + shift @ first).astype(first.dtype)
    model.coefs_[0] = (first * ratio[:, None]).astype(first.dtype)


def _centers(model: Any, ratio: Array, shift: Array) -> None:
    centers = model.cluster_centers_
    model.cluster_centers_ = ((centers - shift) / ratio).astype(centers.dtype)
