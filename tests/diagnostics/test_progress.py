from __future__ import annotations

import io
import re
import sys
import threading

import pytest

from ooclearn.diagnostics import Progress, progress
from ooclearn.diagnostics._meters import Meters
from ooclearn.diagnostics.progress import _Lines
from ooclearn.events import Span, Work, observers, record, working


class Terminal(io.StringIO):
    def isatty(self):
        return True


def text_of(terminal):
    """The last drawing, without the codes that move the cursor and colour letters."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "130")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)


def run(n=4, title="moments of X", **totals):
    with working(Work("fold", title, **totals)) as work:
        for block in range(n):
            with record(work, "fold", block, rows=25):
                pass


def fail(work, rows):
    def feed():
        with working(work):
            observers()[0].span(work, span(rows))
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        feed()


def span(rows, n_bytes=0, kind="fold"):
    return Span("w", kind, 0.0, 1.0, 0, rows, n_bytes)


def test_silent_where_there_is_no_terminal(capsys):
    with progress():
        assert observers() == ()
        run()
    assert capsys.readouterr() == ("", "")


def test_plain_lines_when_forced(capsys):
    with progress(force=True):
        run(n_rows=100)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"moments of X: 100 %, 100 of 100 rows, [\d.,kMG]+ rows/s, in .* \S?s\n", err)
    assert observers() == ()
    assert not [thread for thread in threading.enumerate() if thread.name == "progress-lines"]


def lines_at(work, ticks, **options):
    """What is written for a pass that is told `rows` and then looked at after `seconds`, over and over."""
    file = io.StringIO()
    bars = Progress(force=True, file=file, **options)
    lines = _Lines(bars, file)
    bars.begin(work)
    (meter,) = bars.take()[1]
    found = []
    for seconds, rows in ticks:
        bars.span(work, span(rows, 8 * rows, "read"))
        lines.write(meter.start + seconds)
        found.append(file.getvalue())
        file.seek(0)
        file.truncate()
    return found


def test_a_line_for_every_tenth_but_not_more_than_one_a_second():
    work = Work("feed", "SGD", n_rows=1000, n_bytes=8_000_000_000)
    ticks = [(0.1, 300), (0.9, 0), (1.0, 0), (1.5, 200), (2.1, 0), (2.9, 99), (3.2, 0), (3.3, 1)]
    found = lines_at(work, ticks)
    assert [bool(line) for line in found] == [False, False, True, False, True, False, False, True]
    assert found[2] == "SGD: 30 %, 300 of 1,000 rows, 300 rows/s, 2.40 GB/s, 0:02 left\n"
    assert found[4] == "SGD: 50 %, 500 of 1,000 rows, 238 rows/s, 1.90 GB/s, 0:02 left\n"
    assert found[7].startswith("SGD: 60 %")


def test_a_line_every_so_often_where_nothing_else_is_known():
    found = lines_at(Work("feed", "SGD"), [(4.9, 100), (5.0, 0), (9.0, 0), (10.0, 100)], every=5.0)
    assert found == [
        "",
        "SGD: 100 rows, 20 rows/s, 0.00 GB/s, 0:05 so far\n",
        "",
        "SGD: 200 rows, 20 rows/s, 0.00 GB/s, 0:10 so far\n",
    ]


def test_blocks_are_counted_where_rows_are_not_known():
    (found,) = lines_at(Work("feed", "", n_blocks=4), [(10.0, 100)])
    assert found == "feed: 25 %, 100 rows, 10 rows/s, 0.00 GB/s, 0:30 left\n"


def test_rates_are_those_of_the_last_seconds():
    work = Work("feed", "SGD", n_rows=100_000)
    ticks = [(float(i), 1000) for i in range(1, 31)] + [(30.0 + i, 100) for i in range(1, 21)]
    found = lines_at(work, ticks)
    assert "1,000 rows/s" in found[29]
    assert "100 rows/s" in found[-1]
    assert "11:20 left" in found[-1]  # 68,000 rows at 100 a second


def test_an_error_is_named():
    file = io.StringIO()
    with progress(force=True, file=file):
        fail(Work("fold", "moments", n_rows=100), 40)
    assert file.getvalue().startswith("moments: 40 %, 40 of 100 rows, ")
    assert ", ArithmeticError, " in file.getvalue()


def test_many_short_passes_do_not_fill_the_log():
    file = io.StringIO()
    bars = Progress(force=True, file=file)
    lines = _Lines(bars, file)
    for i in range(50):
        work = Work("fold", f"iteration {i}")
        bars.begin(work)
        bars.end(work, ValueError() if i == 20 else None)
    lines.write(0.0)
    told = file.getvalue().splitlines()
    assert [line.split(":")[0] for line in told] == ["... 48 short passes", "iteration 20", "iteration 49"]


def test_one_bar_is_enough():
    outer, inner = io.StringIO(), io.StringIO()
    with progress(force=True, file=outer), progress(force=True, file=inner):
        run()
    assert (outer.getvalue().count("moments of X"), inner.getvalue()) == (1, "")


def test_bars_are_not_shown_twice():
    with progress() as bars, pytest.raises(RuntimeError, match="shown already"), bars:
        pass


@pytest.mark.parametrize("wrong", [{"refresh": 0.0}, {"every": -1.0}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        progress(**wrong)


def test_bars_in_a_terminal(wide):
    terminal = Terminal()
    with progress(file=terminal):
        run(n_rows=100, n_bytes=3_200_000_000, title="[b]moments[/b] of X")
        fail(Work("feed", "SGD", n_rows=200), 50)
        run(title="unknown length")
    shown = text_of(terminal)
    assert re.search(r"\[b\]moments\[/b\] of X ━+ 100 % +100 of 100 rows +\S+ rows/s +\S+ GB/s in ", shown)
    assert re.search(r"SGD +━+╺?╸?━* +25 % +50 of 200 rows +\S+ rows/s +ArithmeticError, ", shown)
    assert re.search(r"unknown length +━+ 100 % +100 rows", shown)


def test_a_narrow_terminal_shows_what_matters(wide, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    terminal = Terminal()
    with progress(file=terminal):
        run(n_rows=100, title="a title that is longer than the terminal is wide, by far")
    last = [line for line in text_of(terminal).splitlines() if "100 %" in line][-1]
    assert len(last.rstrip()) <= 60
    assert "rows/s" not in last
    assert re.search(r"a title .*\N{HORIZONTAL ELLIPSIS} +━+ 100 % in ", last)


def test_finished_passes_do_not_fill_the_screen(wide):
    terminal = Terminal()
    with progress(file=terminal):
        for i in range(20):
            run(title=f"iteration {i}")
    last = text_of(terminal)
    last = last[last.rindex("14 earlier passes") :]
    assert re.findall(r"iteration \d+", last) == [f"iteration {i}" for i in range(14, 20)]


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    with progress(file=terminal):
        run(n_rows=100)
    assert terminal.getvalue().startswith("moments of X: 100 %")
    assert "\x1b" not in terminal.getvalue()


def test_without_rich_one_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with (
        pytest.raises(ImportError, match=re.escape('pip install "ooclearn[progress]"')),
        progress(file=Terminal()),
    ):
        pass
    assert observers() == ()
    # Plain lines need no rich.
    file = io.StringIO()
    with progress(force=True, file=file):
        run()
    assert "moments of X" in file.getvalue()


def test_threads_lose_nothing():
    meters = Meters()
    work = Work("fold", "", n_rows=10**9)
    meters.begin(work)

    def tell():
        for _ in range(5000):
            meters.span(work, span(3, 24, "read"))

    threads = [threading.Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _, (meter,) = meters.take()
    assert (meter.rows, meter.blocks, meter.bytes) == (120_000, 40_000, 960_000)


def test_telling_draws_nothing(wide):
    """Workers only count; whatever the number of spans, what is drawn goes by the clock."""
    terminal = Terminal()
    with progress(file=terminal, refresh=1000.0), working(Work("fold", "", n_rows=10**6)) as work:
        (bars,) = observers()
        drawn = len(terminal.getvalue())
        for _ in range(2000):
            bars.span(work, span(1))
        assert len(terminal.getvalue()) == drawn


def test_spans_of_unknown_passes_are_left_out():
    meters = Meters()
    meters.span(Work("fold", "other"), span(5))
    meters.end(Work("fold", "other"))
    assert meters.take() == ([], [])
    known = Work("fold", "moments")
    meters.begin(known)
    meters.span(Work("fold", "moments"), span(5))  # equal: from another process
    assert meters.take()[1][0].rows == 5


@pytest.mark.parametrize("encoding", ["ascii", "cp932"])
def test_a_log_may_lack_letters(encoding):
    log = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with progress(force=True, file=log), working(Work("fold", "caf\N{LATIN SMALL LETTER E WITH ACUTE}", n_rows=1)):
        pass
    log.seek(0)
    assert re.match(r"caf\\xe9: .* in [0-9.]+ (us|ms)\n", log.read())
