"""What a signal does to a run: it is noted, nothing new begins, and what is under way gets a moment.

Nothing acts in a handler.
"""

import queue
import signal
import threading
import time

from bgdeploy.model import Result

GRACE = 1.5         # seconds that acts under way get after an interruption; Jenkins leaves five for everything (measured)


def interruptible(results, do, interrupt):
    """Results of an act as they come; after an interruption what has not ended is unknown, so that the driver can end in time."""
    came, missing = queue.Queue(), set(do.hosts)

    def work():
        try:
            for result in results:
                came.put(result)
        except BaseException as e:      # a bug in a port, or a sys.exit, must not leave the loop waiting for ever
            came.put(e if isinstance(e, Exception) else RuntimeError(f"{do.step} ended by {type(e).__name__}"))
        came.put(None)
    threading.Thread(target=work, name=f"act {do.step}", daemon=True).start()
    patience = None
    while True:
        try:
            result = came.get(timeout=0.1)
        except queue.Empty:
            if interrupt.wanted:
                patience = patience or time.monotonic() + GRACE
                if time.monotonic() > patience:
                    yield from (Result(name, "unknown", "interrupted before its answer came") for name in sorted(missing))
                    return
            continue
        if result is None:
            return
        if isinstance(result, Exception):
            raise result
        missing.discard(result.host)
        yield result


class AtOnce:
    """Handler of the time before a run: the command ends as by Ctrl-C. Jenkins sends SIGTERM twice within 10 ms (measured with
    1.514): what comes within a second is the same wish, and must not cut the end short; later ones count again."""

    def __init__(self):
        self.last = None

    def __call__(self, number, frame):
        now = time.monotonic()
        if self.last is None or now - self.last > 1:
            self.last = now
            raise KeyboardInterrupt


class catching:
    """Within this, SIGTERM, SIGINT and SIGHUP only note that they came; nothing is done in a handler.

    A second signal is survived.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def __init__(self, interrupt):
        self.interrupt, self.before = interrupt, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                self.before[number] = signal.signal(number, self.noted)
        return self

    def noted(self, number, frame):
        self.interrupt.wanted = self.interrupt.wanted or signal.Signals(number).name

    def __exit__(self, *_):
        if self.interrupt.wanted:
            return          # stay deaf: the process is about to end and must not be cut while it cleans up
        for number, handler in self.before.items():
            signal.signal(number, handler)
