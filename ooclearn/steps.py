"""What a composed estimator is made of: its steps in order, where the rows of each come from, and their columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import sklearn
from sklearn.base import OneToOneFeatureMixin
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils.metadata_routing import process_routing

from ooclearn.blockwise import tags_of
from ooclearn.layout import Layout
from ooclearn.rowmaps import Affine, Columns, Kind, RowMap, kind_of

__all__ = [
    "Branch",
    "Flat",
    "Joint",
    "Step",
    "is_absent",
    "is_composed",
    "is_fixed",
    "is_one_map",
    "is_ours",
    "is_parallel",
    "is_plannable",
    "params_of_steps",
    "taken_over",
    "weighting",
]


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
    if is_composed(step):
        return not step._unplanned()
    return is_absent(step) or is_ours(step) or is_fixed(step)


def is_ours(step: Any, /) -> bool:
    """Say whether a step is an estimator of this library."""
    # Of the class: a FrozenEstimator lends the attributes of what is inside, and is not to be fitted.
    return hasattr(type(step), "_passes")


def is_composed(step: Any, /) -> bool:
    """Say whether a step is made of steps, and plans the fit of these."""
    return hasattr(type(step), "_unplanned")


def is_one_map(step: Any, /, *, frames: bool = False) -> bool:
    """Say whether a step is of this library throughout; for data frames, whether it takes these as one array."""
    if is_composed(step):
        return bool(step._is_one_map(frames=frames))
    return hasattr(type(step), "_method_map")


def taken_over(estimator: Any, fitted: Any, /) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield an estimator and the steps in it with the attributes that their fitted clones have."""
    inside = {Pipeline: "steps", FeatureUnion: "transformer_list"}
    name = next((name for cls, name in inside.items() if isinstance(estimator, cls)), None)
    if name is not None:
        for (_, one), (_, done) in zip(getattr(estimator, name), getattr(fitted, name), strict=True):
            if hasattr(one, "fit") and one is not done:
                yield from taken_over(one, done)
    kept = {key: value for key, value in vars(estimator).items() if key in estimator.get_params(deep=False)}
    yield estimator, vars(fitted) | kept


def is_parallel(step: Any, /) -> bool:
    """Say whether a step puts branches side by side."""
    return hasattr(type(step), "_branches")


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
class Branch:
    """One of the transformers that a parallel step puts side by side.

    Attributes
    ----------
    name : str
        Of the transformer.
    estimator : estimator or "passthrough"
        What is fitted: what the parallel step was given, or a clone of it.
    positions : list of int or None
        The columns that it gets; None for all, where it is not known how many these are.
    weight : float or None
        What its result is multiplied by.
    params : dict
        What its ``fit`` gets.
    """

    name: str
    estimator: Any
    positions: list[int] | None
    weight: float | None
    params: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Joint:
    """What a parallel step is made of: its working copy, its branches, their steps from top to bottom, and all steps."""

    working: Any
    branches: tuple[Branch, ...]
    paths: tuple[tuple[Step, ...], ...]
    # Which of the columns that come to the joint itself each branch has.
    local: tuple[Columns | None, ...]
    steps: tuple[Step, ...]
    # Whose rows come to the branches, and their columns.
    above: Step | None
    layout: Layout


@dataclass(frozen=True, eq=False)
class Step:
    """A step of what is fitted, what its ``fit`` gets, and where its rows come from.

    A step without an estimator is a selection of columns; one with a joint puts branches side by side.
    """

    name: str
    estimator: Any
    params: dict[str, Any]
    weight: Any
    layout: Layout
    above: Step | None
    kind: Kind | None
    selection: Columns | None = None
    joint: Joint | None = None


