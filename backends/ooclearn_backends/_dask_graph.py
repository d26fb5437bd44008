"""Chunks of Dask arrays, computed a group at a time from one graph that is optimized once."""

from __future__ import annotations

import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ooclearn.config import get_config, n_workers
from ooclearn.exceptions import BackendError, PerformanceWarning, warn
from ooclearn.workers import join_all
from ooclearn_backends._dask_tasks import listed

__all__ = ["Graph", "Groups", "Scheduler", "dask_array", "new_name", "optimized", "scheduler_for"]

Key = Any
# What several groups need is kept for the later ones, up to this many blocks' worth of it.
_KEPT_BLOCKS = 4


def dask_array() -> Any:
    """Return the module ``dask.array``.

    Raises
    ------
    BackendError
        Dask is not installed, or its arrays are of another kind.
    """
    try:
        import dask.array
    except ImportError as error:
        raise BackendError(
            f'the Dask backend needs Dask, which cannot be imported ({error}): pip install "ooclearn[dask]"'
        ) from error
    if dask.config.get("array.query-planning", None):
        raise BackendError(
            "Dask's experimental array.query-planning is switched on, and its arrays are not supported; "
            'switch it off before Dask is imported: dask.config.set({"array.query-planning": False})'
        )
    return dask.array


def new_name(what: str, /) -> str:
    """Return a key that no other graph has: hashing what goes in, as Dask does, would read it."""
    return f"ooclearn-{what}-{uuid.uuid4().hex}"


@dataclass(frozen=True)
class Scheduler:
    """The scheduler that Dask would use now: the user's setting, a cluster's client, or threads.

    Attributes
    ----------
    get : callable
        Takes a graph and keys, returns values.
    client : distributed.Client or None
        Of a cluster, if that is what is used.
    threads : bool
        Tasks run in threads of this process that the scheduler starts.
    sync : bool
        Tasks run in the calling thread.
    remote : bool
        Tasks run in other processes.
    """

    get: Callable[..., Any]
    client: Any = None
    threads: bool = False
    sync: bool = False
    remote: bool = False

    def workers(self) -> int:
        """Return how many threads of this process may work."""
        import dask

        if self.sync:
            return 1
        return int(get_config()["workers"] or dask.config.get("num_workers", None) or n_workers())

    def small(self, graph: dict[Key, Any], keys: list[Key]) -> list[Any]:
        """Compute a small graph from one of several reader threads."""
        import dask

        if self.threads or self.sync or (self.remote and self.client is None):
            # The reader threads are the workers. No callbacks: Dask's are made for one computation at a time.
            return list(dask.get(graph, keys, callbacks=[]))
        return list(self.get(graph, keys))

    def whole(self, graph: dict[Key, Any], key: Key) -> Any:
        """Compute one key of a graph with all workers; when it fails, nothing of it goes on running."""
        import dask

        if not self.threads or dask.config.get("pool", None) is not None:
            return self.get(graph, key)
        # Dask's own pool would finish, behind the caller's back, what was begun before an error or Ctrl-C.
        mark, begun = f"ooclearn-{uuid.uuid4().hex}", list[threading.Thread]()
        pool = ThreadPoolExecutor(self.workers(), thread_name_prefix=mark, initializer=_begin, initargs=(begun,))
        try:
            return self.get(graph, key, pool=pool)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            # The pool itself would not wait for a thread that Ctrl-C came upon in the middle of being started.
            waiting = [thread for thread in threading.enumerate() if thread.name.startswith(mark)]
            join_all([*waiting, *begun])


def _begin(begun: list[threading.Thread]) -> None:
    """Take note of the thread that this is, and give it the name that timelines know."""
    thread = threading.current_thread()
    begun.append(thread)
    thread.name = f"worker-{len(begun) - 1}"


def scheduler_for(array: Any, /) -> Scheduler:
    """Return the scheduler that would compute `array` if its user asked now."""
    import dask.base
    import dask.multiprocessing
    import dask.threaded

    get = dask.base.get_scheduler(collections=[array])
    client = getattr(get, "__self__", None)
    if client is not None and hasattr(client, "submit") and hasattr(client, "gather"):
        return Scheduler(get, client=client, remote=True)
    return Scheduler(
        get,
        threads=get is dask.threaded.get,
        sync=get is dask.get,
        remote=get is dask.multiprocessing.get,
    )


