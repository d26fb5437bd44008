"""The fit of composed estimators as a whole: working copies of their steps, put together into stages of one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator

from ooclearn.base import busy, commit_all, unfitted_copy
from ooclearn.beside import as_affine, beside
from ooclearn.blockwise import rows_for
from ooclearn.exceptions import DataError
from ooclearn.frames import Frame, fitted_alone
from ooclearn.layout import Layout, Unplannable
from ooclearn.methods import method_map
from ooclearn.passes import Stage, run
from ooclearn.plan import Plan, planned
from ooclearn.rowmaps import Chain, Columns, RowMap, compose
from ooclearn.steps import Flat, Joint, Step, is_absent, is_composed, is_ours, is_parallel, weighting
from ooclearn.table import Table
from ooclearn.types import Array
from ooclearn.validation import as_table, split_target

__all__ = ["AnyRows", "PlannedFit"]


class AnyRows(BaseEstimator):
    """Stands for a step where that does not know how many columns it was fitted with."""


class PlannedFit:
    """The fit of one or more estimators whose steps say beforehand what they read, over one table."""

    def __init__(self, put_in_order: Callable[[Frame | None], list[Step]], frame: Frame | None = None) -> None:
        self._put_in_order = put_in_order
        self._steps = put_in_order(frame)
        # A data frame in memory of which some columns stand in the table; None where X is the table.
        self._frame = frame

    @classmethod
    def of(cls, estimator: Any, params: dict[str, Any], X: Any) -> PlannedFit:
        """Return the fit of an estimator; raise :class:`Unplannable` if it cannot be planned as a whole."""
        return cls.of_all([(estimator, params, "")], X)

    @classmethod
    def of_all(cls, given: Sequence[tuple[Any, dict[str, Any], str]], X: Any) -> PlannedFit:
        """Return the fit of several estimators, each with what its ``fit`` gets and the beginning of its steps' names."""
        layout = Layout.of(X)

        def put_in_order(frame: Frame | None) -> list[Step]:
            flat = Flat([], None, layout)
            for estimator, params, name in given:
                flat.last, flat.layout = None, replace(layout, frame=frame)
                flat.add(estimator, params, name)
            return flat.steps

        if layout.frame is None or (len(given) == 1 and not _first_is_parallel(given[0][0])):
            plan = cls(put_in_order)
        else:
            frame = layout.frame
            # First with all columns that are numbers, to see which of them are wanted.
            wanted = _wanted(put_in_order(frame), frame)
            if not wanted:
                why = {one.why for one in frame.alone.values()}
                raise Unplannable("; ".join(sorted(why)) or "none of its columns are numbers that a transformer gets")
            frame = frame.keeping(wanted, {})
            plan = cls(put_in_order, frame)
        if not all(weight is plan.weights[0] for weight in plan.weights):
            raise Unplannable("its steps have different sample weights")
        return plan

    @property
    def estimators(self) -> list[Any]:
        """What the steps are, as given."""
        return [step.estimator for step in self._steps if step.estimator is not None]

    @property
    def weights(self) -> list[Any]:
        """The sample weights of the steps, where they have any; all of them are the same."""
        return [step.weight for step in self._steps if step.weight is not None]

    def busy(self, *estimators: Any) -> Any:
        """Refuse that another thread fits the estimators or a step of them meanwhile."""
        return busy(*estimators, *self.estimators)

    @property
    def alone(self) -> tuple[str, ...]:
        """What is fitted by itself, before what is planned, and why."""
        found = {} if self._frame is None else self._frame.alone
        return tuple(f"{name} is fitted by itself: {one.why}" for name, one in found.items())

    @property
    def results(self) -> dict[str, tuple[Any, Any]]:
        """What has been fitted by itself, and what has come of the rows that it was fitted to."""
        return {} if self._frame is None else self._frame.results

    def _fit_alone(self, y: Any) -> None:
        """Fit what is fitted by itself; raise :class:`Unplannable` if what comes of it is for no table of numbers."""
        if self._frame is None or not self._frame.alone:
            return
        self._frame = self._frame.keeping(self._frame.kept, fitted_alone(self._frame, y))
        self._steps = self._put_in_order(self._frame)
        for step in self._steps:
            if step.joint is not None and self._is_read(step):
                step.joint.settle()

    def _is_read(self, one: Step) -> bool:
        """Whether a step below reads what comes of one."""
        return any(step.above is one for step in self._steps)

    def _read_whole(self) -> bool:
        """Whether what comes of what is fitted by itself is read below."""
        joints = [step.joint for step in self._steps if step.joint is not None and self._is_read(step)]
        return any(branch.alone is not None for joint in joints for branch in joint.branches)

    def _working(self) -> list[Any]:
        return [self._working_copy(step) for step in self._steps]

    def _working_copy(self, step: Step) -> Any:
        if step.joint is not None:
            return step.joint.working
        if step.selection is not None:
            return None
        if is_ours(step.estimator):
            step.estimator._validate_params()
            working = unfitted_copy(step.estimator)
            working._take_params(step.params)
            return working
        if step.params or step.weight is not None:
            raise TypeError(f"step {step.name!r} is not fitted and takes no parameters of fit")
        frozen = isinstance(step.estimator, FrozenEstimator)
        return step.estimator if frozen else unfitted_copy(step.estimator)

    def _table(self, working: list[Any], X: Any, y: Any, *, read: bool = True) -> Table:
        weight = next((step.weight for step in self._steps if step.weight is not None), None)
        if self._frame is not None:
            X, y = split_target(X, y)
            rows = self._frame.rows(read=read, whole=self._read_whole())
            table = as_table(rows, y, weight, names=self._frame.names[list(self._frame.kept)])
            return self._with_targets(working, table)
        roots = [step for step in self._steps if step.above is None]
        if len(roots) == 1 and is_ours(working[0]):
            table = working[0]._table(X, y, weight)
        else:
            X, y = split_target(X, y)
            known = AnyRows()
            first = working[0] if working and working[0] is not None else known
            rows = rows_for(first, X, known=known, reset=True)
            table = as_table(rows, y, weight, names=getattr(known, "feature_names_in_", None))
        return self._with_targets(working, table)

    def _with_targets(self, working: list[Any], table: Table) -> Table:
        for one in working:
            if hasattr(one, "_with_target"):
                table = one._with_target(table)
        return table

    def _stages(self, working: list[Any], table: Table, *, plan: bool) -> list[Stage]:
        made: dict[Step, Stage] = {}
        for step, copied in zip(self._steps, working, strict=True):
            above = None if step.above is None else made[step.above]
            fit: Any = iter(())
            if is_ours(copied):
                schema = replace(table.schema, weighted=step.weight is not None)
                if step.layout.dtype is not None:
                    schema = replace(schema, dtype=step.layout.dtype)
                if step.above is not None:
                    schema = replace(schema, names=step.layout.names, n_columns=step.layout.n_columns)
                fit = iter(list(copied._requests(schema))) if plan else copied._passes(schema)
            stage = Stage(step.name, _generator(fit), above=above, weighted=step.weight is not None, kind=step.kind)
            if step.joint is not None:
                stage.parts = [made[one] for one in step.joint.steps]
            if plan:
                stage.made_of = step.selection if copied is None else copied
            else:
                self._set_row_map(stage, step, copied, made, table)
            made[step] = stage
        return list(made.values())

    def _set_row_map(self, stage: Stage, step: Step, copied: Any, made: dict[Step, Stage], table: Table) -> None:
        """Give a stage what it does to rows, to be asked for once it and those above are fitted."""

        def incoming() -> tuple[int | None, np.dtype[Any]]:
            above = stage.through()
            n_columns, dtype = table.X.n_columns, table.X.dtype
            return (n_columns, dtype) if above is None else (above.columns(n_columns), above.dtype(dtype))

        def foreign() -> RowMap:
            n_columns, dtype = incoming()
            return method_map(copied, "transform", n_columns=n_columns, dtype=dtype)

        def joined() -> RowMap | None:
            assert step.joint is not None
            n_columns = incoming()[0]
            maps = []
            for branch, path, columns in zip(step.joint.branches, step.joint.paths, step.joint.local, strict=True):
                parts = [columns, *(made[one].row_map() for one in path)]
                if step.kind == "diagonal":
                    parts = [columns, _unselected(parts[1:])]
                whole = compose(*parts) if any(part is not None for part in parts) else None
                width = n_columns if whole is None else whole.columns(n_columns)
                weight = weighting(branch.weight, width)
                maps.append(whole if weight is None else compose(whole, weight))
            sparse = step.joint.working._keeps_sparse(maps, lambda: _first_rows(stage, table))
            return beside(maps, n_columns=n_columns, sparse=sparse)

        def carrying() -> RowMap:
            n_columns = incoming()[0]
            assert n_columns is not None
            return as_affine(joined(), n_columns)

        if step.joint is not None:
            stage.row_map = joined
            stage.carrying = carrying if step.kind in ("affine", "mixed") else None
        elif step.selection is not None:
            stage.row_map = lambda: step.selection
        else:
            row_map = copied._row_map if is_ours(copied) else foreign
            stage.row_map = _with_columns(row_map, step.name) if self._is_read(step) else row_map

    def run(self, X: Any, y: Any) -> None:
        """Fit working copies of the steps, and commit them when all are fitted."""
        commit_all(self.fitted(X, y))

    def fitted(self, X: Any, y: Any) -> list[tuple[Any, Any]]:
        """Return the steps and their working copies, fitted."""
        self._fit_alone(y)
        working = self._working()
        table = self._table(working, X, y)
        stages = self._stages(working, table, plan=False)
        run(stages, table)
        return self._learned(working, stages, table)

    def _commit(self, working: list[Any], stages: list[Stage], table: Table) -> None:
        """Give the steps what their working copies have learned."""
        commit_all(self._learned(working, stages, table))

    def _learned(self, working: list[Any], stages: list[Stage], table: Table) -> list[tuple[Any, Any]]:
        """Return the steps and their working copies, which are told of the columns that came to each."""
        pairs = []
        stage_of = dict(zip(self._steps, stages, strict=True))

        def width(above: Step | None) -> int | None:
            return _width(None if above is None else stage_of[above], table)

        for step, done in zip(self._steps, working, strict=True):
            if done is None or done is step.estimator:
                continue
            if step.joint is None:
                _learn_columns(done, width(step.above), step.layout.names)
            else:
                widths = _widths(step.joint, width(step.above), stage_of)
                if any(branch.alone is not None for branch in step.joint.branches):
                    done._take_results(step.joint.branches, sum(one or 0 for one in widths))
                elif step.kind is None:
                    stage_of[step].row_map()  # which finds out whether results are sparse
                done._take_branches(step.joint.branches, widths)
                if not isinstance(getattr(type(done), "n_features_in_", None), property):
                    # Of a data frame all columns, also those that are not in the table.
                    _learn_columns(done, step.joint.layout.n_columns, step.joint.layout.names)
            if hasattr(done, "_take_rows"):
                done._take_rows(table.X, stage_of[step].through())
            pairs.append((step.estimator, done))
        return pairs

    def explain(self, X: Any, y: Any) -> Plan:
        """Return the passes that ``run`` would make."""
        frame = Frame.of(X) if self._frame is None else None
        if frame is not None and frame.numeric.all():
            X = frame.rows(read=False, whole=False)
        working = self._working()
        table = self._table(working, X, y, read=False)
        plan = planned(self._stages(working, table, plan=True), table)
        if not self.alone:
            return plan
        passes = plan.passes
        if self._read_whole():  # how many columns that is, only fitting tells
            passes = tuple(replace(one, n_bytes=None) for one in passes)
        return replace(plan, passes=passes, alone=self.alone)


