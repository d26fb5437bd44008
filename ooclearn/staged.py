"""The plan of a fit step by step, where that of the whole cannot be known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ooclearn.base import unfitted_copy
from ooclearn.blockwise import rows_for
from ooclearn.passes import Stage
from ooclearn.plan import ROWS_IN_MEMORY, PassPlan, Plan, planned
from ooclearn.planned_fit import AnyRows, PlannedFit
from ooclearn.steps import is_absent, is_composed, is_fixed, is_ours, is_plannable
from ooclearn.table import Table
from ooclearn.validation import as_table, is_plain

__all__ = ["in_memory", "planned_by_steps", "stand_in"]


def planned_by_steps(steps: Sequence[tuple[str, Any]], X: Any, y: Any, weighted: frozenset[str], why: str) -> Plan:
    """Return the passes of steps that are fitted one after the other, without reading any data.

    Parameters
    ----------
    steps : sequence of (str, estimator)
        By name.
    X, y : container
        The rows and targets.
    weighted : frozenset of str
        The steps that have sample weights.
    why : str
        The reason why they are not planned as a whole.
    """
    table = stand_in(X, y)
    passes: list[PassPlan] = []
    before = ""
    gone_over = False  # to rows that a step has made, in memory
    for name, step in steps:
        if is_absent(step) or is_fixed(step):
            continue
        foreign = not is_ours(step) and not is_composed(step)
        if is_ours(step):
            found = _own(name, step, table, first=not before, weighted=name in weighted)
        elif is_composed(step) and is_plannable(step) and not before:
            found = PlannedFit.of(step, {}, X).explain(X, y).passes
        else:
            found = (in_memory(name, step, table) if foreign else _unknown(name, step, table),)
        if gone_over:
            found = tuple(replace(one, parts=ROWS_IN_MEMORY, n_bytes=None) for one in found)
        if before:
            reason = f"{name} gets its rows through {before}, which is fitted only then"
            found = (replace(found[0], reason=reason), *found[1:])
        passes.extend(found)
        before = name
        gone_over = gone_over or foreign or is_plain(X)
    return Plan(table.X.name, tuple(passes), note=f"fitted step by step, since {why}")


def stand_in(X: Any, y: Any) -> Table:
    """Return a table of the shape of what is given; of a data frame, without converting it."""
    if is_plain(X) and hasattr(X, "columns"):
        X = np.broadcast_to(np.float64(0.0), X.shape)
    return as_table(rows_for(AnyRows(), X, known=AnyRows(), reset=True), y)


def in_memory(name: str, step: Any, table: Table) -> PassPlan:
    """Return the pass of a step of another library, which wants all rows in one array."""
    read = table.only(frozenset("Xy"))
    parts = "X" if table.y is None else "X, y"
    answers = ((name, f"{type(step).__name__}.fit, all rows in memory"),)
    return PassPlan(answers, parts, read.nbytes, read.n_blocks, read.nbytes or 0)


def _unknown(name: str, step: Any, table: Table) -> PassPlan:
    return replace(in_memory(name, step, table), answers=((name, f"{type(step).__name__}.fit"),), memory=0)


def _own(name: str, step: Any, table: Table, *, first: bool, weighted: bool) -> tuple[PassPlan, ...]:
    """Return the passes of a step of this library."""
    copied = unfitted_copy(step)
    schema = table.schema if first else replace(table.schema, n_columns=None, names=None)
    requests = (one for one in list(copied._requests(replace(schema, weighted=weighted))))
    stage = Stage(name, requests, weighted=weighted)
    stage.made_of = copied
    return planned([stage], table).passes
