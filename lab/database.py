#!/usr/bin/python3
"""The database of the lab: a real mongod where one is on the PATH, else a small server of our own with the same wire protocol.

    python3 lab/database.py --bind 127.0.0.1 --port 27017 --file PATH [--test-commands] [--replica-set NAME]
                            [--user NAME --password-file FILE] [--certificate FILE]

starts our own. It needs Debian's python3-bson, python3-pymongo and python3-mongomock (or their PyPI namesakes).
Here are only the socket and the frames of the wire; docs/database.md says what it is and what it is not.
"""

import argparse
import os
import shutil
import signal
import socket
import socketserver
import sqlite3
import ssl
import struct
import sys
import threading

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
CHECKSUM, MORE_TO_COME = 1, 2
LARGEST = 48000000              # bytes of one message, MongoDB's own limit
OWN = "bgdeploy's own wire server (not MongoDB)"


def command(bind, port, folder, test_commands=False):
    """(argv, name) of the database server to start; `folder` exists and is empty or an earlier one's.

    A mongod on the PATH comes first. Never starts anything itself.
    """
    mongod = shutil.which("mongod")
    if mongod:
        options = ["--setParameter", "enableTestCommands=1"] if test_commands else []
        return [mongod, "--bind_ip", bind, "--port", str(port), "--dbpath", str(folder), *options], "mongod"
    # Debian's modules belong to Debian's interpreter, which need not be the first python3 on the PATH
    python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
    options = ["--test-commands"] if test_commands else []
    return [python, os.path.abspath(__file__), "--bind", bind, "--port", str(port),
            "--file", os.path.join(str(folder), "documents.sqlite"), *options], OWN


def main(arguments=None):
    parser = argparse.ArgumentParser(description=OWN)
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=27017, help="0: any free one")
    parser.add_argument("--file", help="SQLite file; without it nothing outlives the process")
    parser.add_argument("--test-commands", action="store_true", help="allow configureFailPoint")
    parser.add_argument("--user", help="nobody else may; by SCRAM-SHA-256")
    parser.add_argument("--password-file", help="that user's password")
    parser.add_argument("--certificate", help="TLS only: a PEM file with key and certificate")
    parser.add_argument("--replica-set", help="call itself the primary of this set")
    options = parser.parse_args(arguments)
    if bool(options.user) != bool(options.password_file):
        parser.error("--user and --password-file go together")
    try:
        import database_access                  # here, for the lab to ask for `command` without mongomock
        import database_commands
        server = database_commands.Server(options.file, options.test_commands)
    except ImportError as missing:
        sys.exit(f"lab database: {missing}; install python3-bson, python3-pymongo and python3-mongomock")
    except (OSError, sqlite3.Error) as trouble:
        sys.exit(f"lab database: {options.file} cannot be used: {trouble}")
    try:
        user, context = credentials(options)
    except (OSError, ValueError) as trouble:
        sys.exit(f"lab database: --password-file or --certificate cannot be used: {trouble}")
    try:
        listener = Listener((options.bind, options.port), socketserver.BaseRequestHandler)
        access = database_access.Access(user, options.replica_set, f"{options.bind}:{listener.server_address[1]}")
        listener.RequestHandlerClass = connection_class(
            server, database_commands.HangUp, lambda run: database_access.Talk(access, run), context)
    except OSError as trouble:
        sys.exit(f"lab database: cannot listen on {options.bind}:{options.port}: {trouble.strerror}")
    with listener:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=listener.shutdown).start())
        print(f"{OWN} on {options.bind}:{listener.server_address[1]}, pid {os.getpid()}", flush=True)
        try:
            listener.serve_forever(0.1)
        except KeyboardInterrupt:
            pass
    server.close()


def credentials(options):
    """((user, password) or None, an ssl.SSLContext or None)."""
    user = context = None
    if options.user:
        with open(options.password_file, encoding="utf-8") as f:
            user = (options.user, f.read().strip("\r\n"))
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate)
    return user, context


class Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads, block_on_close, request_queue_size = True, True, False, 128


def connection_class(server, hang_up, talk, context):
    """The class that socketserver makes an object of for each client. talk: (run) -> database_access.Talk. context: of TLS."""
    import bson

    class Connection(socketserver.BaseRequestHandler):

        def handle(self):
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number = next(server.connections)
            self.talk = talk(lambda asked: server.run(asked, number))
            try:
                if context:
                    self.request = context.wrap_socket(self.request, server_side=True)
                while self.answer_one():
                    pass
            except (EOFError, OSError, struct.error, ValueError, IndexError, KeyError, TypeError, AttributeError,
                    bson.errors.InvalidBSON, hang_up):
                return              # gone, or it does not talk this protocol

        def answer_one(self):
            size, request, _, operation = struct.unpack("<iiii", self.read(16))
            if not 16 <= size <= LARGEST:
                return False
            body = self.read(size - 16)
            if operation == OP_MSG:
                flags, asked = parse(body)
                answer = self.talk.answer(asked)
                if not flags & MORE_TO_COME:        # set: an unacknowledged write
                    self.send(request, OP_MSG, struct.pack("<IB", 0, 0) + bson.encode(answer))
                return True
            if operation == OP_QUERY:               # a driver's first words; all else has been OP_MSG since MongoDB 3.6
                end = body.index(b"\0", 4)
                asked = bson.decode_all(body[end + 9:])[0]
                asked = dict(asked.get("$query", asked), **{"$db": body[4:end].decode().split(".")[0]})
                answer = self.talk.answer(asked)
                self.send(request, OP_REPLY, struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(answer))
                return True
            return False

        def read(self, size):
            """Exactly `size` bytes. :raises EOFError: the client is gone."""
            parts = bytearray()
            while len(parts) < size:
                part = self.request.recv(size - len(parts))
                if not part:
                    raise EOFError
                parts += part
            return bytes(parts)

        def send(self, request, operation, body):
            self.request.sendall(struct.pack("<iiii", 16 + len(body), 0, request, operation) + body)

    return Connection


def parse(body):
    """(flags, command) of an OP_MSG; the document sequences become lists in the command."""
    import bson
    flags = struct.unpack_from("<I", body)[0]
    at, end, asked, sequences = 4, len(body) - (4 if flags & CHECKSUM else 0), {}, {}
    while at < end:
        kind, size = body[at], struct.unpack_from("<i", body, at + 1)[0]
        if size < 5 or at + 1 + size > end:
            raise ValueError("a section longer than its message")
        section = body[at + 1:at + 1 + size]
        if kind == 0:
            asked = bson.decode(section)
        else:
            name = section.index(b"\0", 4)
            sequences[section[4:name].decode()] = bson.decode_all(section[name + 1:])
        at += 1 + size
    return flags, {**asked, **sequences}


if __name__ == "__main__":
    main()
