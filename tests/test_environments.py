"""What other systems lack, and what a process may be short of: system calls, a home, open files, threads after a fork."""

from __future__ import annotations

import os
import subprocess
import sys
from textwrap import dedent

import numpy as np
import pytest

X = np.random.default_rng(0).normal(size=(3000, 4))
Y = (X[:, 0] > 0).astype(np.int64)

ABSENT_ON_MACOS = ("posix_fadvise", "posix_fallocate", "POSIX_FADV_WILLNEED", "RWF_NOWAIT")
ABSENT_ON_WINDOWS = (*ABSENT_ON_MACOS, "preadv", "pread", "pwrite", "fork", "register_at_fork", "sysconf")

# Third-party modules are imported before, since they know the system by other signs.
LESS = """
    import io, os, sys, pathlib
    import joblib, numpy, scipy.linalg, sklearn.linear_model, sklearn.pipeline

    for name in {absent!r}:
        if hasattr(os, name):
            delattr(os, name)
    for name in {blocked!r}:
        sys.modules[name] = None
    opened = io.open

    def without_proc(path, *args, **options):
        caller = sys._getframe(1).f_code.co_filename
        if str(path).startswith("/proc/") and ("ooclearn" in caller or "pathlib" in caller):
            raise FileNotFoundError(2, "no such file", str(path))
        return opened(path, *args, **options)

    io.open = __builtins__.open = without_proc
"""

# Windows neither renames nor removes a file that is open.
NO_RENAME = """
    def refusing(function):
        def refuse(path, *others, **options):
            held = {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
            if held & {os.path.realpath(one) for one in (path, *others)}:
                raise PermissionError(13, "the process cannot access the file", str(path))
            return function(path, *others, **options)
        return refuse

    os.replace, os.rename, os.unlink, os.remove = map(refusing, (os.replace, os.rename, os.unlink, os.remove))
"""

WORK = """
    import numpy as np
    import sklearn.linear_model
    import ooclearn
    from ooclearn import Incremental, make_pipeline
    from ooclearn.diagnostics import timeline
    from ooclearn.linear_model import LogisticRegression
    from ooclearn.preprocessing import StandardScaler

    X, y = ooclearn.scan("X.npy", block_rows=700), ooclearn.scan("y.npy")
    with timeline() as record:
        for last in (LogisticRegression(), Incremental(sklearn.linear_model.SGDClassifier(random_state=0))):
            for rows in (X, np.load("X.npy", mmap_mode="r"), ooclearn.scan(["X.npy"])):
                model = make_pipeline(StandardScaler(), last)
                assert model.explain(rows, y).n_passes > 0
                model.fit(rows, y).predict(rows).to_npy("out.npy")
                assert (np.load("out.npy") == np.load("y.npy")).mean() > 0.9
    record.to_html("timeline.html")
    StandardScaler().fit(X).transform(X).to_npy("out.npy")
    assert abs(np.load("out.npy").mean()) < 1e-12
    print("done")
"""


def ran(folder, *parts, **environment):
    """Run a program in a process of its own that sees a small table in `folder`; return what it printed."""
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", Y)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-"],
        input="\n".join(map(dedent, parts)),
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="takes away what Linux has")
@pytest.mark.parametrize("system", ["macOS", "Windows"])
def test_what_other_systems_lack_is_not_needed(tmp_path, system):
    if system == "macOS":
        less = LESS.format(absent=ABSENT_ON_MACOS, blocked=("psutil",))
    else:
        less = LESS.format(absent=ABSENT_ON_WINDOWS, blocked=("psutil", "resource", "fcntl", "pwd")) + NO_RENAME
    assert ran(tmp_path, less, WORK, HOME=str(tmp_path / "none"), TMPDIR=str(tmp_path / "none")) == "done\n"


def test_many_files_take_few_descriptors(tmp_path):
    pytest.importorskip("resource", reason="limits of open files are set by it")
    program = """
        import os, resource
        import numpy as np
        import ooclearn
        from ooclearn.preprocessing import StandardScaler

        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        os.mkdir("parts")
        for i in range(200):
            np.save(f"parts/{i:03}.npy", np.full((5, 2), i, dtype=float))
        blocks = ooclearn.scan("parts")
        StandardScaler().fit(blocks).transform(blocks).to_npy("out.npy")
        maps = ooclearn.scan([np.load(f"parts/{i:03}.npy", mmap_mode="r") for i in range(40)])
        print(StandardScaler().fit(maps).mean_[0])
    """
    assert ran(tmp_path, program) == "19.5\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_of_fork_fits_whatever_threads_of_its_parent_were_at(tmp_path):
    program = """
        import os, signal, threading
        import numpy as np
        import ooclearn.backend
        from ooclearn import events
        from ooclearn.base import busy
        from ooclearn.preprocessing import StandardScaler

        class Drawing(events.Observer):
            lock = threading.Lock()

            def begin(self, work):
                with self.lock:
                    pass

        scaler, watcher = StandardScaler(), Drawing()
        held, over = threading.Event(), threading.Event()

        def hold():
            with busy(scaler), watcher.lock, events._lock, ooclearn.backend._lock, ooclearn.config._lock:
                held.set()
                over.wait()

        thread = threading.Thread(target=hold)
        with events.observe(watcher):
            thread.start()
            held.wait()
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                ooclearn.set_config(workers=1)
                scaler.fit(np.ones((4, 2)))
                os._exit(7)
            status = os.waitpid(child, 0)[1]
            over.set()
            thread.join()
        print(os.waitstatus_to_exitcode(status))
    """
    quiet = "import warnings; warnings.simplefilter('ignore', DeprecationWarning)  # of forks where there are threads\n"
    assert ran(tmp_path, quiet, program) == "7\n"
