"""gunicorn's threaded worker, woken by signals: by itself it notices a stop only when its poll of a second ends."""

import os
import selectors

from gunicorn.workers.gthread import ThreadWorker


class Worker(ThreadWorker):
    """Polls gunicorn's own signal pipe beside the sockets."""

    def run(self):
        self.poller.register(self.PIPE[0], selectors.EVENT_READ, lambda pipe: os.read(pipe, 64))
        super().run()
