"""How far a script is: a bar on a terminal; in a pipe or a file a line now and then.

Experiments that run_all.sh starts overlap (lab/in_turn.py). As soon as the second one may have
started, the first one writes lines even on a terminal, and the second one has the bar.
"""

import contextlib
import io
import os
import sys
import threading
import time
from pathlib import Path

from lab import IDLE, say

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30
LOOK = "{desc} {percentage:3.0f}%|{bar:30}| {elapsed} gone, {remaining} left"


def tell_that_a_core_is_idle():
    """Let lab/in_turn.py start the next experiment, if it has started this one."""
    if file := os.environ.get(IDLE):
        with contextlib.suppress(OSError):  # a full disk: the next one starts when this one ends
            Path(file).touch()


def overlaps():
    """Return whether the next experiment may have started beside this one."""
    file = os.environ.get(IDLE)
    return bool(file) and Path(file).exists()


class Progress:
    """The share of the work that is done, shown while the `with` block lasts.

    costs: {key: amount of work}. Calls that run side by side report their own parts of it.
    """

    def __init__(self, title, costs):
        self.title = title
        self.costs = costs if any(costs.values()) else dict.fromkeys(costs, 1)  # all in the cache
        self.parts = dict.fromkeys(costs, 0.0)
        self.over, self.terminal = threading.Event(), sys.stderr is not None and sys.stderr.isatty()

    def advance(self, key, part):
        """Say that this part, from 0 to 1, of the work behind `key` is done."""
        self.parts[key] = part

    def __enter__(self):
        file = sys.stderr if self._has_bar() else io.StringIO()
        total = sum(self.costs.values())
        tqdm.set_lock(threading.RLock())  # its own one is a semaphore, which a kill leaves behind
        self.bar = tqdm(total=total, desc=self.title, bar_format=LOOK, file=file)
        self.thread = threading.Thread(target=self._show, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self._draw()
        self.bar.disable = not self._has_bar()
        self.bar.close()

    def _has_bar(self):
        return self.terminal and not overlaps()

    def _show(self):
        shown = time.monotonic()
        while not self.over.wait(1):
            if self._has_bar() or time.monotonic() - shown > SECONDS_BETWEEN_LINES:
                shown = time.monotonic()
                self._draw()

    def _draw(self):
        self.bar.n = sum(self.costs[key] * part for key, part in self.parts.items())
        if self._has_bar():
            self.bar.refresh()
        else:
            say(str(self.bar).replace("|", "").strip(), "stderr")
