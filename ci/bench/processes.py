"""A way to do the job in a process of its own, whose memory is limited and watched from outside."""

from __future__ import annotations

import json
import re
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Self

__all__ = ["GIB", "Rival", "RivalError", "available_memory"]

GIB = 2**30


class RivalError(RuntimeError):
    """A rival did not answer; says why in a few words."""


class Rival:
    """One way to do the job, in a process that is asked by lines, so that several stay warm side by side.

    Parameters
    ----------
    name : str
        As the script knows it.
    folder : Path
        Where the table is.
    memory : int or None
        Bytes the process may take beyond what it holds when its imports are done; enforced by the system.
    timeout : float
        Seconds to wait for an answer.
    script : str
        The file beside this one that has the ways.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        memory: int | None = None,
        timeout: float = 600.0,
        script: str = "rivals.py",
    ) -> None:
        self.name = name
        self.memory = memory
        self.timeout = timeout
        self.peak = 0
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  (closed with the process)
        command = [sys.executable, str(Path(__file__).with_name(script)), name, str(folder)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, bufsize=1
        )
        self._stop, self._busy = threading.Event(), threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self.before = 0

    def __enter__(self) -> Self:
        try:
            self._answer()
            self.before = self.peak = self._status("RssAnon") or 0
            if memory := self.memory:
                hard = resource.prlimit(self._process.pid, resource.RLIMIT_DATA)[1]
                limit = (self._status("VmData") or 0) + memory
                resource.prlimit(self._process.pid, resource.RLIMIT_DATA, (limit, hard))
        except BaseException:
            self._end()
            raise
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._stop.set()
        self._sampler.join()
        self._end()

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:  # what was not sent to a process that is gone
                continue

    def ask(self, command: str) -> dict[str, Any]:
        """Let the rival do `command`; return what it answers, with ``seconds`` and the ``peak`` until now.

        Raises
        ------
        RivalError
            It failed, ended, or took too long.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RivalError(self._reason()) from None
        self._busy.set()
        try:
            answer = self._answer()
        finally:
            self._busy.clear()
        answer["peak"] = self.peak = max(self.peak, self._status("RssAnon") or 0)
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(self.timeout):
                raise RivalError(f"no answer in {self.timeout:,.0f} s")
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise RivalError(self._reason())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RivalError(answer["error"])
        return answer

    def _reason(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        last = [line for line in self._errors.read().splitlines() if line.strip()][-1:]
        if last and "Memory allocation still failed" in last[0]:  # OpenBLAS ends the process itself
            return "out of memory"
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return f"{how}: {last[0][:120]}" if last else how

    def _status(self, field: str) -> int | None:
        try:
            text = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        except OSError:
            return None
        found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
        return int(found[1]) * 1024 if found else None

    def _sample(self) -> None:
        # Only while it works, and not so often that those who wait would slow it down.
        while not self._stop.wait(0.03):
            if not self._busy.is_set():
                self._busy.wait(1.0)
                continue
            self.peak = max(self.peak, self._status("RssAnon") or 0)


def available_memory() -> int:
    """Return how many bytes the system can give to programs now."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
