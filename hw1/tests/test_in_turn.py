"""The experiments of run_all.sh, which overlap at their ends."""

import contextlib
import fcntl
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

from lab import parallel

import pytest

HW1 = Path(__file__).resolve().parent.parent
INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
SCRIPT = """
import os, pathlib, signal, sys, time
interrupts = []
def interrupt(*_):
    if not interrupts:  # another signal may call this function in the middle of it
        interrupts.append(1)
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, interrupt)
name, folder = pathlib.Path(__file__).stem, pathlib.Path(__file__).parent
def note(what):
    with open(folder / "log", "a") as file:
        file.write(f"{name} {what}\\n")
def wait_for(text):
    end = time.monotonic() + 20
    while text not in (folder / "log").read_text():
        if time.monotonic() > end:
            note(f"waited in vain for {text}")
            return
        time.sleep(0.01)
idle = lambda: pathlib.Path(os.environ["HW1_IDLE"]).touch()
note("starts " + " ".join(sys.argv[1:]))
try:
    exec((folder / f"{name}.do").read_text())
except KeyboardInterrupt:
    note("is interrupted")
    sys.exit(130)
note("ends")
"""


class Place:
    """A folder with in_turn.py and scripts of a few lines, which write down what they do."""

    def __init__(self, folder, **scripts):
        self.folder, self.names = folder, list(scripts)
        (folder / "lab").mkdir()
        for name in ("__init__.py", "in_turn.py"):
            shutil.copy(HW1 / "lab" / name, folder / "lab")
        for name, lines in scripts.items():
            (folder / f"{name}.py").write_text(SCRIPT)
            (folder / f"{name}.do").write_text(lines)

    def start(self, *flags, before=()):
        command = [*before, sys.executable, self.folder / "lab" / "in_turn.py"]
        command += [f"{name}:digits" for name in self.names]
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        # A background job ignores Ctrl-C, and below `nohup` all ignore SIGHUP; these are in a group
        # of their own, as on a terminal.
        mine = {number: signal.signal(number, signal.SIG_DFL) for number in (INT, HUP)}
        process = subprocess.Popen([*command, "--", *flags], start_new_session=True, **how)
        for number, handler in mine.items():
            signal.signal(number, handler)
        return process

    def wait_for(self, line):
        """Wait until a script has written this line."""
        end = time.monotonic() + 30
        while line not in self.log():
            assert time.monotonic() < end, self.log()
            time.sleep(0.01)

    def run(self, *flags):
        """Return the exit code, what was printed, and the lines of the log."""
        process = self.start(*flags)
        out, errors = process.communicate(timeout=60)
        assert errors == ""
        return process.returncode, out, self.log()

    def log(self):
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []


def test_one_waits_for_the_other_until_a_core_is_idle(tmp_path):
    """b starts while a still runs, but only after a has said so; c waits, for two are at work."""
    a = "time.sleep(0.5); note('has an idle core'); idle(); wait_for('b waits')"
    b = "idle(); note('waits'); wait_for('a ends')"
    code, out, log = Place(tmp_path, a=a, b=b, c="").run("--seeds", "0")
    assert code == 0
    starts = [f"{name} starts --dataset digits --no-figures --seeds 0" for name in "abc"]
    assert log[:4] == [starts[0], "a has an idle core", starts[1], "b waits"]
    assert log.index("a ends") < log.index(starts[2]) and len(log) == 8
    assert re.findall(r"^(\w+)(?: digits)? +0\.\d$", out, re.MULTILINE) == ["a", "b", "c", "all"]


def test_without_an_idle_core_they_run_one_after_the_other(tmp_path):
    code, _, log = Place(tmp_path, a="time.sleep(0.3)", b="time.sleep(0.1)", c="").run()
    assert code == 0
    assert [line.split()[:2] for line in log] == [[n, w] for n in "abc" for w in ("starts", "ends")]


def test_a_failed_run_does_not_stop_the_others(tmp_path):
    code, out, log = Place(tmp_path, a="note('fails'); sys.exit(1)", b="").run()
    assert code == 1 and log[-1] == "b ends" and "all" in out


@pytest.mark.parametrize("code", [2, 130])
def test_a_mistake_ends_the_one_beside_it_too(tmp_path, code):
    a = "idle(); time.sleep(30)"
    b = f"time.sleep(0.5); note('ends'); sys.exit({code})"
    started = time.monotonic()
    found, out, log = Place(tmp_path, a=a, b=b, c="").run()
    assert found == code and "Minutes" not in out and time.monotonic() - started < 10
    assert log[-2:] == ["b ends", "a is interrupted"]


def test_a_killed_script_is_told_by_the_exit_code_of_a_shell(tmp_path):
    assert Place(tmp_path, a="os.kill(os.getpid(), 9)", b="").run()[0] == 137


