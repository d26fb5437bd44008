"""``python -m ooclearn demo`` at small size: it keeps its promises, says when it does not, and cleans up."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ooclearn.__main__ import main
from ooclearn.demo import command, job, report
from ooclearn.demo.job import Outcome, Step
from ooclearn.demo.table import NoRoomError, Recipe, StoredTable, stored

ABSENT = """
import sys
sys.modules["cupy"] = None
from ooclearn.__main__ import main
sys.exit(main({arguments!r}))
"""


@pytest.fixture
def place(tmp_path):
    """An environment whose temporary folder is known, and empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return SimpleNamespace(folder=folder, cwd=tmp_path, env={**os.environ, "TMPDIR": str(folder)})


def demo(place, *arguments, code=None):
    command = ["-c", code] if code else ["-m", "ooclearn", "demo", *map(str, arguments)]
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=place.cwd, env=place.env, check=False
    )


@pytest.mark.parametrize("backend", ["numpy", "dask"])
def test_it_keeps_its_promises_and_cleans_up(backend, place):
    done = demo(place, "--rows", "3e5", "--memory", "500MB", "--sample", "5e4", "--backend", backend)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 readings of" in done.stdout
    assert "477 MiB, enforced by the system" in done.stdout
    heads, passes = re.findall(
        r"^ +ooclearn, (\w+) .*\n(?:.*\n){2}fit: passes over the rows +(\d)", done.stdout, re.MULTILINE
    )[0]
    assert (heads, passes) == (backend, "2")
    ours, theirs = re.findall(r"accuracy on 10,000 held-out rows +(\S+) +(\S+)", done.stdout)[0]
    assert min(float(ours), float(theirs)) > 0.85
    assert re.findall(r"^  (ok|BROKEN) ", done.stdout, re.MULTILINE) == ["ok"] * 5
    (diagnosis,) = re.findall(r"^(.+: .+)\nwhat each worker did when: timeline\.html$", done.stdout, re.MULTILINE)
    assert not diagnosis.startswith("nothing was recorded")
    assert re.search(r"pass 2: .*rows/s, .*GB/s", done.stderr)
    page = (place.cwd / "timeline.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    assert list(place.folder.iterdir()) == []
    assert sorted(path.name for path in place.cwd.iterdir()) == ["temporary", "timeline.html"]


def test_a_table_that_is_there_is_used_again(place):
    arguments = ("--rows", "5e4", "--memory", "500MB", "--sample", "1e4", "--dir", "tables")
    first = demo(place, *arguments)
    assert first.returncode == 0, first.stdout + first.stderr
    (folder,) = (place.cwd / "tables").iterdir()
    written = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    second = demo(place, *arguments, "--timeline", "second.html")
    assert second.returncode == 0, second.stdout + second.stderr
    assert (first.stdout.split()[0], second.stdout.split()[0]) == ("wrote", "found")
    kept = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert written.keys() == kept.keys()
    assert [name for name in kept if kept[name] != written[name]] == ["predictions.npy"]
    assert (place.cwd / "second.html").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without asking it")
def test_a_terminated_demo_removes_its_table(place):
    command = [sys.executable, "-m", "ooclearn", "demo", "--rows", "5e6"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=place.cwd, env=place.env
    ) as process:
        deadline = time.monotonic() + 60
        while not list(place.folder.glob("*/*/.X.npy.*")):
            assert process.poll() is None, "the demo ended before it wrote its table"
            assert time.monotonic() < deadline, "the demo did not begin to write its table"
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert list(place.folder.iterdir()) == []


def test_without_cupy_one_message_says_what_to_install(place):
    code = ABSENT.format(arguments=["demo", "--rows", "1e5", "--backend", "cupy"])
    done = demo(place, code=code)
    assert (done.returncode, done.stdout) == (2, "")
    (message,) = done.stderr.splitlines()
    assert message.startswith("ooclearn demo: CuPy is not installed")
    assert "ooclearn[cuda12]" in message
    assert "ooclearn[cuda13]" in message
    assert list(place.folder.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces a limit")
def test_a_job_that_takes_more_than_the_limit_is_stopped(monkeypatch, tmp_path, capsys):
    def greedy(*_):
        return np.ones(400_000_000 // 8)

    monkeypatch.setattr(job, "out_of_core", greedy)
    code = main(
        [
            "demo",
            "--rows",
            "2e4",
            "--memory",
            "300MB",
            "--dir",
            str(tmp_path),
            "--timeline",
            str(tmp_path / "t.html"),
        ]
    )
    assert code == 1
    assert "did not keep to 300,000,000 bytes" in capsys.readouterr().err


def test_a_plan_over_the_limit_is_refused_before_anything_is_written(tmp_path, capsys):
    assert main(["demo", "--rows", "1e7", "--memory", "20MB", "--dir", str(tmp_path / "tables")]) == 2
    assert re.search(r"the plan needs up to \d+ MiB .*, and --memory is 19 MiB", capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_before_anything_is_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**9))
    assert main(["demo", "--rows", "1e7", "--dir", str(tmp_path)]) == 2
    assert re.search(r"1\.78 GB are needed in .* 1\.00 GB are free; .*--dir.*--rows", capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_a_claim_that_does_not_hold_gives_a_code(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(report, "accuracy_slack", lambda _: -1.0)
    arguments = [
        "--rows",
        "2e4",
        "--sample",
        "2e4",
        "--dir",
        str(tmp_path),
        "--timeline",
        str(tmp_path / "t.html"),
    ]
    assert main(["demo", *arguments]) == 1
    assert "BROKEN  accuracy" in capsys.readouterr().out


STEP = Step(
    seconds=1.0,
    rows=10**6,
    nbytes=160 * 10**6,
    passes=2,
    bytes_read=336 * 10**6,
    peak=300 * 10**6,
    before=10**8,
)
OURS = Outcome("ooclearn, numpy", STEP, replace(STEP, passes=1), 0.93)


@pytest.mark.parametrize(
    ("broken", "ours", "right"),
    [
        (None, OURS, 0.93),
        ("passes", replace(OURS, fit=replace(STEP, passes=3)), 0.93),
        ("the fit read", replace(OURS, fit=replace(STEP, bytes_read=504 * 10**6)), 0.93),
        ("the fit read", replace(OURS, fit=replace(STEP, bytes_read=300 * 10**6)), 0.93),
        ("beyond the program", replace(OURS, predict=replace(STEP, peak=500 * 10**6)), 0.93),
        ("accuracy", replace(OURS, accuracy=0.91), 0.91),
        ("every row", OURS, 0.5),
    ],
)
def test_each_claim_can_break(broken, ours, right):
    sample = replace(OURS, accuracy=0.935)
    found = report.claims(ours, sample, SimpleNamespace(n_passes=2), 168 * 10**6, right, 300 * 10**6)
    assert len(found) == 5
    assert [claim.says for claim in found if not claim.kept] == [
        claim.says for claim in found if broken is not None and broken in claim.says
    ]
    assert sum(not claim.kept for claim in found) == (broken is not None)


def test_what_cannot_be_measured_is_not_claimed():
    unknown = replace(STEP, bytes_read=None, peak=None, before=None)
    ours = replace(OURS, fit=unknown, predict=replace(unknown, passes=1))
    assert len(report.claims(ours, OURS, SimpleNamespace(n_passes=2), 168 * 10**6, 0.93, 10**9)) == 3
    assert "not measured" in report.table([ours], 10_000, "memory")


class TestTable:
    """The demo's table."""

    def test_rows_do_not_depend_on_how_they_are_cut(self):
        (X, y), _ = Recipe(200_000, seed=3).generated()
        whole = X.to_numpy(), y.to_numpy()
        cut = (1, 70_000, 4_095, 0, 125_904)
        assert np.array_equal(X.recut(cut).to_numpy(), whole[0])
        assert np.array_equal(y.recut(cut).to_numpy(), whole[1])

    def test_every_repetition_has_each_row_of_the_base_once_in_another_order_with_fresh_noise(self):
        (X, y), _ = Recipe(2 * 2**16, seed=1).generated()
        base = X.source.base
        first, second = base.places(0, 2**16), base.places(2**16, 2**17)
        assert np.array_equal(np.sort(first), np.arange(2**16))
        assert np.array_equal(np.sort(second), np.arange(2**16))
        assert not np.array_equal(first, second)
        noise = X.to_numpy() - base.X[np.concatenate([first, second])]
        assert np.array_equal(y.to_numpy(), base.y[np.concatenate([first, second])])
        assert np.allclose(noise.std(axis=0), base.noise, rtol=0.02)
        halves = noise[np.argsort(first)], noise[2**16 :][np.argsort(second)]
        assert abs(np.corrcoef(halves[0][:, 0], halves[1][:, 0])[0, 1]) < 0.02

    def test_held_out_rows_are_of_other_rows_of_the_base(self):
        (X, _), (held_out, _) = Recipe(20_000, seed=2).generated()
        train, other = X.source.base.X, held_out.source.base.X
        assert not set(map(bytes, train)) & set(map(bytes, other))
        assert len(held_out) == 10_000

    def test_another_seed_gives_other_rows(self):
        one, other = (Recipe(1000, seed=seed).generated()[0][0].to_numpy() for seed in (0, 1))
        assert not np.isclose(one, other).any(axis=1).any()

    def test_a_table_that_was_not_finished_is_written_anew(self, tmp_path):
        recipe = Recipe(20_000)
        table, fresh = stored(tmp_path, recipe)
        assert fresh
        assert stored(tmp_path, recipe) == (table, False)
        table.note.unlink()
        assert stored(tmp_path, recipe) == (table, True)
        table.note.write_text('{"rows": 5}', encoding="utf-8")
        assert stored(tmp_path, recipe) == (table, True)
        table.labels.unlink()
        assert stored(tmp_path, recipe) == (table, True)

    def test_room_for_the_predictions_is_asked_for_too(self, tmp_path):
        recipe = Recipe(20_000)
        stored(tmp_path, recipe)
        with pytest.raises(NoRoomError, match=r"are free; name a folder"):
            stored(tmp_path, recipe, more_bytes=10**18)

    def test_the_bytes_are_told_beforehand(self, tmp_path):
        recipe = Recipe(30_000)
        table, _ = stored(tmp_path, recipe)
        size = sum(path.stat().st_size for path in table.folder.iterdir())
        assert 0 <= size - recipe.nbytes < 2000


def test_predictions_of_another_length_are_refused(tmp_path):
    table, _ = stored(tmp_path, Recipe(20_000))
    np.save(tmp_path / "p.npy", np.zeros(19_999, dtype=np.int64))
    with pytest.raises(ValueError, match=r"shape \(19999,\), expected \(20000,\)"):
        job.agreement(tmp_path / "p.npy", table)
    np.save(tmp_path / "p.npy", 1 - np.load(table.labels))
    assert job.agreement(tmp_path / "p.npy", table) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rows", "3.5"],
        ["--rows", "0"],
        ["--rows", "many"],
        ["--rows", "inf"],
        ["--memory", "2 horses"],
        ["--memory", "0"],
    ],
)
def test_a_bad_option_is_told(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main(["demo", *arguments])
    assert left.value.code == 2
    assert f"argument {arguments[0]}: {arguments[1]!r} is not a" in capsys.readouterr().err


def test_a_timeline_without_a_folder_is_told_before_anything_is_written(tmp_path, capsys):
    picture = tmp_path / "missing" / "fit.html"
    assert main(["demo", "--rows", "1e3", "--dir", str(tmp_path / "table"), "--timeline", str(picture)]) == 2
    assert f"there is no folder {picture.parent} for --timeline" in capsys.readouterr().err
    assert not (tmp_path / "table").exists()


def test_the_table_has_a_folder_of_its_own(tmp_path):
    assert StoredTable.within(tmp_path, Recipe(10, seed=7)).folder.name == "ooclearn-demo-10x20-seed7"
    assert command.size("1.5 kB") == 1500


def test_without_rich_a_terminal_gets_plain_lines(monkeypatch, capsys):
    monkeypatch.setattr(command, "find_spec", lambda _: None)
    with command._bars() as bars:
        assert bars.file is not None
        assert not bars.file.isatty()
        job.model().fit(np.arange(12.0).reshape(6, 2), [0, 1] * 3)
    assert re.search(r"pass 2: .* 100 %, 6 of 6 rows", capsys.readouterr().err)