def optimized(array: Any, /) -> tuple[dict[Key, Any], list[Key]]:
    """Return the optimized graph of a Dask array, and the keys of its chunks."""
    import dask

    (array,) = dask.optimize(array)
    return dict(array.__dask_graph__()), list(_flat(array.__dask_keys__()))


class Graph:
    """One task for each block of several arrays, which gives its chunks as a list.

    Parameters
    ----------
    arrays : sequence of dask.array.Array
        Cut into chunks by rows alone, as many in each.
    """

    def __init__(self, arrays: Sequence[Any]) -> None:
        from dask.highlevelgraph import HighLevelGraph

        name = new_name("blocks")
        chunks = [list(_flat(array.__dask_keys__())) for array in arrays]
        tasks = {(name, i): (listed, *keys) for i, keys in enumerate(zip(*chunks, strict=True))}
        # Optimized as one: what arrays have in common is one task, and the rest is one with its block.
        graph = HighLevelGraph.from_collections(name, tasks, dependencies=list(arrays))
        self.tasks, self.keys = optimized(dask_array().Array(graph, name, ((1,) * len(tasks),), dtype=object))

    def needs(self, key: Key) -> Collection[Key]:
        """Return the keys that the task `key` takes in."""
        from dask.core import get_dependencies

        needs: Collection[Key] = get_dependencies(self.tasks, key)
        return needs

    def part(self, keys: Sequence[Key], known: dict[Key, Any] | None = None) -> dict[Key, Any]:
        """Return the graph of these keys alone; what is `known` is put in as values."""
        from dask.core import literal

        known = known or {}
        out: dict[Key, Any] = {}
        left = list(keys)
        while left:
            key = left.pop()
            if key in out:
                continue
            if key in known:
                out[key] = (literal(known[key]),)
                continue
            out[key] = self.tasks[key]
            left.extend(self.needs(key))
        return out


def _flat(keys: Any) -> Iterator[Key]:
    for key in keys:
        if isinstance(key, list):
            yield from _flat(key)
        else:
            yield key


