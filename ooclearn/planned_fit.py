"""The fit of a pipeline as a whole: working copies of its steps, chained into stages of one run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import sklearn
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.utils.metadata_routing import process_routing

from ooclearn.base import busy, commit_all, unfitted_copy
from ooclearn.blockwise import rows_for, tags_of
from ooclearn.methods import method_map
from ooclearn.passes import Stage, run
from ooclearn.plan import Plan, planned
from ooclearn.rowmaps import RowMap
from ooclearn.table import Table
from ooclearn.validation import as_table, split_target

__all__ = ["AnyRows", "PlannedFit", "is_absent", "is_fixed", "is_plannable", "params_of_steps"]


class AnyRows(BaseEstimator):
    """Stands for a step where that does not know how many columns it was fitted with."""


def is_absent(step: Any, /) -> bool:
    """Say whether a step does nothing."""
    return step is None or (isinstance(step, str) and step == "passthrough")


def is_fixed(step: Any, /) -> bool:
    """Say whether a step of another library has nothing to fit, or is fitted for good."""
    if isinstance(step, FrozenEstimator):
        return True
    return hasattr(step, "transform") and hasattr(step, "__sklearn_tags__") and not tags_of(step).requires_fit


def is_plannable(step: Any, /) -> bool:
    """Say whether it is known beforehand what the fit of a step reads."""
    if _is_pipeline(step):
        return not step._unplanned()
    return is_absent(step) or _is_ours(step) or is_fixed(step)


def _is_ours(step: Any) -> bool:
    # Of the class: a FrozenEstimator lends the attributes of what is inside, and is not to be fitted.
    return hasattr(type(step), "_passes")


def _is_pipeline(step: Any) -> bool:
    return hasattr(type(step), "_unplanned")


def params_of_steps(pipeline: Any, params: dict[str, Any], /) -> dict[str, dict[str, Any]]:
    """Return what the ``fit`` of each step gets of the parameters of the pipeline's ``fit``."""
    names = [name for name, step in pipeline.steps if not is_absent(step)]
    if sklearn.get_config()["enable_metadata_routing"]:
        routed = process_routing(pipeline, "fit", **params)
        # A transformer that has `fit_transform` is asked for what that wants.
        return {name: {**routed[name].get("fit_transform", {}), **routed[name].get("fit", {})} for name in names}
    out: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, value in params.items():
        step, _, name = key.partition("__")
        if not name or step not in out:
            raise ValueError(
                f"Pipeline.fit does not accept the {key} parameter. You can pass parameters to specific steps of your "
                f"pipeline using the stepname__parameter format, e.g. `{pipeline.steps[-1][0]}__sample_weight`"
            )
        out[step][name] = value
    return out


@dataclass(frozen=True, eq=False)
class _Step:
    """A step of the pipeline, or of a pipeline inside it, and what its ``fit`` gets."""

    name: str
    estimator: Any
    params: dict[str, Any]
    weight: Any


def _flat(pipeline: Any, params: dict[str, Any], prefix: str = "") -> Iterator[_Step]:
    """Yield the steps that are there, those of pipelines inside as if they were the pipeline's own."""
    given = params_of_steps(pipeline, params)
    for name, step in pipeline.steps:
        if _is_pipeline(step):
            yield from _flat(step, given[name], f"{prefix}{name}__")
        elif not is_absent(step):
            weight = given[name].pop("sample_weight", None)
            yield _Step(prefix + name, step, given[name], weight)


