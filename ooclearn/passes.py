"""The driver: fits say what they need, the driver reads the table as few times as it can, and answers.

A fit is a coroutine that yields requests (a :class:`~ooclearn.statistics.Statistic` or a
:class:`~ooclearn.feeds.Feed`) and is sent their answers. The driver holds one coroutine a stage and goes round:

1. It takes the pending request of each stage. One that reads only the targets can be answered at any time. One that
   reads X is answered through the composed row map of the stages above, if they are fitted. If some are not, it is
   seen through: each of them says what kind of map it will be, and the statistic says what to ask of the input of
   such a map instead. If there is nothing to ask, the stage waits: a barrier.
2. It makes one pass that answers all that can be answered; each block is read once, equal requests once, and one that
   another contains not at all.
3. It sends the answers in stage order, carried through the maps that the answers before have fitted, until every
   coroutine has returned.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ooclearn._namespace import run_of
from ooclearn.buffers import Buffers
from ooclearn.config import get_config
from ooclearn.events import Work, record, working
from ooclearn.exceptions import BlockMemoryError, DataError
from ooclearn.feeds import Feed, Grouped, blocks_at_a_time, consuming, read_ahead
from ooclearn.preparation import Preparation, Prepare
from ooclearn.rowmaps import Affine, Kind, RowMap, compose
from ooclearn.sharing import sharing
from ooclearn.statistics.join import Join, Through, Unweighted
from ooclearn.statistics.protocol import MergeTree, Statistic, after, before, contained, parts_of
from ooclearn.table import Rows, Table

__all__ = ["Asked", "Fit", "Request", "Stage", "read_ahead", "rounds", "run"]

Request: TypeAlias = Statistic[Any] | Feed
Fit: TypeAlias = Generator[Request, Any, None]


@dataclass(eq=False)
class Stage:
    """One fit and where its rows come from.

    Attributes
    ----------
    name : str
        For plans and messages.
    fit : generator
        Yields requests, is sent answers.
    row_map : callable
        Returns what the stage does to rows, once it is fitted; None leaves them as they are.
    above : Stage or None
        The stage whose rows come in.
    carrying : callable or None
        Returns the row map in the form in which states are carried through it, where that is another.
    parts : sequence of Stage
        For a stage that puts the rows of branches side by side, all the stages of these: it is fitted when they are.
    weighted : bool
        Whether the table's sample weights are meant for this stage.
    kind : Kind or None
        What kind of map it will be, known before it is fitted; None if statistics cannot be seen through it.
    rides : bool
        Whether it waits for a pass that feeds others, and is answered beside.
    made_of : object or None
        For a plan: what will be fitted. Stages made of what has the same pickle will do the same to the same rows.
    """

    name: str
    fit: Fit
    row_map: Callable[[], RowMap | None] = lambda: None
    above: Stage | None = None
    parts: Sequence[Stage] = ()
    weighted: bool = True
    kind: Kind | None = None
    rides: bool = False
    carrying: Callable[[], RowMap] | None = None
    made_of: Any = None
    held: tuple[Any, Seen] | None = field(default=None, init=False)
    pending: Request | None = field(default=None, init=False)
    ended: bool = field(default=False, init=False)

    @property
    def done(self) -> bool:
        """Whether it is fitted."""
        return self.ended and all(part.done for part in self.parts)

    def waits_for(self) -> Stage | None:
        """Return the nearest stage above that is not fitted."""
        stage = self.above
        waiting = None
        while stage is not None:
            if not stage.done:
                waiting = stage
            stage = stage.above
        return waiting

    def see_through(self) -> Seen | None:
        """Return how the pending request is seen through the stages above that are not fitted; None if it is not."""
        last = self.waits_for()
        seen = Seen((), (self.pending,))
        stage = self.above
        while last is not None and (not seen.stages or seen.stages[-1] is not last):
            assert stage is not None
            # Also of one that has nothing to fit: what it does may depend on the stages above it.
            question = before(seen.statistics[-1], stage.kind)
            if question is None:
                return None
            seen = Seen((*seen.stages, stage), (*seen.statistics, question))
            stage = stage.above
        return seen

    def through(self) -> RowMap | None:
        """Return the composed row map of the stages above; they are fitted."""
        return _map_of(self.above)

    def expected(self) -> Any:
        """Return what stands for the composed row map before the stages above are fitted; None if there is none."""
        stage, found = self.above, []
        while stage is not None:
            # What is made of nobody knows what is like no other: a stage cannot be pickled.
            found.append(stage if stage.made_of is None else (stage.made_of, stage.weighted))
            stage = stage.above
        return found or None

    def take(self, answer: Any, seen: Seen) -> None:
        """Take an answer; it is sent when the stages that it was seen through are fitted."""
        self.held = (answer, seen)

    def go_on(self) -> bool:
        """Send the answer that is held, if it can be; say whether it was sent."""
        if self.held is None or not all(stage.done for stage in self.held[1].stages):
            return False
        answer, seen = self.held
        self.held = None
        self.send(answer if answer is None else seen.carried(answer))
        return True

    def send(self, answer: Any) -> None:
        """Let the fit go on to its next request, or to its end."""
        try:
            self.pending = self.fit.send(answer)
        except StopIteration:
            self.pending, self.ended = None, True


def _map_of(stage: Stage | None) -> RowMap | None:
    """Return the composed row map of a stage and those above it; they are fitted."""
    maps: list[RowMap | None] = []
    while stage is not None:
        maps.append(stage.row_map())
        stage = stage.above
    maps = [row_map for row_map in maps if row_map is not None]
    return compose(*reversed(maps)) if maps else None


@dataclass(frozen=True, eq=False)
class Seen:
    """A request that is seen through stages.

    Attributes
    ----------
    stages : tuple of Stage
        The nearest to who asks first; not fitted, or below one that is not.
    statistics : tuple of Statistic
        The request, what is asked of the input of the first stage instead, and so on.
    """

    stages: tuple[Stage, ...]
    statistics: tuple[Any, ...]

    def carried(self, state: Any) -> Any:
        """Return the answer to the request; the stages are fitted now."""
        for stage, statistic in zip(reversed(self.stages), reversed(self.statistics[:-1]), strict=True):
            row_map = stage.row_map() if stage.carrying is None else stage.carrying()
            state = after(statistic, state, Affine() if row_map is None else row_map)
        return state


@dataclass(frozen=True, eq=False)
class Asked:
    """A request that the coming pass answers."""

    stage: Stage
    request: Request
    seen: Seen

    @property
    def question(self) -> Any:
        """What is asked of the rows of the table, which the fitted stages above all that is seen through map."""
        statistic: Any = self.seen.statistics[-1]
        if not self.stage.weighted:
            statistic = Unweighted(statistic)
        if "X" not in parts_of(self.request):
            return statistic
        row_map = _map_of(self.seen.stages[-1].above if self.seen.stages else self.stage.above)
        return statistic if row_map is None else Through(statistic, row_map)


def rounds(stages: Sequence[Stage]) -> Generator[list[Asked], list[Any], None]:
    """Yield what each pass is to answer, and be sent the answers."""
    for stage in stages:
        stage.send(None)
    while not all(stage.done for stage in stages):
        asked = list(_answerable(stages))
        feeds = [one.request for one in asked if isinstance(one.request, Feed)]
        # Feeds that want another order than the first get a pass of their own.
        now = [a for a in asked if not isinstance(a.request, Feed) or a.request.order == feeds[0].order]
        if not feeds and not all(one.stage.rides for one in now):
            now = [one for one in now if not one.stage.rides]
        answers = yield now
        for one, answer in zip(now, answers, strict=True):
            one.stage.take(answer, one.seen)
        # A stage that is fitted by its answer may let those below it go on.
        while any(stage.go_on() for stage in stages):
            continue


def _answerable(stages: Sequence[Stage]) -> Iterator[Asked]:
    """Yield the requests that can be answered now, through maps that are fitted or seen through those that are not."""
    for stage in stages:
        request = stage.pending
        if request is None or stage.held is not None:
            continue
        if "X" not in parts_of(request):
            yield Asked(stage, request, Seen((), (request,)))
        elif (seen := stage.see_through()) is not None:
            yield Asked(stage, request, seen)


def run(stages: Sequence[Stage], table: Table) -> int:
    """Fit all stages; return how many passes it took.

    Parameters
    ----------
    stages : sequence of Stage
        Those above before those below.
    table : Table
        What is read.
    """
    passes = 0
    with ExitStack() as stack:
        for stage in stages:
            stack.callback(stage.fit.close)
        if get_config()["progress"]:
            from ooclearn.diagnostics import progress  # only where a bar is wanted

            stack.enter_context(progress())
        stack.enter_context(table.X.held(table.parts[1:]))
        driver = rounds(stages)
        try:
            asked = next(driver)
            while True:
                passes += 1
                asked = driver.send(_answered(asked, table, passes))
        except StopIteration:
            return passes


def _answered(asked: Sequence[Asked], table: Table, number: int) -> list[Any]:
    parts = frozenset[str]().union(*(parts_of(one.request) for one in asked))
    table = table.only(parts)
    feeds = [one for one in asked if isinstance(one.request, Feed)]
    names = ", ".join(dict.fromkeys(_title(one.request) for one in asked))
    work = Work("feed" if feeds else "fold", f"pass {number}: {names}", table.n_rows, table.nbytes, table.n_blocks)
    questions = [None if isinstance(one.request, Feed) else one.question for one in asked]
    join = Join(**{f"q{k}": statistic for k, statistic in enumerate(asked_for(questions))})
    states = _fed(feeds, join, table, work) if feeds else table.backend.fold(table, join, work=work)
    return [None if question is None else _answer(question, join, states) for question in questions]


def asked_for(questions: Iterable[Any], /) -> list[Statistic[Any]]:
    """Return what is to be asked: equal questions once, and those that another contains not at all."""
    once: list[Statistic[Any]] = []
    for question in questions:
        if question is not None and question not in once:
            once.append(question)
    asked = list(once)
    for one in once:
        # One by one: of two that contain each other, the same columns in another order, one is asked.
        if any(contained(other, one) for other in asked if other is not one):
            asked.remove(one)
    return asked


def _answer(question: Any, join: Join, states: dict[str, Any]) -> Any:
    for key, statistic in join.statistics.items():
        if statistic == question:
            return states[key]
    for key, statistic in join.statistics.items():
        taken = contained(statistic, question)
        if taken is not None:
            return taken(states[key])
    raise AssertionError(f"{question!r} was not asked")


def _title(request: Request) -> str:
    return request.title if isinstance(request, Feed) else type(request).__name__


def _fed(feeds: Sequence[Asked], join: Join, table: Table, work: Work) -> Any:
    requests = [one.request for one in feeds if isinstance(one.request, Feed)]
    first = requests[0]
    if all(request.host for request in requests):
        table = table.on_host()
    maps = [one.stage.through() for one in feeds]
    shared = sharing(requests, maps, [one.stage.weighted for one in feeds])
    grouped = Grouped(table, first.order, len(shared.prepared))
    refuse_over_limit(grouped)
    ahead = read_ahead()
    buffers = Buffers(keep=2 * ahead * len(shared.prepared))
    wanted = [(maps[k], requests[k]) for k in shared.prepared]
    fed = [Preparation(row_map, one.finite, buffers, one.host, one.notices) for row_map, one in wanted]
    together = [(way, [requests[k] for k in members], feeds[members[0]].stage) for way, members in shared.fed]
    checks = [members[0].check for _, members, _ in together if members[0].check is not None]
    prepare = Prepare(grouped, checks, join, fed)
    tree: MergeTree[Any] = MergeTree(join)
    stream = table.backend.stream(grouped.table, grouped.groups, prepare, ahead=ahead, work=work)
    with working(work), closing(stream), ExitStack() as stack:  # type: ignore[type-var]  # backends return generators
        given = [(way, members[0], stage, stack.enter_context(consuming(members))) for way, members, stage in together]
        for i, (prepared, state, refused) in enumerate(_waited(stream, work, grouped)):
            if refused is not None:
                raise grouped.located(refused, i) from refused.__cause__
            if join.statistics:
                tree.add(state)
            n = prepared[0].n
            with record(work, "fit", i, n):
                for way, request, stage, consume in given:
                    rows = prepared[way]
                    meant = rows if stage.weighted else Rows(rows.X, rows.y)
                    try:
                        for part in _cut(meant, first.order.block_rows):
                            consume(part)
                    except DataError as error:
                        raise grouped.located(error, i) from error.__cause__
                    except Exception as error:
                        error.add_note(f"while feeding block {i} of {table.X.name} to {request.title}")
                        raise
            del prepared, rows, meant, part
    return tree.result()


def _waited(stream: Iterator[Any], work: Work, grouped: Grouped) -> Iterator[Any]:
    """Yield from `stream`, telling observers how long each block was waited for."""
    while True:
        try:
            with record(work, "wait"):
                item = next(stream, None)
        except DataError as error:
            # It says where in the source it arose; which block of the table that is, is known here.
            raise grouped.located(error, 0) from error.__cause__
        if item is None:
            return
        yield item


def _cut(rows: Rows, block_rows: int | None) -> Iterator[Rows]:
    """Yield the rows in blocks of about `block_rows`, where a backend could not cut them so."""
    n = rows.n
    if block_rows is None or n <= block_rows:
        yield rows
        return
    for start in range(0, n, block_rows):
        parts = [
            None if part is None else run_of(part, start, min(start + block_rows, n))
            for part in (rows.X, rows.y, rows.w)
        ]
        yield Rows(*parts)


def feed_memory(grouped: Grouped) -> int:
    """Return the bytes that the blocks of a feed take at a time: each as read, and as prepared in each way."""
    row_bytes = sum(part.row_bytes for part in grouped.table.parts)
    return blocks_at_a_time(grouped.prepared) * grouped.largest * row_bytes


def refuse_over_limit(grouped: Grouped) -> None:
    """Raise if the blocks of a feed would take more memory than ``memory_limit``."""
    limit = get_config()["memory_limit"]
    need = feed_memory(grouped)
    if limit is not None and need > limit:
        row_bytes = max(1, sum(part.row_bytes for part in grouped.table.parts))
        fits = limit // (blocks_at_a_time(grouped.prepared) * row_bytes)
        prepared = "prepared" if grouped.prepared == 1 else f"prepared in {grouped.prepared} ways"
        raise BlockMemoryError(
            f"feeding blocks of {grouped.largest:,} rows takes {need:,} bytes ({read_ahead() + 1} blocks of "
            f"{grouped.largest * row_bytes:,} bytes at a time, as read and as {prepared}), memory_limit is {limit:,}; "
            + (f"set block_rows to {fits:,} or less" if fits else "not even one row at a time would fit")
        )
