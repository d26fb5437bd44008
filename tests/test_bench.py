"""The benchmarks run, at sizes that measure nothing; dask-ml, one of the rivals, is not needed here."""

from __future__ import annotations

import json
import os
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
    # The table alone is larger than the limit: where less is wanting, what fails may be a thread of OpenBLAS, and hang.
    arguments = ["--sizes", "1e4", "15e5", "--memory", "170MB", "--only", "loop", "in-memory"]
    text, numbers = bench("memory", *arguments, out=tmp_path)
    loop, in_memory = numbers["ways"]["loop"], numbers["ways"]["in-memory"]
    assert loop["1500000"]["peak"] < 1.5 * loop["10000"]["peak"]
    assert in_memory["1500000"] == {"failed": "out of memory"}
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


def test_busy_cores_are_those_of_the_whole_machine():
    from harness import busy_cores

    code = "import time\nend = time.perf_counter() + 60\nwhile time.perf_counter() < end: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as other:
        try:
            busy = busy_cores(1.0)
        finally:
            other.kill()
    assert busy is None or 0.3 < busy <= os.cpu_count() + 0.1


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
    arguments = ["--rows", "2e4", "--only", "ooclearn", "loop", "--pipelines", "ridge"]
    text, numbers = bench("fusion", *arguments, out=tmp_path)
    assert "StandardScaler -> PCA(5) -> Ridge" in text
    ridge = numbers["pipelines"]["ridge"]
    assert ridge["readings"] == 1
    assert {len(seconds) for seconds in ridge["warm_s"].values()} == {1}
    scores = [way["score"] for way in ridge["ways"].values()]
    assert len(scores) == 2
    assert np.ptp(scores) < 1e-3
    assert set(ridge["cold_s"]) == {"ooclearn", "one thread", "the fastest"}
    rates = json.loads((tmp_path / "fusion-rates.json").read_text(encoding="utf-8"))
    assert min(rates["loss_above_the_optimum"].values()) <= 1e-8


def test_what_a_file_has_in_memory_is_told(tmp_path):
    from limits import let_go, share_held

    path = tmp_path / "held.bin"
    path.write_bytes(bytes(2**22))
    assert share_held(path) == 1.0
    let_go(path)
    path.read_bytes()
    assert share_held(path) == 1.0


@pytest.fixture(scope="module")
def on_the_fake_device(tmp_path_factory):
    """The benchmark of devices, run where there is none: its output, and the folder of its numbers."""
    pytest.importorskip("array_api_strict", reason="the fake device's arrays are its")
    out = tmp_path_factory.mktemp("gpu")
    arguments = ["--bytes", "300kB", "--columns", "5", "12", "--settle", "1", "--block-bytes", "20kB"]
    text, _ = bench("gpu", "--backend", "device", *arguments, out=out)
    return text, out


def test_gpu(on_the_fake_device):
    text, out = on_the_fake_device
    numbers = json.loads((out / "gpu.json").read_text(encoding="utf-8"))
    assert numbers["finished"]
    assert all(one["agrees"] for one in numbers["agreement"].values())
    assert len(numbers["agreement"]) == 6
    assert {len(one["seconds"]) for one in numbers["statistics"]} == {1}
    for one in numbers["statistics"]:
        over = one["over_the_bus"]
        sent = 0 if one["source"] == "resident" else one["nbytes"]
        # Each part of a slot begins at a multiple of some bytes.
        assert sent <= over["up"] <= 1.1 * sent + 1024
        assert over["waits"] == 1
        assert over["down"] < 10_000
    assert {one["columns"] for one in numbers["fits"]} == {5, 12}
    for one in numbers["results"]:
        over = one["over_the_bus"]
        back = one["nbytes"] // (one["columns"] if one["method"] == "predict" else 1)
        assert one["nbytes"] <= over["up"] <= 1.1 * one["nbytes"] + 1024
        # Behind the result of each run of blocks stands how many cells were refused.
        assert back <= over["down"] <= back + 5000
        assert over["waits"] == 0
    assert "| predict, 3,125 x 12" in text
    assert "| StandardScaler -> PCA -> Ridge, 3,125 x 12" in text
    assert "not measured" in text


def test_gpu_sums_up_what_was_run(on_the_fake_device, tmp_path):
    from gpu_report import into_page, measured_page, summary

    _, out = on_the_fake_device
    numbers = json.loads((out / "gpu.json").read_text(encoding="utf-8"))
    with pytest.raises(SystemExit, match="not the numbers of a whole run on hardware"):
        measured_page(out / "gpu.json")
    suites = '<testsuites><testsuite tests="5" failures="1" errors="0" skipped="1"/></testsuites>'
    (tmp_path / "tests-together.xml").write_text(suites)
    assert "tests, together: passed, failed, skipped |" in summary(tmp_path)
    assert "3, 1, 1" in summary(tmp_path)
    # What a device with limits would have left.
    numbers["limits"] = dict.fromkeys(numbers["limits"], 5e10)
    numbers["about"] |= {"driver": "1.2", "runtime_cuda": "13.0", "cupy": "14.2.0"}
    for one in numbers["statistics"]:
        one["limits_s"] = {"copy": one["nbytes"] / 5e10}
        one["seconds"] = [one["nbytes"] / 4.8e10]
    (tmp_path / "gpu.json").write_text(json.dumps(numbers))
    text = summary(tmp_path)
    assert "48.00 | " in text
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nafter\n")
    into_page(page, measured_page(tmp_path / "gpu.json"))
    found = page.read_text()
    assert found.startswith("before\n")
    assert found.endswith("after\n")
    assert "old" not in found
    assert "copy to the device, pinned memory" in found
    assert "times faster than" in found


def test_gpu_says_what_is_missing():
    command = [sys.executable, BENCH / "gpu.py", "--backend", "toaster", "--about"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no backend named 'toaster'" in done.stderr


def test_the_tree_can_be_used_where_nothing_can_be_built(tmp_path):
    root = BENCH.parent.parent
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    subprocess.run([python, str(root / "ci" / "tree.py"), "install", sys.executable], check=True)
    code = (
        "import ooclearn, ooclearn_backends, importlib.metadata as m; from ooclearn.backend import backends\n"
        "assert m.version('ooclearn') == ooclearn.__version__\n"
        "print(ooclearn.__file__, *backends())"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    file, *names = done.stdout.split()
    assert Path(file) == root / "ooclearn" / "__init__.py"
    assert {"numpy", "dask", "cupy", "array_api"} <= set(names)
    command = [sys.executable, str(root / "ci" / "tree.py"), "requires", "dask", "--", "test"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert any(line.startswith("dask[array]") for line in lines)
    assert any(line.startswith("pytest>=") for line in lines)