@dataclass
class Flat:
    """Steps in order, those above before those below, and the columns that come out of the last."""

    steps: list[Step]
    last: Step | None
    layout: Layout

    def add(self, estimator: Any, params: dict[str, Any], name: str) -> None:
        """Put what an estimator is made of below the last step."""
        if is_absent(estimator):
            return
        if is_parallel(estimator):
            self._add_parallel(estimator, params, name)
        elif is_composed(estimator):
            given = params_of_steps(estimator, params)
            for inside, step in estimator.steps:
                self.add(step, given.get(inside, {}), f"{name}__{inside}" if name else inside)
        else:
            rest = {key: value for key, value in params.items() if key != "sample_weight"}
            kind = _kind_of(estimator)
            self._put(Step(name, estimator, rest, params.get("sample_weight"), self.layout, self.last, kind))
            named = getattr(type(estimator), "get_feature_names_out", None)
            same = kind in ("same", "diagonal") or named is OneToOneFeatureMixin.get_feature_names_out
            self.layout = Layout(self.layout.n_columns if same else None)

    def _put(self, step: Step) -> None:
        self.steps.append(step)
        self.last = step

    def _select(self, positions: Sequence[int], name: str) -> None:
        """Go on with some of the columns; with all of them, in order, there is nothing to do."""
        if list(positions) != list(range(self.layout.n_columns or 0)):
            columns = Columns(tuple(positions))
            self._put(Step(name, None, {}, None, self.layout, self.last, "columns", columns))
        self.layout = self.layout.taken(positions)

    def _add_parallel(self, estimator: Any, params: dict[str, Any], name: str) -> None:
        working, branches = estimator._branches(self.layout, params)
        above, layout, first = self.last, self.layout, len(self.steps)
        paths = []
        width: int | None = 0
        for branch in branches:
            self.last, self.layout = above, layout
            if branch.positions is not None:
                self._select(branch.positions, f"{name}__{branch.name}")
            top = self.last
            self.add(branch.estimator, branch.params, f"{name}__{branch.name}" if name else branch.name)
            paths.append(tuple(_between(top, self.last)))
            known = self.layout.n_columns
            width = None if known is None or width is None else width + known
        inside = tuple(self.steps[first:])
        incoming = self.layout = layout
        self.last = above
        kinds = {step.kind for path in paths for step in path}
        positions = [branch.positions for branch in branches]
        local: list[Columns | None] = [None] * len(branches)
        kind: Kind | None = None if None in kinds else "mixed"
        if all(at is not None for at in positions) and branches:
            every = [at for part in positions for at in part or ()]
            if kinds <= {"same", "diagonal"}:
                kind = "diagonal"
                ends = accumulate((len(part or ()) for part in positions), initial=0)
                local = [Columns(tuple(range(start, stop))) for start, stop in pairwise(ends)]
            else:
                found = {at: i for i, at in enumerate(sorted(set(every)))}
                local = [Columns(tuple(found[at] for at in part or ())) for part in positions]
                every = list(found)
            self._select(every, name)
        joint = Joint(working, tuple(branches), tuple(paths), tuple(local), inside, above, incoming)
        self._put(Step(name, estimator, {}, None, self.layout, self.last, kind, joint=joint))
        self.layout = Layout(width)


def _between(top: Step | None, bottom: Step | None) -> Iterator[Step]:
    """Yield the steps from below `top` to `bottom`."""
    path = []
    while bottom is not top:
        assert bottom is not None
        path.append(bottom)
        bottom = bottom.above
    yield from reversed(path)


def _kind_of(step: Any) -> Kind | None:
    """Return what kind of map a step will be."""
    if is_ours(step):
        kind: Kind | None = step._map_kind() if hasattr(step, "_map_kind") else None
        return kind
    if isinstance(step, FrozenEstimator) and is_ours(step.estimator):
        return kind_of(step.estimator._row_map())
    return None


def weighting(weight: float | None, n_columns: int | None, /) -> RowMap | None:
    """Return what multiplies all columns by a weight."""
    if weight is None:
        return None
    assert n_columns is not None
    return Affine(np.full(n_columns, float(weight)))
