"""The CuPy backend without a GPU, in processes where ``import cupy`` finds the stand-in of tests/helpers/cupy_stand_in.

The stand-in proves that the adapter's calls exist in CuPy and fit together, that what it counts is all there is, and
that streams wait for one another. It shows nothing about speed, rounding or hardware; ci/gpu is for that.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = ROOT / "tests" / "helpers" / "cupy_stand_in"


def run(*command, **more):
    """Run Python where the stand-in is found; return what it prints."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(STAND_IN), os.environ.get("PYTHONPATH", "")])}
    options = {"cwd": ROOT, "env": env, "capture_output": True, "text": True, "timeout": 300, **more}
    done = subprocess.run([sys.executable, *map(str, command)], check=False, **options)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    return done.stdout


# Of what the suite asks of every container, the shortest; ci/gpu runs all on a GPU.
FILES = {
    "duties and fits": ["backends/on_cupy.py"],
    "streams and containers": ["backends/on_cupy_streams.py", "test_rowmaps.py", "test_scoring.py"],
}


@pytest.mark.parametrize("files", FILES.values(), ids=FILES)
def test_the_adapter(files):
    out = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "cupy", *(ROOT / "tests" / file for file in files))
    assert " passed" in out
    assert " skipped" not in out


def test_the_demo(tmp_path):
    out = run("-m", "ooclearn", "demo", "--backend", "cupy", "--rows", "20000", cwd=tmp_path)
    assert "ooclearn, cupy" in out
    assert "the fit made 2 passes; the plan said 2" in out


def test_the_benchmark(tmp_path):
    sizes = ["--bytes", "300kB", "--columns", "5", "--settle", "1", "--repeats", "1", "--block-bytes", "20kB"]
    run(ROOT / "ci" / "bench" / "gpu.py", "--backend", "cupy", *sizes, "--out", tmp_path)
    numbers = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert numbers["finished"]
    assert all(one["agrees"] for one in numbers["agreement"].values())
    assert all(numbers["limits"].values()), "each limit of a device can be measured"
    for one in numbers["statistics"]:
        assert one["over_the_bus"]["waits"] == 1
        assert one["over_the_bus"]["down"] < 10_000
    assert numbers["about"]["device"] == "a stand-in without hardware"


def test_the_stand_in_has_what_cupy_has():
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("CuPy is not installed; surface.txt was written where it is")
    command = [sys.executable, STAND_IN / "surface.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = (STAND_IN / "surface.txt").read_text(encoding="utf-8")
    if done.stdout.splitlines()[0] == expected.splitlines()[0]:  # the same version
        assert done.stdout == expected