class Groups:
    """Groups of chunks, computed one group at a time, in order, by several threads or on a cluster.

    Chunks may depend on one another: a chunk that was cut in two, a mean that is subtracted from all. What
    several groups need is computed for the first and kept for the others, while there is room; else it is
    computed again.

    Parameters
    ----------
    arrays : sequence of dask.array.Array
        The parts of a table, cut at the same rows.
    groups : sequence of sequence of int
        The numbers of the chunks of each group.
    scheduler : Scheduler
        Computes them.
    ahead : int
        How many groups are computed before the one that is waited for.
    """

    def __init__(
        self, arrays: Sequence[Any], groups: Sequence[Sequence[int]], scheduler: Scheduler, *, ahead: int = 0
    ) -> None:
        self._graph = Graph(arrays)
        self._groups = groups
        self._scheduler = scheduler
        self._ahead = ahead
        users = self._find_shared()
        self._shared = frozenset(users)
        self._lock = threading.Lock()
        self._users = {key: set(groups) for key, groups in users.items()}
        self._needed: dict[int, list[Key]] = defaultdict(list)
        for key, some in users.items():
            for g in some:
                self._needed[g].append(key)
        self._kept: dict[Key, Future[Any]] = {}
        self._computed: set[Key] = set()
        self._held: dict[Key, Any] = {}
        self._warned = False

    def keys(self, g: int) -> list[Key]:
        """Return the keys of the blocks of group `g`."""
        return [self._graph.keys[i] for i in self._groups[g]]

    def _find_shared(self) -> dict[Key, list[int]]:
        """Return the tasks at which the graph of a group meets another's, and which groups need them."""
        first: dict[Key, int] = {}
        met: set[Key] = set()
        outputs = [self.keys(g) for g in range(len(self._groups))]
        for g, keys in enumerate(outputs):
            left = list(keys)
            while left:
                key = left.pop()
                if key not in first:
                    first[key] = g
                    left.extend(self._graph.needs(key))
                elif first[key] != g:
                    met.add(key)
        users: dict[Key, list[int]] = defaultdict(list)
        if met:
            for g, keys in enumerate(outputs):
                for key in self._frontier(keys, met):
                    users[key].append(g)
        return {key: groups for key, groups in users.items() if len(groups) > 1}

    def _frontier(self, keys: Collection[Key], met: Collection[Key]) -> list[Key]:
        """Return the tasks of `met` that are come to first from `keys`; not values, which cost nothing."""
        from dask.core import istask

        found = []
        seen = set(keys)
        left = list(keys)
        while left:
            key = left.pop()
            if key in met and istask(self._graph.tasks[key]):
                found.append(key)
                continue
            for need in self._graph.needs(key):
                if need not in seen:
                    seen.add(need)
                    left.append(need)
        return found

    # In this process.

    def compute(self, g: int) -> list[Any]:
        """Return the chunks of each block of group `g`; runs in a reader thread."""
        if self._scheduler.client is not None:
            with self._lock:
                futures = self.submit(g)
            try:
                blocks: list[Any] = self._scheduler.client.gather(futures)
            finally:
                # Now, and not when an error that holds this frame is forgotten.
                for future in futures:
                    future.release()
            return blocks
        keys = self.keys(g)
        known = self._known(keys) if self._shared else {}
        blocks = self._scheduler.small(self._graph.part(keys, known), keys)
        if known:
            del known
            self._let_go(g, blocks)
        return blocks

    def _known(self, keys: Sequence[Key]) -> dict[Key, Any]:
        """Return what these keys need and other groups do too, computed by this thread or by another."""
        frontier = self._frontier(keys, self._shared)
        with self._lock:
            there = {key: future.result() for key, future in self._kept.items() if future.done()}
            futures = {key: self._kept[key] for key in frontier if key in self._kept}
            mine: dict[Key, Future[Any]] = {key: Future() for key in frontier if key not in futures}
            self._kept.update(mine)
            again = not self._computed.isdisjoint(mine) and not self._warned
            self._warned = self._warned or again
            self._computed.update(mine)
        if mine:
            try:
                if again:
                    _warn_again()
                values = self._scheduler.small(self._graph.part(list(mine), there), list(mine))
            except BaseException as error:
                with self._lock:
                    for key in mine:
                        self._kept.pop(key, None)
                for future in mine.values():
                    future.set_exception(error)
                raise
            for future, value in zip(mine.values(), values, strict=True):
                future.set_result(value)
        return {key: future.result() for key, future in (futures | mine).items()}

    def _let_go(self, g: int, blocks: list[Any]) -> None:
        """Forget what no later group needs, and what there is no room for: first what is needed last.

        Two are kept in any case: a large chunk that is cut into many is needed by each group in turn.
        """
        from dask.sizeof import sizeof

        room = max(_KEPT_BLOCKS * get_config()["block_bytes"], 2 * (self._ahead + 1) * sizeof(blocks))
        with self._lock:
            self._used(g, self._kept)
            sizes = {key: sizeof(future.result()) for key, future in self._kept.items() if future.done()}
            taken = 0
            for k, key in enumerate(sorted(sizes, key=lambda key: min(self._users[key]))):
                taken += sizes[key]
                if k >= 2 and taken > room:
                    del self._kept[key]

    def _used(self, g: int, kept: dict[Key, Any]) -> None:
        """Note that group `g` has what it needs; forget what no other does."""
        for key in self._needed[g]:
            self._users[key].discard(g)
            if not self._users[key]:
                kept.pop(key, None)

    # On a cluster.

    def submit(self, g: int) -> list[Any]:
        """Start computing group `g` on the cluster; return the futures of its blocks."""
        keys = self.keys(g)
        frontier = self._frontier(keys, self._shared) if self._shared else []
        wanted = list(dict.fromkeys([*keys, *frontier]))
        got = self._scheduler.client.get(self._graph.part(wanted), wanted, sync=False)
        futures = dict(zip(wanted, got, strict=True))
        # A cluster keeps what a future of ours stands for, on disk if need be.
        self._held.update((key, futures[key]) for key in frontier)
        self._used(g, self._held)
        return [futures[key] for key in keys]

    def close(self) -> None:
        """Let go of everything."""
        self._kept.clear()
        self._held.clear()


def _warn_again() -> None:
    message = (
        "the chunks of this Dask array depend on one another (a shuffle, a reduction, other chunks before), "
        "and what they share takes too much memory to be kept: parts of it are computed again. Store or "
        "persist() the array first"
    )
    warn(message, PerformanceWarning)
