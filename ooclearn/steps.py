"""What a composed estimator is made of: its steps in order, where the rows of each come from, and their columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import sklearn
from sklearn.base import OneToOneFeatureMixin
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils.metadata_routing import process_routing

from ooclearn.base import gives_frames
from ooclearn.blockwise import tags_of
from ooclearn.frames import Alone, Frame
from ooclearn.layout import Layout, Unplannable
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
    "takes_frames",
    "unforeseen",
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


def is_plannable(step: Any, X: Any = None, /) -> bool:
    """Say whether it is known beforehand what the fit of a step reads; of one that gets a data frame `X`, to this."""
    if is_composed(step):
        return not step._unplanned(X)
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


def takes_frames(step: Any, X: Any, /) -> bool:
    """Say whether a step that gets a data frame in memory takes its columns as arrays of numbers, at any depth."""
    if is_parallel(step):
        return True  # which of its columns these are, it says itself
    if not is_composed(step):
        return is_absent(step) or is_one_map(step)
    inside = [one for _, one in step.steps if not is_absent(one)]
    framed = any(hasattr(one, "transform") and gives_frames(one, X) for one in inside[:-1])
    # What comes behind gets arrays; a step of another library may give back the frame that it gets.
    return not framed and all(takes_frames(one, X) for one in inside[:1])


def unforeseen(names: Sequence[str], /) -> str:
    """Say why steps of these names are in no plan."""
    what = "does not say beforehand what it reads" if len(names) == 1 else "do not say beforehand what they read"
    return f"{', '.join(names)} {what}"


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
    alone : Alone or None
        Set if it is fitted by itself, before what is planned.
    made : array, frame or None
        What has come of the rows that it was fitted to by itself.
    """

    name: str
    estimator: Any
    positions: list[int] | None
    weight: float | None
    params: dict[str, Any]
    alone: Alone | None = None
    made: Any = None


@dataclass(frozen=True, eq=False)
class Joint:
    """What a parallel step is made of: its working copy, its branches, their steps from top to bottom, and all steps."""

    working: Any
    branches: tuple[Branch, ...]
    paths: tuple[tuple[Step, ...], ...]
    # Which of the columns that come to the joint itself each branch has.
    local: tuple[Columns | None, ...]
    steps: tuple[Step, ...]
    # Whose rows come to the branches, and their columns; how many come out, if that is known.
    above: Step | None
    layout: Layout
    width: int | None = None

    def settle(self) -> None:
        """Find out whether what has come of what was fitted by itself can be read as one array of numbers."""
        made = [branch.made for branch in self.branches if branch.alone is not None]
        if not all(hasattr(one, "tocsr") or np.asarray(one).dtype.kind in "fiub" for one in made):
            raise Unplannable("what a transformer gives is no array of numbers")
        if self.width is None and any(hasattr(one, "tocsr") for one in made):
            raise Unplannable("whether its result is sparse is known only when all of it is there")
        if made:
            self.working._take_results(self.branches, self.width)
            if self.working.sparse_output_:
                raise Unplannable("its result is sparse")


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
            if self.layout.frame is not None:
                self._take_all()
            rest = {key: value for key, value in params.items() if key != "sample_weight"}
            kind = _kind_of(estimator)
            self._put(Step(name, estimator, rest, params.get("sample_weight"), self.layout, self.last, kind))
            named = getattr(type(estimator), "get_feature_names_out", None)
            same = kind in ("same", "diagonal") or named is OneToOneFeatureMixin.get_feature_names_out
            self.layout = self.layout.behind(self.layout.n_columns if same else None)

    def _take_all(self) -> None:
        """Go on with all columns of a data frame."""
        frame = self.layout.frame
        assert frame is not None
        if len(frame.kept) < len(frame.names):
            raise Unplannable(f"columns {frame.kinds(np.flatnonzero(~frame.numeric).tolist())} are not numbers")
        self._select(range(len(frame.names)), "columns")

    def _put(self, step: Step) -> None:
        self.steps.append(step)
        self.last = step

    def _select(self, positions: Sequence[int], name: str) -> None:
        """Go on with some of the columns; with all of them, in order, there is nothing to do."""
        if list(positions) != list(range(self.layout.width or 0)):
            columns = Columns(tuple(positions))
            self._put(Step(name, None, {}, None, self.layout, self.last, "columns", columns))
        self.layout = self.layout.taken(positions)

    def _add_parallel(self, estimator: Any, params: dict[str, Any], name: str) -> None:
        working, branches = estimator._branches(self.layout, params)
        above, layout, first = self.last, self.layout, len(self.steps)
        if layout.frame is not None:
            branches = [_placed(branch, layout.frame, name) for branch in branches]
        paths = []
        width: int | None = 0
        for branch in branches:
            self.last, self.layout = above, layout
            if branch.positions is not None:
                self._select(branch.positions, f"{name}__{branch.name}")
            top = self.last
            if branch.alone is None:
                self.add(branch.estimator, branch.params, f"{name}__{branch.name}" if name else branch.name)
            paths.append(tuple(_between(top, self.last)))
            known = self.layout.n_columns
            if branch.alone is not None and layout.frame is not None and not layout.frame.results:
                known = None
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
            taken = [_taken(part or [], path) for part, path in zip(positions, paths, strict=True)]
            if None not in taken:
                # Each column that comes out is of one that comes in: these are selected first, whatever is done to them.
                kind = "diagonal"
                every = [at for part in taken for at in part or ()]
                ends = accumulate((len(part or ()) for part in taken), initial=0)
                local = [Columns(tuple(range(start, stop))) for start, stop in pairwise(ends)]
            else:
                if None not in kinds and all(
                    _turned(len(part or ()), path) for part, path in zip(positions, paths, strict=True)
                ):
                    kind = "affine"
                found = {at: i for i, at in enumerate(sorted(set(every)))}
                local = [Columns(tuple(found[at] for at in part or ())) for part in positions]
                every = list(found)
            self._select(every, name)
        joint = Joint(working, tuple(branches), tuple(paths), tuple(local), inside, above, incoming, width)
        self._put(Step(name, estimator, {}, None, self.layout, self.last, kind, joint=joint))
        self.layout = layout.behind(width)


def _placed(branch: Branch, frame: Frame, name: str) -> Branch:
    """Return a branch of a data frame with the columns that it has in the table; of one fitted alone, its results."""
    if branch.alone is None:
        return branch if branch.positions is None else replace(branch, positions=frame.placed(branch.positions))
    key = f"{name}__{branch.name}" if name else branch.name
    positions = frame.put(key, branch.alone)
    fitted, made = frame.results.get(key, (branch.estimator, None))
    return replace(branch, estimator=fitted, positions=positions, made=made)


def _taken(positions: list[int], path: Sequence[Step]) -> list[int] | None:
    """Return which columns the columns that come out of a path are of; None if one is made of several, or not known."""
    for step in path:
        if step.selection is not None:
            positions = [positions[at] for at in step.selection.positions]
        elif step.kind not in ("same", "diagonal"):
            return None
    return positions


def _turned(n_columns: int, path: Sequence[Step]) -> bool:
    """Say whether all columns that come in go through one matrix, as far as that is known, which refuses missing values."""
    for step in path:
        if step.kind == "affine":
            return True
        if step.selection is not None and set(step.selection.positions) == set(range(n_columns)):
            n_columns = len(step.selection.positions)
        elif step.kind not in ("same", "diagonal"):
            return False
    return False


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
