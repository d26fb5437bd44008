"""Fits and predictions that run at a time, in threads of the user's, over the same sources and fitted estimators."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier
from sklearn.tree import DecisionTreeClassifier

import ooclearn
from ooclearn import Incremental, ParallelPostFit, fit_all
from ooclearn.cluster import KMeans
from ooclearn.decomposition import PCA
from ooclearn.linear_model import LinearRegression, LogisticRegression, Ridge
from ooclearn.naive_bayes import GaussianNB
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import MinMaxScaler, StandardScaler
from ooclearn.testing import nothing_left

RNG = np.random.default_rng(8)
ROWS = RNG.normal(size=(20_000, 5)) * [1.0, 2.0, 3.0, 4.0, 50.0] + 5.0
LABELS = (ROWS[:, 0] > 5.0).astype(np.int64) + (ROWS[:, 1] > 6.0)
TARGETS = ROWS @ [1.0, 2.0, 3.0, 4.0, 5.0]


def _trained(X, y, passes=None):
    steps = StandardScaler(), Incremental(SGDClassifier(random_state=0))
    return make_pipeline(*steps, passes=passes).fit(X, y)[-1].coef_


def _written(blocks, folder):
    path = folder / f"{threading.get_ident()}.npy"
    blocks.to_npy(path)
    written = np.load(path)
    path.unlink()
    return written


@pytest.fixture
def jobs(tmp_path):
    """What is done, by name; each gives numbers."""
    for name, values in (("X", ROWS), ("y", LABELS), ("t", TARGETS)):
        np.save(tmp_path / f"{name}.npy", values)
    with ooclearn.config_context(block_bytes=2**16):
        X, y, t = (ooclearn.scan(tmp_path / f"{name}.npy") for name in "Xyt")
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    fitted = make_pipeline(StandardScaler(), PCA(3), LogisticRegression()).fit(X, y)
    tree = ParallelPostFit(DecisionTreeClassifier(max_depth=4)).fit(ROWS, LABELS)
    return {
        "one reading": lambda: make_pipeline(StandardScaler(), PCA(3), Ridge()).fit(X, t)[-1].coef_,
        "several readings": lambda: LogisticRegression().fit(X, y).coef_,
        "clusters": lambda: KMeans(3, random_state=0, max_iter=4).fit(X).cluster_centers_,
        "a memory map": lambda: GaussianNB().fit(mapped, y).theta_,
        "training": partial(_trained, X, y),
        "training in one reading": partial(_trained, X, y, passes=1),
        "together": lambda: np.stack([one.coef_ for one in fit_all([Ridge(), LinearRegression()], X, t)]),
        "in memory": lambda: MinMaxScaler().fit_transform(ROWS),
        "predictions": lambda: fitted.predict_proba(X).to_numpy(),
        "predictions on disk": lambda: _written(fitted.predict(X), tmp_path),
        "predictions of scikit-learn's": lambda: tree.predict(X).to_numpy(),
        "a score": lambda: np.asarray(fitted.score(X, y)),
    }


def test_they_give_what_they_give_alone(jobs, tmp_path):
    alone = {name: job() for name, job in jobs.items()}
    wrong: list[str] = []

    def work(turn):
        names = list(jobs)
        for name in names[turn:] + names[:turn]:
            try:
                np.testing.assert_array_equal(jobs[name](), alone[name])
            except BaseException as error:
                wrong.append(f"{name}: {error!r}")

    with nothing_left(tmp_path):
        threads = [threading.Thread(target=work, args=(turn,)) for turn in (0, 4, 8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
