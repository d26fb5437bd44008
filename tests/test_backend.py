"""The registry of backends, and a stranger's backend found by its entry point."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import ooclearn
from ooclearn.backend import backend_of, backends, get_backend, owner_of
from ooclearn.exceptions import BackendError
from ooclearn.preprocessing import StandardScaler

PLUGIN = Path(__file__).parent / "plugin"


def test_numpy_is_asked_first_and_the_general_one_last():
    names = list(backends())
    assert names[0] == "numpy"
    assert names[-1] == "array_api"
    assert {"dask", "cupy"} < set(names)


def test_every_container_has_its_owner(backend):
    container = backend.make(np.ones((3, 2)))
    assert backend_of(container) is backend.backend
    assert owner_of(backend.backend.blocks(container)) is backend.backend


def test_names_and_containers_that_nobody_knows():
    with pytest.raises(BackendError, match="there is no backend named 'jax'; installed are: numpy, "):
        get_backend("jax")
    with pytest.raises(BackendError, match="there is no backend named 'gpu', the one for GPUs is 'cupy'; installed"):
        get_backend("gpu")
    with pytest.raises(BackendError, match=r"no backend owns a builtins\.dict; installed are"):
        backend_of({})
    assert owner_of({}) is None
    with ooclearn.config_context(backend="jax"), pytest.raises(BackendError, match="jax"):
        StandardScaler().fit(np.ones((3, 2)))


def test_the_backend_of_the_configuration_works_on_host_blocks():
    da = pytest.importorskip("dask.array", reason="the extra `dask` is not installed")
    X = np.random.default_rng(0).normal(3, 2, (50, 3))
    expected = StandardScaler().fit(X)
    with ooclearn.config_context(backend="dask", block_bytes=200):
        scaler = StandardScaler().fit(X)
        assert isinstance(ooclearn.scan(X).to_dask(), da.Array)
    np.testing.assert_allclose(scaler.var_, expected.var_, rtol=1e-13)


# A distribution of its own.


def install(source, target):
    """Lay a distribution out as an installer does, from its pyproject.toml: no network, no build."""
    project = tomllib.loads((source / "pyproject.toml").read_text())
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        shutil.copytree(source / package, target / Path(package).name)
    about = project["project"]
    info = target / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.3\nName: {about['name']}\nVersion: {about['version']}\n")
    (info / "RECORD").write_text("")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in about["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))


def run_with(target, code):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(target), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    }
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=target, env=environment, check=False
    )


def test_a_strangers_backend_is_found_and_keeps_the_laws(tmp_path):
    install(PLUGIN, tmp_path)
    code = """
import json
import numpy as np
from ooclearn.backend import backend_of, backends, get_backend
from ooclearn.preprocessing import MinMaxScaler, StandardScaler
from ooclearn.statistics import Moments
from ooclearn.testing import check_backend, check_estimator
assert "shelf" in list(backends())[:-1], "before the general one, which would own it too"
import ooclearn_shelf

X = np.random.default_rng(0).normal(3, 2, (50, 3))
shelf = ooclearn_shelf.Shelf(X)
assert backend_of(shelf).name == "shelf"
check_backend(get_backend("shelf"), ooclearn_shelf.Shelf)
scaler = StandardScaler().fit(shelf)
out = scaler.transform(shelf)
assert type(out) is ooclearn_shelf.Shelf
np.testing.assert_allclose(out.taken_down(), StandardScaler().fit_transform(X), rtol=1e-12, atol=1e-14)
passed = [
    sum(one["status"] == "passed" for one in check_estimator(estimator, on=ooclearn_shelf.Shelf))
    for estimator in (StandardScaler(), MinMaxScaler(clip=True))
]
print(json.dumps({"mean": scaler.mean_.tolist(), "passed": passed}))
"""
    done = run_with(tmp_path, code)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    X = np.random.default_rng(0).normal(3, 2, (50, 3))
    np.testing.assert_allclose(found["mean"], X.mean(axis=0), rtol=1e-13)
    assert min(found["passed"]) >= 50


def test_a_strangers_backend_that_is_broken_does_not_break_the_others(tmp_path):
    install(PLUGIN, tmp_path)
    (tmp_path / "ooclearn_shelf" / "backend.py").write_text("import a_library_that_is_not_installed\n")
    code = """
import warnings
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    from ooclearn.preprocessing import StandardScaler
    print(StandardScaler().fit([[1.0], [3.0]]).mean_.tolist())
print([str(one.message) for one in said if "shelf" in str(one.message)])
"""
    done = run_with(tmp_path, code)
    assert done.returncode == 0, done.stderr
    mean, said = done.stdout.splitlines()
    assert mean == "[2.0]"
    assert "the backend 'shelf' of the package ooclearn-shelf cannot be loaded (ModuleNotFoundError" in said
