"""Runs on a Dask cluster: the bytes of --jobs 1, whatever happens to a worker."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from lab import parallel

import pytest

distributed = pytest.importorskip(
    "distributed", reason="needs an optional package: pip install dask[distributed]"
)

HW1 = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def cluster(folder, workers=2, **settings):
    """Yield the address of a scheduler on loopback and its workers, processes of their own."""
    file = folder / "scheduler.json"
    where = ["--scheduler-file", file, "--host", "127.0.0.1", "--no-dashboard"]
    worker = ["--nthreads", "1", "--no-nanny", "--local-directory", folder]
    roles = [["scheduler", *where, "--port", "0"]] + [["worker", *where, *worker]] * workers
    environment = os.environ | settings
    processes = []
    try:
        for role, *words in roles:
            command = [sys.executable, "-m", f"distributed.cli.dask_{role}", *map(str, words)]
            with (folder / "cluster.log").open("a") as log:
                processes.append(
                    subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
                )
        wait_for(file.exists)
        address = next(w.strip(' ",') for w in file.read_text().split() if "tcp://" in w)
        yield address, processes[1:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@contextlib.contextmanager
def started(out, *flags):
    command = [sys.executable, HW1 / "random_labels.py", "--dataset", "digits", "--quick"]
    command += ["--epochs", "200", "--out", out, *flags]
    with subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_same_bytes_though_a_worker_is_killed(tmp_path):
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    finished = (spread / "checkpoints" / "random_labels_digits").glob
    with cluster(tmp_path) as (address, workers), started(spread, "--dask", address) as script:
        wait_for(lambda: any(finished("*.state")) or script.poll() is not None)
        assert len(list(finished("*.state"))) < 7 and workers[0].poll() is None
        workers[0].send_signal(signal.SIGKILL)
        script.communicate()
        assert script.returncode == 0 and workers[1].poll() is None
    with started(alone, "--jobs", "1") as script:
        script.communicate()
    assert len(list(finished("*.state"))) == 7
    log = Path("logs", "random_labels_digits.csv")
    assert (spread / log).read_bytes() == (alone / log).read_bytes()


def fatal_if_two(number):
    if number == 2:
        os._exit(1)
    return number * number


def test_a_call_that_kills_its_worker_is_named_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setitem(fatal_if_two.__globals__, "__name__", "__main__")  # travels by value
    monkeypatch.setattr(fatal_if_two, "__module__", "__main__")
    # A worker a call: with no failure allowed, what is queued on a killed worker is lost with it.
    with cluster(tmp_path, 4, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0") as (address, _):
        with distributed.Client(address) as client:
            client.wait_for_workers(4, timeout=60)
        args = SimpleNamespace(dask=address, jobs=1, script="test")
        calls = {number: (number,) for number in range(4)}
        found = list(parallel.side_by_side(args, "poison", fatal_if_two, calls))
    assert (2, None, parallel.KILLED) in found
    assert {key: value for key, value, _ in found} == {0: 0, 1: 1, 2: None, 3: 9}


def test_no_scheduler_is_one_sentence(tmp_path):
    with started(tmp_path, "--dask", "127.0.0.1:1") as script:
        error = script.communicate()[1].splitlines()[-1]
    assert script.returncode == 2 and error.startswith("random_labels: error: no Dask scheduler")


def test_workers_of_several_threads_are_refused(monkeypatch):
    class Client(contextlib.nullcontext):
        def __init__(self, address, timeout):
            super().__init__(self)

        def nthreads(self):
            return {"one": 1, "two": 2}

    monkeypatch.setattr("dask.distributed.Client", Client)
    monkeypatch.setattr(parallel, "_dask_backend", lambda client: "threading")
    with (
        pytest.raises(OSError, match="--nthreads 1"),
        parallel._backend(SimpleNamespace(dask="there"), 1),
    ):
        pass
