"""Runs on a Dask cluster: the bytes of --jobs 1, whatever happens to a worker."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from lab import cluster as lab_cluster
from lab import parallel

import kill
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
    command += ["--epochs", "40", "--seeds", "0", "--out", out, *flags]
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
        assert len(list(finished("*.state"))) < 5 and workers[0].poll() is None
        workers[0].send_signal(signal.SIGKILL)
        script.communicate()
        assert script.returncode == 0 and workers[1].poll() is None
    with started(alone, "--jobs", "1") as script:
        script.communicate()
    assert len(list(finished("*.state"))) == 5
    log = Path("logs", "random_labels_digits.csv")
    assert (spread / log).read_bytes() == (alone / log).read_bytes()


def fatal_if_two(report, number):
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
        calls = {number: (number,) for number in range(4)}
        with parallel.workers(1, address) as found:
            ends = list(parallel.side_by_side(found, "poison", fatal_if_two, calls))
    assert (2, None, parallel.KILLED) in ends
    assert {key: value for key, value, _ in ends} == {0: 0, 1: 1, 2: None, 3: 9}


def test_no_scheduler_is_one_sentence(tmp_path):
    with started(tmp_path, "--dask", "127.0.0.1:1") as script:
        error = script.communicate()[1].splitlines()[-1]
    assert script.returncode == 2
    assert error.startswith("random_labels: error: no Dask scheduler")
    with pytest.raises(OSError, match="no Dask scheduler answers at garbage"):
        parallel.workers(1, "garbage")


MEASURE = """
import sys
from lab import cluster as lab_cluster
from lab import parallel
import data

def loss(report):
    return data.seed_for(0, "x")

if __name__ == "__main__":
    with parallel.workers(1, sys.argv[1]) as found:
        print(*parallel.side_by_side(found, "one", loss, {0: ()}))
"""


def test_a_worker_that_stays_up_computes_with_the_code_of_today(tmp_path):
    """It went on with the modules that it had imported, and the results were kept as the new
    code's."""
    hw1 = kill.copy_of_hw1(tmp_path / "hw1")
    (hw1 / "probe.py").write_text(MEASURE)
    command = [sys.executable, hw1 / "probe.py"]
    with cluster(tmp_path, 1) as (address, [worker]):
        with distributed.Client(address) as client:
            client.wait_for_workers(1, timeout=60)
        found = []
        for answer in ("1", "22", "333"):
            with (hw1 / "data.py").open("a") as file:
                file.write(f"\n\ndef seed_for(seed, purpose):\n    return {answer}\n")
            options = {"capture_output": True, "text": True}
            found.append(subprocess.run([*command, address], check=True, **options).stdout)
        assert worker.poll() is None
    assert found == ["(0, 1, None)\n", "(0, 22, None)\n", "(0, 333, None)\n"]


def test_workers_that_would_compute_otherwise_are_refused(monkeypatch):
    """Other code, another PyTorch, other instructions: one sentence that names the worker."""
    wanted = lab_cluster.identity()
    for name in wanted:
        value, error = lab_cluster.compute_if_alike(b"", wanted | {name: "something else"})
        assert value is None and name in error and socket.gethostname() in error
    compute = lab_cluster.portable(None)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delattr("lab.identity", raising=False)
    modules = dict(sys.modules)
    try:
        value, error = compute()
    finally:
        sys.modules.update(modules)
    assert value is None and "torch" in error and socket.gethostname() in error


def test_workers_of_several_threads_are_refused(monkeypatch):
    class Client:
        def __init__(self, address, timeout):
            self.closed = False

        def run(self, function):
            return {"one": (None, None)}

        def nthreads(self):
            return {"one": 1, "two": 2}

        def close(self):
            self.closed = True

    monkeypatch.setattr("dask.distributed.Client", Client)
    with pytest.raises(OSError, match="--nthreads 1"):
        parallel.workers(1, "there")
