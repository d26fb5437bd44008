"""The benchmarks run, at sizes that measure nothing; dask-ml, one of the rivals, is not needed here."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parent.parent / "ci" / "bench"
WITHOUT_DASK_ML = ["--only", "ooclearn", "loop", "in-memory"]


def bench(name, *arguments, out):
    command = [sys.executable, BENCH / f"{name}.py", "--repeats", "1", "--out", out, *arguments]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "\n## " in done.stdout
    return done.stdout, json.loads((out / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", autouse=True)
def modules():
    """Import as the scripts do, each from the folder it is in."""
    sys.path.insert(0, str(BENCH))
    yield
    sys.path.remove(str(BENCH))


def test_pipeline(tmp_path):
    text, numbers = bench("pipeline", "--rows", "5e4", *WITHOUT_DASK_ML, out=tmp_path)
    assert set(numbers["ways"]) == {"ooclearn", "loop", "in-memory"}
    for way in numbers["ways"].values():
        assert way["accuracy"] > 0.85
        assert [len(seconds) for seconds in way["seconds"].values()] == [1, 1]
    assert "| ooclearn, of the limit" in text


def test_memory_says_who_ran_out_of_it(tmp_path):
    arguments = ["--sizes", "1e4", "4e5", "--memory", "170MB", "--only", "loop", "in-memory"]
    text, numbers = bench("memory", *arguments, out=tmp_path)
    loop, in_memory = numbers["ways"]["loop"], numbers["ways"]["in-memory"]
    assert loop["400000"]["peak"] < 1.5 * loop["10000"]["peak"]
    assert in_memory["400000"] == {"failed": "out of memory"}
    assert "out of memory" in text


def test_feeding(tmp_path):
    _, numbers = bench("feeding", "--rows", "2e4", out=tmp_path)
    assert len(numbers["seconds"]) == 6


def test_scalers(tmp_path):
    text, numbers = bench("scalers", "--rows", "2e4", out=tmp_path)
    assert numbers["new"]["seconds"].keys() == numbers["reused"]["seconds"].keys()
    assert "StandardScaler.transform" in text


def test_overhead(tmp_path):
    text, numbers = bench("overhead", "--rows", "2048", "--parts", "blocks", out=tmp_path)
    assert numbers["blocks"] == 32
    assert numbers["few"].keys() == numbers["many"].keys()
    assert "microseconds a block" in text


def test_exactness(tmp_path):
    _, numbers = bench("exactness", "--rows", "2e3", out=tmp_path)
    assert max(max(errors["ooclearn"]) for errors in (one["mean_and_variance"] for one in numbers["errors"])) < 1e-12


def test_exact_arithmetic_is_exact():
    from exactness import exact, relative

    column = np.array([1e16, 1.0, -1e16, 3.0, 0.0])
    assert exact(column) == (
        Fraction(4, 5),
        (2 * Fraction(10**32) + 10) / 5 - Fraction(4, 5) ** 2,
    )
    assert exact(np.float32([0.1, 0.1])) == (Fraction(float(np.float32(0.1))), 0)
    assert relative(0.0, Fraction(0)) == 0
    assert relative(1.0 + 2**-52, Fraction(1)) == 2**-52


def test_calls_are_timed_in_turn_and_medians_are_taken():
    from harness import Timings, interleaved

    order = []
    timings = interleaved({name: lambda name=name: order.append(name) for name in "ab"}, 3, settle=2)
    assert order == ["a", "b"] * 5
    assert [len(seconds) for seconds in timings.seconds.values()] == [3, 3]
    assert Timings({"a": [3.0, 1.0, 2.0]})["a"] == 2.0


def test_a_rival_that_fails_says_why(tmp_path):
    from processes import Rival, RivalError

    with Rival("loop", tmp_path) as rival:
        with pytest.raises(RivalError, match="FileNotFoundError"):
            rival.ask("fit")
        with pytest.raises(RivalError, match="ended with code 1: AttributeError: 'Loop' object has no attribute 'fly'"):
            rival.ask("fly")
    with pytest.raises(RivalError, match="no answer"), Rival("loop", tmp_path, timeout=0.01):
        raise AssertionError("it cannot have started in that time")


def test_fusion(tmp_path):
    text, numbers = bench("fusion", "--rows", "2e4", out=tmp_path)
    assert "StandardScaler -> PCA(5) -> Ridge" in text
    assert len(numbers["seconds"]) == 9
