"""What a site's MongoDB has around its commands, for the lab's database: a user with a password, and a replica set's manners.

SCRAM-SHA-256 is RFC 7677 (RFC 5802 with SHA-256) in MongoDB's saslStart and saslContinue. The fields of hello and the answer to a
write that is sent again are those of MongoDB's specifications "Server Discovery And Monitoring" and "Retryable Writes". The set
has one member; answers to repeated writes are kept in memory only.
"""

import base64
import collections
import hashlib
import hmac
import os
import threading

ROUNDS = 15000              # MongoDB's own scramSHA256IterationCount
OPEN = {"hello", "isMaster", "ismaster", "ping", "saslStart", "saslContinue", "endSessions"}        # before anybody is known
SESSIONS = 1000             # whose last write is remembered


class Access:
    """:param user: (name, password), or None: everybody may. :param replica_set: its name, or None. :param address: host:port."""

    def __init__(self, user=None, replica_set=None, address=""):
        self.user, self.replica_set, self.address = user, replica_set, address
        self.salt = os.urandom(28)
        salted = hashlib.pbkdf2_hmac("sha256", user[1].encode(), self.salt, ROUNDS) if user else b""
        self.stored_key = hashlib.sha256(keyed(salted, b"Client Key")).digest()
        self.server_key = keyed(salted, b"Server Key")
        self.written, self.lock = collections.OrderedDict(), threading.Lock()


class Talk:
    """One connection. :param run: (command) -> answer, the server's. Junk from a client raises, and ends its connection."""

    def __init__(self, access, run):
        self.access, self.run, self.known, self.begun = access, run, access.user is None, None

    def answer(self, command):
        name = next(iter(command))
        if not self.known and name not in OPEN:
            return refused(13, "Unauthorized", f"command {name} requires authentication")
        if name == "saslStart":
            return self.start(command)
        if name == "saslContinue":
            return self.go_on(command)
        if name in ("hello", "isMaster", "ismaster"):
            return self.greet(command)
        return self.write(command) if self.access.replica_set and "txnNumber" in command else self.run(command)

    def greet(self, command):
        answer = self.run(command)
        if self.access.replica_set and answer["ok"]:
            me = self.access.address
            answer.update(setName=self.access.replica_set, setVersion=1, hosts=[me], me=me, primary=me, secondary=False)
        if command.get("saslSupportedMechs") and self.access.user:
            answer["saslSupportedMechs"] = ["SCRAM-SHA-256"]
        early = command.get("speculativeAuthenticate")
        if early and self.access.user and early.get("mechanism") == "SCRAM-SHA-256":
            first = self.start(early)
            if first["ok"]:
                answer["speculativeAuthenticate"] = first
        return answer

    def start(self, command):
        """client-first -> server-first."""
        if not self.access.user or command.get("mechanism") != "SCRAM-SHA-256":
            return refused(2, "BadValue", "only SCRAM-SHA-256 is known here")
        bare = bytes(command["payload"]).decode().removeprefix("n,,")
        said = fields(bare)
        self.nonce = said["r"] + base64.b64encode(os.urandom(18)).decode()
        reply = f"r={self.nonce},s={base64.b64encode(self.access.salt).decode()},i={ROUNDS}"
        self.begun = (said["n"], f"{bare},{reply}")
        return {"conversationId": 1, "done": False, "payload": reply.encode(), "ok": 1.0}

    def go_on(self, command):
        """client-final -> server-final; then, where the client wants it, an empty exchange."""
        if self.begun is None:
            return {"conversationId": 1, "done": True, "payload": b"", "ok": 1.0} if self.known else wrong()
        (name, before), self.begun = self.begun, None
        text = bytes(command["payload"]).decode()
        said, proved = fields(text), f"{before},{text.rpartition(',p=')[0]}".encode()
        signature = keyed(self.access.stored_key, proved)
        key = bytes(a ^ b for a, b in zip(base64.b64decode(said["p"]), signature))
        right = hmac.compare_digest(hashlib.sha256(key).digest(), self.access.stored_key)
        if not (right and said["r"] == self.nonce and name == self.access.user[0]):
            return wrong()
        self.known = True
        final = b"v=" + base64.b64encode(keyed(self.access.server_key, proved))
        return {"conversationId": 1, "done": True, "payload": final, "ok": 1.0}

    def write(self, command):
        """A write with a number is done once: sent again it gets the answer that was lost."""
        if "startTransaction" in command or command.get("autocommit") is False:
            return self.run(command)
        session, number = str(command["lsid"]["id"]), command["txnNumber"]
        with self.access.lock:
            before = self.access.written.get(session)
            if before and before[0] == number:
                return before[1]
            answer = self.run({key: value for key, value in command.items() if key != "txnNumber"})
            if answer["ok"]:            # one that failed may be tried again under the same number
                self.access.written[session] = (number, answer)
                if len(self.access.written) > SESSIONS:
                    self.access.written.popitem(last=False)
        return answer


def fields(message):
    return {part[0]: part[2:] for part in message.split(",") if part[1:2] == "="}


def keyed(key, message):
    return hmac.digest(key, message, "sha256")


def wrong():
    return refused(18, "AuthenticationFailed", "Authentication failed.")


def refused(code, name, sentence):
    return {"ok": 0.0, "errmsg": sentence, "code": code, "codeName": name}