class PlannedFit:
    """The fit of a pipeline whose steps say beforehand what they read."""

    def __init__(self, steps: list[_Step]) -> None:
        self._steps = steps

    @classmethod
    def of(cls, pipeline: Any, params: dict[str, Any]) -> PlannedFit | None:
        """Return the fit of a pipeline; None if its steps want different sample weights."""
        steps = list(_flat(pipeline, params))
        given = [step.weight for step in steps if step.weight is not None]
        return cls(steps) if all(weight is given[0] for weight in given) else None

    def busy(self, pipeline: Any) -> Any:
        """Refuse that another thread fits the pipeline or a step of it meanwhile."""
        return busy(pipeline, *(step.estimator for step in self._steps))

    def _working(self) -> list[Any]:
        working = []
        for step in self._steps:
            if _is_ours(step.estimator):
                step.estimator._validate_params()
                working.append(unfitted_copy(step.estimator))
                working[-1]._take_params(step.params)
                continue
            if step.params or step.weight is not None:
                raise TypeError(f"step {step.name!r} is not fitted and takes no parameters of fit")
            frozen = isinstance(step.estimator, FrozenEstimator)
            working.append(step.estimator if frozen else unfitted_copy(step.estimator))
        return working

    def _table(self, working: list[Any], X: Any, y: Any) -> Table:
        weight = next((step.weight for step in self._steps if step.weight is not None), None)
        if working and _is_ours(working[0]):
            table: Table = working[0]._table(X, y, weight)
            return table
        X, y = split_target(X, y)
        first = working[0] if working else AnyRows()
        # A step that has nothing to fit learns here how many columns there are, and their names.
        known = first if is_fixed(first) and not isinstance(first, FrozenEstimator) else AnyRows()
        return as_table(rows_for(first, X, known=known, reset=True), y, weight)

    def _stages(self, working: list[Any], table: Table, *, plan: bool) -> list[Stage]:
        stages: list[Stage] = []
        for step, copied in zip(self._steps, working, strict=True):
            schema = replace(table.schema, weighted=step.weight is not None)
            if stages:
                known = all(stage.kind in ("same", "diagonal") for stage in stages)
                schema = replace(schema, names=None, n_columns=schema.n_columns if known else None)
            if not _is_ours(copied):
                fit: Any = iter(())
            elif plan:
                fit = iter(list(copied._requests(schema)))
            else:
                fit = copied._passes(schema)
            above = stages[-1] if stages else None
            stage = Stage(step.name, _generator(fit), above=above, weighted=step.weight is not None)
            stage.kind = copied._map_kind() if _is_ours(copied) and hasattr(copied, "_map_kind") else None
            stage.row_map = _row_map_of(copied, stage, table, plan=plan)
            stages.append(stage)
        return stages

    def run(self, X: Any, y: Any) -> None:
        """Fit working copies of the steps, and commit them when all are fitted."""
        working = self._working()
        table = self._table(working, X, y)
        stages = self._stages(working, table, plan=False)
        run(stages, table)
        self._commit(working, stages, table)

    def _commit(self, working: list[Any], stages: list[Stage], table: Table) -> None:
        """Give the steps what their working copies have learned, and the number of columns that came to each."""
        n_columns = table.X.n_columns
        pairs = []
        for step, done, stage in zip(self._steps, working, stages, strict=True):
            if done is not step.estimator:
                if n_columns is not None:
                    done.n_features_in_ = n_columns
                pairs.append((step.estimator, done))
            if stage is not stages[-1]:
                row_map = stage.row_map()
                n_columns = n_columns if row_map is None else row_map.columns(n_columns)
        commit_all(pairs)

    def explain(self, X: Any, y: Any) -> Plan:
        """Return the passes that ``run`` would make."""
        working = self._working()
        table = self._table(working, X, y)
        return planned(self._stages(working, table, plan=True), table)


def _generator(requests: Any) -> Any:
    """Return `requests` as a generator, which a driver can send answers to."""
    return requests if hasattr(requests, "send") else (request for request in requests)


def _row_map_of(step: Any, stage: Stage, table: Table, *, plan: bool) -> Any:
    """Return the function that gives a stage's row map once it is fitted."""
    if plan:
        return lambda: None
    if _is_ours(step):
        return step._row_map

    def foreign() -> RowMap:
        above = stage.through()
        n_columns, dtype = table.X.n_columns, table.X.dtype
        if above is not None:
            n_columns, dtype = above.columns(n_columns), above.dtype(dtype)
        return method_map(step, "transform", n_columns=n_columns, dtype=dtype)

    return foreign
