"""Random schedules of what the two ends of a TCP connection do, and what they saw.

A schedule is drawn from its seed alone. One thread plays it on both ends, so that the order of their actions is the
schedule's; what an end sees is noted where it is certain: when it has waited for all that the other said."""

import errno
import hashlib
import random
import select
import socket
import struct
import time
from dataclasses import dataclass, field

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# What a client may say first, besides noise: what begins like HTTP/2 and then is not, other protocols' first bytes.
CLIENT_FIRST = [PREFACE[:1], PREFACE[:3], PREFACE[:14], PREFACE[:23], b"G", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00\x01", b"\0"]
# A server that speaks first: what begins a SETTINGS frame, and a greeting.
SERVER_FIRST = [b"\0", b"\0\0\0\4", b"\0\0\0\4\0\0\0\0\0", b"SSH-2.0-x\r\n", b"220 "]
SIZES = [1, 2, 23, 24, 100, 4096, 65_536, 300_000]
ENDS = ("client", "server")
# Seconds: for what has to come, and for a connection whose client has reset it before anybody dialled onward.
LIMIT, NEVER_CAME = 20.0, 0.3


def schedule(seed: int, client_first: bool) -> list[tuple]:
    """Steps: (end, "send", bytes) (end, "finish") (end, "pause") (end, "reset") (end, "close") ("wait", s) ("settle",)."""
    random_ = random.Random(seed)
    steps, finished, said = [], set(), set()
    if client_first:
        said.add("client")
        # Sometimes nothing but the beginning of a preface, which the client may or may not go on with.
        steps.append(("client", "send", random_.choice(CLIENT_FIRST[:3]) if random_.random() < 0.05 else random_.choice(CLIENT_FIRST) + b"\xff"))
    for _ in range(random_.randrange(1, 9)):
        end = random_.choice(ENDS)
        what = random_.choices(["send", "finish", "pause", "wait", "settle"], [10, 2, 2, 3, 3])[0]
        if what == "wait":
            steps.append(("wait", random_.choice([0.0, 0.001, 0.01, 0.05])))
        elif what == "settle":
            steps.append(("settle",))
        elif what == "pause":
            steps.append((end, "pause"))
        elif end not in finished and what == "finish":
            finished.add(end)
            steps.append((end, "finish"))
        elif end not in finished:
            data = random_.randbytes(random_.choice(SIZES))
            if end not in said and random_.random() < 0.5:
                # The byte after it can't go on with the preface.
                data = random_.choice(CLIENT_FIRST if end == "client" else SERVER_FIRST) + b"\xff" + data
                if random_.random() < 0.1:
                    data = data[: data.index(b"\xff")]
            said.add(end)
            steps.append((end, "send", data))
    return steps + random_.choices(
        [[("settle",)], [("settle",), (random_.choice(ENDS), "reset")], [(random_.choice(ENDS), "reset")], [("settle",), (random_.choice(ENDS), "close")]],
        [5, 2, 2, 2],
    )[0]  # fmt: skip


def text(steps: list[tuple]) -> str:
    """For people."""
    return "\n".join(" ".join(f"{p[:24]!r}.. ({len(p)} bytes)" if isinstance(p, bytes) else str(p) for p in step) for step in steps)


@dataclass
class End:
    connection: socket.socket | None = None  # the server's comes later
    outbox: bytearray = field(default_factory=bytearray)
    said: bytearray = field(default_factory=bytearray)
    heard: bytearray = field(default_factory=bytearray)
    finishing: bool = False
    finished: bool = False
    paused: bool = False
    ended: str = ""  # "end" or "broken", once it has been seen
    error: int = 0  # with which it broke

    def finish_if_said(self) -> None:
        if self.finishing and not self.finished and not self.outbox and self.connection:
            self.finished = True
            try:
                self.connection.shutdown(socket.SHUT_WR)
            except OSError:
                self.ended = "broken"

    def receive(self) -> None:
        try:
            data = self.connection.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError as error:
            self.ended, self.error = "broken", error.errno
            return
        self.heard += data
        if not data:
            self.ended = "end"

    def send(self) -> None:
        try:
            del self.outbox[: self.connection.send(self.outbox)]
        except BlockingIOError:
            return
        except OSError as error:
            self.ended, self.error = "broken", error.errno
            self.outbox.clear()
        self.finish_if_said()

    def ask(self) -> None:
        """After the other's FIN a receive tells of no reset any more."""
        if self.connection and self.ended == "end" and (error := self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            self.ended, self.error = "broken", error


class Play:
    """A schedule on a connection: its client, and the listener where its server's end arrives. Both don't block."""

    def __init__(self, client: socket.socket, listener: socket.socket):
        self.client, self.server = End(client), End()
        self.ends = {"client": self.client, "server": self.server}
        self._listener = listener
        self.seen: list = []

    def close(self) -> None:
        for end in self.ends.values():
            if end.connection:
                end.connection.close()

    def run(self, steps: list[tuple]) -> list:
        """What was seen, in order."""
        for step in steps:
            match step:
                case ("wait", seconds):
                    self._pump(seconds)
                case ("settle",):
                    self._settle()
                case (name, "send", data):
                    self.ends[name].outbox += data
                    self.ends[name].said += data
                    self._pump(0)
                case (name, "finish"):
                    self.ends[name].finishing = True
                    self.ends[name].finish_if_said()
                case (name, "pause"):
                    self.ends[name].paused = True
                case (name, "reset" | "close" as how):
                    return self._leave(name, how, steps[-2:-1] == [("settle",)])
        for end in self.ends.values():
            end.finishing = True
            end.finish_if_said()
        self._settle()
        return self.seen

    def _settle(self) -> None:
        """Everything said is heard, the end of it too."""
        pairs = ((self.client, self.server), (self.server, self.client))
        for end in self.ends.values():
            end.paused = False

        def done() -> bool:
            return all(len(one.heard) == len(other.said) and bool(one.ended) == other.finishing for one, other in pairs)

        self._pump(LIMIT, done)
        self.seen.append([(len(one.heard), digest(one.heard), one.heard == other.said, one.ended) for one, other in pairs])

    def _leave(self, name: str, how: str, settled: bool) -> list:
        """One end resets or closes, which the other sees. If all was settled before, the other has missed nothing."""
        leaver, other = self.ends[name], self.ends["server" if name == "client" else "client"]
        if leaver is self.server or settled:
            self._pump(LIMIT, lambda: self.server.connection is not None)
        if how == "reset":
            leaver.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        leaver.connection.close()
        leaver.ended = "left"
        other.paused = False
        until = time.monotonic() + (LIMIT if other.connection else NEVER_CAME)
        # When both have said their last word there is no connection left that could be reset.
        over = leaver.finishing and other.finishing
        while other.ended != "broken" and time.monotonic() < until:
            # Who has closed hears nothing more: the other is told when it speaks.
            if how == "close" and not other.finishing and not other.outbox:
                other.outbox += b"?"
            elif other.ended and (over or how == "close"):
                break
            missing = other.connection is None
            self._pump(0.005)
            if missing and other.connection:  # late, but now it has to be told
                until = time.monotonic() + LIMIT
            other.ask()
        # Unsettled, the reset may have overtaken what was said, the end of it, and even the connection.
        if settled:
            error = errno.errorcode.get(other.error) if how == "reset" else None
            self.seen.append([name, how, error, other.ended, other.heard == leaver.said])
        else:
            told = over or not other.connection or (other.ended == "broken" if how == "reset" else bool(other.ended))
            self.seen.append([name, how, told, leaver.said.startswith(other.heard)])
        return self.seen

    def _pump(self, seconds: float, done=lambda: False) -> None:
        until = time.monotonic() + seconds
        while not done():
            ends = {e.connection: e for e in self.ends.values() if e.connection and e.ended not in ("broken", "left")}
            readers = [s for s, e in ends.items() if not e.paused and not e.ended]
            writers = [s for s, e in ends.items() if e.outbox]
            left = until - time.monotonic()
            waiting = [] if self.server.connection else [self._listener]
            readable, writable, _ = select.select(readers + waiting, writers, [], max(0, min(left, 0.05)))
            for ready in readable:
                if ready is self._listener:
                    self.server.connection, _ = self._listener.accept()
                    self.server.connection.setblocking(False)
                    self.server.finish_if_said()
                else:
                    ends[ready].receive()
            for ready in writable:
                ends[ready].send()
            if left <= 0:
                return


def whole(seen: list) -> bool:
    """Whether each end heard what the other said, and in time."""
    return all(all(heard for _, _, heard, _ in entry) if isinstance(entry[0], tuple) else entry[-1] and entry[-2] for entry in seen)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]
