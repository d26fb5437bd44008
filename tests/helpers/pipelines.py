"""What tests of pipelines share: rows, what was learned, and how pipelines are spelled."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline as SklearnPipeline

from ooclearn import Incremental


def rows(n=300, columns=4, seed=0):
    X = np.random.default_rng(seed).normal(3.0, 2.0, (n, columns))
    return X, (X[:, 0] > X[:, 1]).astype(int)


def state(one):
    """Return what has been learned, to the bit."""
    if isinstance(one, SklearnPipeline):
        return [state(step) for _, step in one.steps if hasattr(step, "fit")]
    if isinstance(one, np.ndarray):
        return one.dtype.str, one.shape, one.tobytes() if not one.dtype.hasobject else one.tolist()
    if isinstance(one, (list, tuple)):
        return [state(part) for part in one]
    if isinstance(one, np.random.RandomState):
        return state(one.get_state())
    if isinstance(one, BaseEstimator) or (hasattr(one, "__dict__") and type(one).__module__.startswith("ooclearn")):
        learned = isinstance(one, BaseEstimator)
        return {name: state(value) for name, value in vars(one).items() if name.endswith("_") or not learned}
    return one if isinstance(one, (int, float, str, np.generic, np.dtype, type(None))) else type(one)


def spelled(one):
    """Return the names of the steps that a maker of a pipeline, or of steps, puts together."""
    if not callable(one):
        return one if isinstance(one, str) else str(one) if isinstance(one, int) else ""
    steps = one()
    steps = [step for _, step in steps.steps] if isinstance(steps, SklearnPipeline) else steps

    def name(step):
        if step is None or isinstance(step, str):
            return str(step)
        library = "" if type(step).__module__.startswith("ooclearn") else "sklearn."
        inside = f"({type(step.estimator).__name__})" if isinstance(step, Incremental) else ""
        return f"{library}{type(step).__name__}{inside}"

    return ",".join(map(name, steps))