TWO = {"a": "idle(); time.sleep(30)", "b": "note('works'); time.sleep(30)", "c": ""}
SIGNALS = [(INT, os.killpg), (INT, os.kill), (TERM, os.kill), (HUP, os.kill)]


@pytest.mark.parametrize("times", [1, 2, 10_000])
@pytest.mark.parametrize(("number", "kill"), SIGNALS)
def test_a_signal_ends_all(tmp_path, number, kill, times):
    """Ctrl-C goes to all processes of the terminal; `kill` only to the one that it names.

    Whoever asks again, until the program has ended, changes nothing.
    """
    (tmp_path / "tmp").mkdir()
    place = Place(tmp_path, **TWO)
    process = place.start(before=["env", f"TMPDIR={tmp_path / 'tmp'}"])
    place.wait_for("b works")
    for _ in range(times):
        if process.poll() is None:
            kill(process.pid, number)
            time.sleep(0.001 if times > 2 else 0.02)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + number and errors == ""
    assert sorted(place.log()[-2:]) == ["a is interrupted", "b is interrupted"]
    assert not any("c starts" in line for line in place.log())
    assert not list((tmp_path / "tmp").iterdir())


def test_nothing_more_is_started_when_run_all_was_killed(tmp_path):
    place = Place(tmp_path, **TWO)
    process = place.start(before=["bash", "-c", '"$@"; true', "bash"])
    place.wait_for("b works")
    process.kill()
    place.wait_for("a is interrupted")
    place.wait_for("b is interrupted")
    process.communicate(timeout=20)  # until in_turn.py has closed its output
    assert not any("c starts" in line for line in place.log())


def test_without_a_temporary_folder_one_sentence_says_so(tmp_path):
    """Exit code 1 would have meant that a run failed, and figures would have been drawn."""
    code = "import sys, tempfile; sys.path[:0] = sys.argv[1:2]; tempfile.tempdir = '/nowhere'"
    code += "; import in_turn; sys.exit(in_turn.main(['a:digits', '--']))"
    place = Place(tmp_path, a="")
    command = [sys.executable, "-c", code, place.folder / "lab"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and not place.log()
    assert done.stderr.startswith("run_all: error: ") and done.stderr.count("\n") == 1


def wait(_report, seconds):
    time.sleep(seconds)


def test_a_core_is_idle_when_fewer_calls_are_left_than_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("HW1_IDLE", str(tmp_path / "idle"))
    calls = {key: (seconds,) for key, seconds in enumerate([0.1, 0.1, 0.1, 2])}
    seen = []
    with parallel.workers(2) as found:
        for key, _, error in parallel.side_by_side(found, "test", wait, calls):
            assert error is None
            seen.append((key, (tmp_path / "idle").exists()))
    assert [there for _, there in seen] == [False, False, True, True] and seen[-1][0] == 3


BAR = """
import time
from lab.progress import Progress
with Progress("test: training", {0: 1.0}) as progress:
    time.sleep(1.5)
    progress.advance(0, 1)
"""


@pytest.mark.parametrize("idle", [False, True])
def test_on_a_terminal_only_the_later_experiment_has_a_bar(tmp_path, idle):
    mine, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    if idle:
        (tmp_path / "idle").touch()
    environment = os.environ | {"HW1_IDLE": str(tmp_path / "idle"), "PYTHONPATH": str(HW1)}
    subprocess.run([sys.executable, "-c", BAR], stderr=theirs, env=environment, check=True)
    os.close(theirs)
    shown = ""
    with contextlib.suppress(OSError):  # as Linux says that the other end is closed
        while more := os.read(mine, 10_000):
            shown += more.decode()
    os.close(mine)
    if idle:  # one line, over what stood there
        assert re.fullmatch(r"\r\x1b\[Ktest: training 100%.*left\r\n", shown)
    else:  # a bar that is drawn again and again
        assert re.match(r"\rtest: training +0%.*left\r.*\rtest: training 100%.*left\r\n", shown)


PACKAGES = """
import sys
from pathlib import Path
from lab import logs, provenance
provenance.packages = lambda: "torch==2.13.0\\n" * 1000
for _ in range(300):
    logs.write(Path(sys.argv[1]) / "logs" / sys.argv[2], ["a"], [{"a": 1}], {"settings_digest": ""})
"""


def test_two_experiments_may_write_their_logs_at_the_same_moment(tmp_path):
    """Both write packages.txt; the one once renamed what the other was still writing."""
    (tmp_path / "logs").mkdir()
    command = [sys.executable, "-c", PACKAGES, tmp_path]
    how = {"env": os.environ | {"PYTHONPATH": str(HW1)}, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([*command, name], **how) for name in "ab"]
    assert [process.communicate()[1] for process in both] == ["", ""]
    assert [process.returncode for process in both] == [0, 0]
    assert len((tmp_path / "logs" / "packages.txt").read_text().splitlines()) == 1000
