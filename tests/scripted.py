"""A server that answers with exactly the bytes it is told to, however wrong, and remembers what it was asked."""

import socket
import struct
import threading
import time

LATE = 3.0                  # longer than the limit that any test gives its reader


class Scripted:
    """One listening socket on the loopback; a thread a connection.

    :param script: steps, or a function (number of the connection, request) -> steps. A step is bytes to send, a number of
        seconds to wait, "close", "reset" (RST), or "hang" (say nothing until the server ends). After the last step it closes.
    :param read: False: answer without waiting for the request.
    """

    def __init__(self, script, address="127.0.0.1", read=True, family=socket.AF_INET, context=None):
        self.script, self.read, self.context = script, read, context
        self.requests, self.over = [], threading.Event()
        self._listener = socket.socket(family)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((address, 0))
        self._listener.listen(50)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over.set()
        self._listener.close()

    def _accept(self):
        number = 0
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(peer, number), daemon=True).start()
            number += 1

    def _talk(self, peer, number):
        try:
            peer.settimeout(10)
            if self.context:
                peer = self.context.wrap_socket(peer, server_side=True)
            request = self._request(peer) if self.read else b""
            self.requests.append(request)
            for step in self.script(number, request) if callable(self.script) else self.script:
                if isinstance(step, bytes):
                    peer.sendall(step)
                elif step == "reset":
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                elif step == "hang":
                    self.over.wait(10)
                elif step == "close":
                    return
                else:
                    self.over.wait(step) if step > 0.5 else time.sleep(step)
        except OSError:
            pass
        finally:
            peer.close()

    @staticmethod
    def _request(peer):
        got = b""
        while b"\r\n\r\n" not in got:
            piece = peer.recv(65536)
            if not piece:
                return got
            got += piece
        head, _, body = got.partition(b"\r\n\r\n")
        lengths = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        while lengths and len(body) < lengths[0]:
            piece = peer.recv(65536)
            if not piece:
                break
            got, body = got + piece, body + piece
        return got


def answer(body=b"", status="200 OK", headers=(), length=None):
    """The bytes of an ordinary answer."""
    body = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