def _first_is_parallel(estimator: Any) -> bool:
    """Say whether rows come to branches side by side before anything else."""
    while is_composed(estimator) and not is_parallel(estimator):
        estimator = next((step for _, step in estimator.steps if not is_absent(step)), None)
    return is_parallel(estimator)


def _wanted(steps: Sequence[Step], frame: Frame) -> list[int]:
    """Return the columns of a data frame that steps read, of those that stand in the table."""
    roots = [step for step in steps if step.above is None]
    if any(step.selection is None for step in roots):
        return list(frame.kept)
    at = {one for step in roots if step.selection is not None for one in step.selection.positions}
    return [column for i, column in enumerate(frame.kept) if i in at]


def _unselected(maps: Sequence[RowMap | None]) -> RowMap | None:
    """Return maps by column as one, of rows whose columns are selected and put in order before them."""
    if all(one is None for one in maps):
        return None
    whole = compose(*maps)
    if isinstance(whole, Chain) and isinstance(whole.maps[0], Columns):
        return compose(*whole.maps[1:])
    return None if isinstance(whole, Columns) else whole


def _widths(joint: Joint, n_columns: int | None, stage_of: dict[Step, Stage]) -> list[int | None]:
    """Return how many columns come out of each branch; all are fitted."""
    widths = []
    for path, columns in zip(joint.paths, joint.local, strict=True):
        out = n_columns if columns is None else len(columns.positions)
        for one in path:
            row_map = stage_of[one].row_map()
            out = out if row_map is None else row_map.columns(out)
        widths.append(out)
    return widths


