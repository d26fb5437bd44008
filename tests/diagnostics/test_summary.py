from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ooclearn.events import Work


def rows_by_kind(timeline):
    return {row.kind: row for row in timeline.summary().rows}


def test_known_answers(quiet, tell):
    work = Work("fold", "moments", n_rows=400, n_bytes=8_000_000_000, n_blocks=4)
    spans = []
    for block in range(4):
        worker, at = f"worker-{block % 2}", 2.0 * (block // 2)
        spans += [
            (worker, "read", at, at + 0.5, block, 0, 2_000_000_000),
            (worker, "fold", at + 0.5, at + 2.0, block, 100),
        ]
    spans.append(("MainThread", "merge", 4.0, 4.5))
    tell(quiet, work, 0.0, 5.0, spans)
    rows = rows_by_kind(quiet)

    assert list(rows) == ["read", "fold", "merge", "total"]
    assert [rows[kind].blocks for kind in rows] == [4, 4, 1, 4]
    assert [rows[kind].seconds for kind in rows] == pytest.approx([2.0, 6.0, 0.5, 5.0])
    assert [rows[kind].rows for kind in rows] == [0, 400, 0, 400]
    assert [rows[kind].bytes for kind in rows] == [8_000_000_000, 0, 0, 8_000_000_000]
    assert rows["read"].gb_per_s == pytest.approx(4.0)  # of one worker
    assert rows["total"].gb_per_s == pytest.approx(1.6)  # through the pass
    assert rows["fold"].gb_per_s is None
    assert [rows[kind].share for kind in rows] == pytest.approx([0.4, 1.2, 0.1, 1.0])


def test_the_table_is_printed(quiet, tell):
    work = Work("feed", "pass 2: SGDClassifier", n_rows=1000)
    tell(quiet, work, 0.0, 1.0, [("MainThread", "fit", 0.0, 0.75, 0, 1000)], error=KeyboardInterrupt())
    assert str(quiet.summary()).splitlines() == [
        "pass 1: SGDClassifier (feed, ended by KeyboardInterrupt)",
        "  kind          blocks       time       rows       GB/s  % of wall",
        "  fit                1     750 ms      1,000          -       75 %",
        "  total              1     1.00 s      1,000          -      100 %",
    ]
    assert repr(quiet.summary()) == str(quiet.summary())


def test_the_notebook_table_is_well_formed(quiet, tell):
    tell(quiet, Work("fold", "a < b & c"), 0.0, 1.0, [("w", "<kind>", 0.0, 0.5, 0, 1)])
    table = ET.fromstring(quiet.summary()._repr_html_())
    assert len(table.findall("tr")) == 3
    assert "a < b & c" in table.find("tr/th").text


def test_a_task_inside_another_counts_for_the_inner_one(quiet, tell):
    """As the core tells them: the inner ones end first."""
    work = Work("write", "write", n_rows=10)
    spans = [
        ("writer-0", "read", 0.1, 0.3, 0),
        ("writer-0", "transform", 0.3, 0.4, 0),
        ("writer-0", "read", 0.5, 0.6, 0),
        ("writer-0", "write", 0.0, 1.0, 0, 10, 80),
    ]
    tell(quiet, work, 0.0, 1.0, spans)
    rows = rows_by_kind(quiet)
    assert rows["read"].seconds == pytest.approx(0.3)
    assert rows["transform"].seconds == pytest.approx(0.1)
    assert rows["write"].seconds == pytest.approx(0.6)
    assert (rows["write"].rows, rows["write"].bytes, rows["write"].blocks) == (10, 80, 1)


def test_a_block_in_several_tasks_is_one_block(quiet, tell):
    spans = [("w", "fold", i / 10, (i + 1) / 10, i // 3) for i in range(9)]
    spans += [("w", "fold", 0.9, 0.95), ("w", "fold", 0.95, 1.0), ("w", "wait", 1.0, 1.1)]
    tell(quiet, Work("fold", ""), 0.0, 2.0, spans)
    rows = rows_by_kind(quiet)
    assert rows["fold"].blocks == 5  # three with a number, two without
    assert rows["total"].blocks == 5
    assert rows["total"].title == "fold"


def test_passes_stay_apart(quiet, tell):
    work = Work("fold", "iteration")  # the same object twice, as a loop may have it
    for i in range(3):
        tell(quiet, work, float(i), i + 1.0, [("w", "fold", i + 0.25, i + 0.5, 0, i)])
    totals = [row for row in quiet.summary().rows if row.kind == "total"]
    assert [(row.number, row.rows) for row in totals] == [(1, 0), (2, 1), (3, 2)]


def test_bytes_of_the_table_are_those_of_the_rows_done(quiet, tell):
    work = Work("fold", "", n_rows=100, n_bytes=1000)
    tell(quiet, work, 0.0, 1.0, [("w", "fold", 0.0, 0.5, 0, 25)], error=ValueError())
    assert rows_by_kind(quiet)["total"].bytes == 250


def test_a_pass_under_way_lasts_until_now(quiet):
    work = Work("fold", "")
    quiet._recording.begin(work, quiet.start + 1.0)
    quiet._stop = quiet.start + 3.0
    assert rows_by_kind(quiet)["total"].seconds == pytest.approx(2.0)
