"""Chef's full output, kept beside a run's journal. Nothing is decided here; what cannot be had is said and costs nothing else."""

import os
from concurrent.futures import ThreadPoolExecutor

from bgdeploy.errors import NoAnswer, Refused

MOST = 64 << 20         # bytes of one converge that are fetched, of its beginning and its end; the rest stays on the host
AT_ONCE = 8


class ChefLogs:
    """Told every event of a run; fetches a host's output once Chef has ended there. A host is due from the act that starts Chef
    until its output is here: also where Chef ended before anybody had to wait for it, or while no driver was there.

    :param folder: of the run; files become hosts/NAME/chef.log, chef.2.log for a second converge ..., mode 0600.
    :param events: what the journal holds already: a resumed run has hosts that are due.
    :param look: name -> model.Job, the newest on that host, or None.
    :param output: (name, job's run, offset) -> (bytes, next offset, size of it all).
    :param say: gets a sentence where something could not be fetched.
    :param stopped: () -> the run was interrupted: begin nothing more.
    """

    def __init__(self, folder, run, events, look, output, say, stopped):
        self.folder, self.run, self.look, self.output, self.say, self.stopped = folder, run, look, output, say, stopped
        self.due = set()
        for event in events:
            if _converge(event):
                self.due |= set(event["hosts"])
            elif _waited(event):
                self.due -= {name for name in event["hosts"] if os.path.exists(os.path.join(folder, "hosts", name))}

    def __call__(self, event):
        if _converge(event):
            self.fetch(self.due & set(event["hosts"]))      # the next converge would hide the last one's output
            self.due |= set(event["hosts"])
        elif _waited(event):
            self.fetch(self.due & set(event["hosts"]))
        elif event["kind"] == "ended":
            self.fetch(self.due, running=True)

    def fetch(self, names, running=False):
        """Of these hosts, several at once. :param running: also of a Chef that goes on."""
        if not names or self.stopped():
            return
        with ThreadPoolExecutor(AT_ONCE) as pool:
            whole = pool.map(lambda name: self._fetched(name, running), sorted(names))
            self.due -= {name for name, done in zip(sorted(names), whole) if done}

    def _fetched(self, name, running):
        try:
            job = self.look(name)
            if job is None or (job.run != self.run and not job.run.startswith(f"{self.run}.")):
                return job is not None              # Chef was not started here by this run
            if job.state == "running" and not running:
                return False
            return self._kept(name, job.run)
        except (NoAnswer, Refused, OSError) as e:
            self.say(f"{name}: Chef's full output could not be fetched: {getattr(e, 'sentence', e)}")
            return False

    def _kept(self, name, run):
        folder = os.path.join(self.folder, "hosts", name)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        path = os.path.join(folder, f"chef{run[len(self.run):]}.log")
        with open(os.open(path + ".part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            offset, piece, skipped = 0, b"-", False
            while piece:
                if self.stopped():
                    return False
                piece, offset, size = self.output(name, run, offset)
                file.write(piece)
                if offset >= MOST // 2 and size - offset > MOST // 2 and not skipped:   # why it failed stands at its end
                    skipped, gone, offset = True, size - offset - MOST // 2, size - MOST // 2
                    file.write(f"\n... {gone} bytes are left out here; they are on the host ...\n".encode())
                    self.say(f"{name}: {gone >> 20} MB in the middle of Chef's output were left on the host")
        os.replace(path + ".part", path)
        return True


def _converge(event):
    return event["kind"] == "doing" and event["step"] == "converge"


def _waited(event):
    return event["kind"] == "waited" and event["wait"] == "chef"