def _learn_columns(done: Any, n_columns: int | None, names: Array | None) -> None:
    """Set the number of columns that an estimator was fitted to, and their names if they have any."""
    if n_columns is not None:
        done.n_features_in_ = n_columns
    if names is not None and all(isinstance(name, str) for name in names):
        done.feature_names_in_ = np.asarray(names, dtype=object)


def _with_columns(row_map: Callable[[], RowMap | None], name: str) -> Callable[[], RowMap | None]:
    """Return what asks for a row map, and raises where that leaves no columns to the steps below."""

    def asked() -> RowMap | None:
        found = row_map()
        if found is not None and found.columns(None) == 0:
            raise DataError(
                f"Found array with 0 feature(s) while a minimum of 1 is required: step {name!r} has selected none of the "
                "columns, and there are steps behind it"
            )
        return found

    return asked


def _first_rows(stage: Stage, table: Table) -> Array:
    """Return the first block of the rows that come to a stage; those above it are fitted."""
    lengths = table.X.lengths
    first = next((i for i in range(table.n_blocks) if lengths is None or lengths[i]), 0)
    try:
        rows = table.X.gather([first])
    finally:
        table.release()
    above = stage.through()
    return rows if above is None else above(rows)


def _width(stage: Stage | None, table: Table) -> int | None:
    """Return how many columns come out of a stage; all are fitted."""
    maps: list[RowMap | None] = []
    while stage is not None:
        maps.append(stage.row_map())
        stage = stage.above
    n_columns = table.X.n_columns
    for row_map in reversed(maps):
        n_columns = n_columns if row_map is None else row_map.columns(n_columns)
    return n_columns


def _generator(requests: Any) -> Any:
    """Return `requests` as a generator, which a driver can send answers to."""
    return requests if hasattr(requests, "send") else (request for request in requests)
