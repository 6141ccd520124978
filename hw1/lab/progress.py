"""How far a script is: a bar on a terminal; in a pipe or a file a line now and then."""

import io
import sys
import threading
import time

from lab import say

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30
LOOK = "{desc} {percentage:3.0f}%|{bar:30}| {elapsed} gone, {remaining} left"


class Progress:
    """The share of the work that is done, shown while the `with` block lasts.

    costs: {key: amount of work}. Calls that run side by side report their own parts of it.
    """

    def __init__(self, title, costs):
        self.title, self.costs = title, costs
        self.parts = dict.fromkeys(costs, 0.0)
        self.over, self.terminal = threading.Event(), sys.stderr is not None and sys.stderr.isatty()

    def advance(self, key, part):
        """Say that this part, from 0 to 1, of the work behind `key` is done."""
        self.parts[key] = part

    def __enter__(self):
        file = sys.stderr if self.terminal else io.StringIO()
        total = sum(self.costs.values()) or 1
        tqdm.set_lock(threading.RLock())  # its own one is a semaphore, which a kill leaves behind
        self.bar = tqdm(total=total, desc=self.title, bar_format=LOOK, file=file)
        self.thread = threading.Thread(target=self._show, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self._draw()
        self.bar.close()

    def _show(self):
        shown = time.monotonic()
        while not self.over.wait(1):
            if self.terminal or time.monotonic() - shown > SECONDS_BETWEEN_LINES:
                shown = time.monotonic()
                self._draw()

    def _draw(self):
        self.bar.n = sum(self.costs[key] * part for key, part in self.parts.items())
        if self.terminal:
            self.bar.refresh()
        else:
            say(str(self.bar).replace("|", "").strip(), "stderr")
