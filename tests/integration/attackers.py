"""Attackers as data: what a hostile client, or a hostile backend, writes into its connections, byte by byte, and
the loop that writes it as fast as it goes. Each has a row in test_attacks.py."""

import functools
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, ACK = 1, 4, 8, 1
STREAMS = 20_000  # of a connection that opens one after the other
READS = 8  # before it writes again
MOST_UNSENT = 1 << 20  # a backend that has so much to send leaves further requests unanswered


def frame(kind: int, flags=0, stream=0, payload=b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW, 0, stream, struct.pack(">I", increment))


def reset(stream: int, code=8) -> bytes:
    return frame(RST, 0, stream, struct.pack(">I", code))


def integer(value: int, bits: int, first=0) -> bytes:
    """RFC 7541 section 5.1."""
    limit = (1 << bits) - 1
    if value < limit:
        return bytes([first | value])
    out, value = bytes([first | limit]), value - limit
    while value >= 128:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def literal(name: bytes, value: bytes, indexed=False) -> bytes:
    """A field that refers to no table, so that a block is the same wherever it is sent."""
    return (b"\x40" if indexed else b"\0") + integer(len(name), 7) + name + integer(len(value), 7) + value


@functools.lru_cache(maxsize=256)
def block(*more: tuple[bytes, bytes], path=b"/large") -> bytes:
    """The header block of a request for a large file."""
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"attacked"),
              (b"content-type", b"application/grpc"), (b"te", b"trailers"), *more]  # fmt: skip
    return b"".join(literal(*field) for field in fields)


def request(stream: int, *more, end=True, path=b"/large") -> bytes:
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block(*more, path=path))


def ids(count=STREAMS) -> range:
    return range(1, 2 * count, 2)


@dataclass
class Attack:
    """Every connection writes `opening` after preface and SETTINGS, then `again` for ever. One that the agent ends, or
    that has had nothing more to write for `stays` seconds, is followed by another."""

    opening: bytes = b""
    again: bytes = b""
    settings: bytes = settings()
    connections: int = 4
    reads: bool = True
    stays: float = 0.0
    pace: float = 0.0  # seconds between two writes
    preface: bytes = PREFACE


class Script:
    """One connection's writing and reading, without blocking."""

    def __init__(self, connection: socket.socket, out: bytes, again: bytes, reads=True, pace=0.0):
        self.socket, self.out, self.again, self.reads, self.pace = connection, out, again, reads, pace
        self.at, self.due, self.open = 0, 0.0, True
        connection.setblocking(False)

    def step(self) -> None:
        try:
            for _ in range(READS):
                if self.reads and self.open and not self.received(self.socket.recv(1 << 18)):
                    self.open = False
        except BlockingIOError:
            pass
        except OSError:
            self.open = False
        if not self.open or not self.wants_write():
            return
        try:
            self.at += self.socket.send(memoryview(self.out)[self.at : self.at + (1 << 18)])
        except BlockingIOError:
            return
        except OSError:
            self.open = False
        if self.at == len(self.out):
            self.out, self.at, self.due = self.again, 0, time.monotonic() + self.pace

    def received(self, data: bytes) -> bool:
        return bool(data)

    def wants_write(self) -> bool:
        return self.at < len(self.out) and time.monotonic() >= self.due


def drive(scripts: list, replace: Callable, ended: Callable) -> None:
    """Runs the scripts until `ended()`; `replace(script)` gives one's successor, or None."""
    while not ended():
        readers = [s.socket for s in scripts if s.reads]
        writers = [s.socket for s in scripts if s.wants_write()]
        select.select(readers, writers, [], 0.01)
        for i, script in enumerate(scripts):
            if script.open:
                script.step()
            if script.open:
                continue
            script.socket.close()
            scripts[i] = replace(script)
        scripts[:] = [s for s in scripts if s]
    for script in scripts:
        script.socket.close()


def attack(what: Attack, connect: Callable, ended: Callable) -> int:
    """A hostile client; returns how many connections it took."""
    opening = what.preface + (what.settings if what.preface == PREFACE else b"") + what.opening
    made = 0

    def begin(_=None):
        nonlocal made
        made += 1
        try:
            script = Script(connect(), opening, what.again, what.reads, what.pace)
        except OSError:
            time.sleep(0.01)  # refused
            return None if ended() else begin()
        return script

    scripts = [s for s in (begin() for _ in range(what.connections)) if s]

    def over() -> bool:
        now = time.monotonic()
        for script in scripts:
            done = not what.again and script.at >= len(script.out)
            script.open = script.open and not (done and now > script.due + what.stays)
        return ended()

    drive(scripts, begin, over)
    return made


@dataclass
class HostileBackend:
    """Writes `opening` into each connection, `answer(stream)` for each request (its stream 1 is replaced
    by the request's id), and `again` for ever, in the stream of the first. One that doesn't read leaves off after
    the first; `acks`: the agent's SETTINGS."""

    answer: bytes = b""
    again: bytes = b""
    opening: bytes = settings()
    reads: bool = True
    acks: bool = True


class BackendScript(Script):
    def __init__(self, connection, what: HostileBackend):
        super().__init__(connection, what.opening, b"")
        self.what, self.skip, self.pending = what, len(PREFACE), b""

    def received(self, data: bytes) -> bool:
        self.pending += data
        at, out = min(self.skip, len(self.pending)), b""
        self.skip -= at
        while len(self.pending) >= at + 9:
            size = 9 + int.from_bytes(self.pending[at : at + 3], "big")
            if len(self.pending) < at + size:
                break
            kind, flags, stream = self.pending[at + 3], self.pending[at + 4], int.from_bytes(self.pending[at + 5 : at + 9], "big")
            at += size
            if kind == SETTINGS and not flags & ACK and self.what.acks:
                out += frame(SETTINGS, ACK)
            elif kind == HEADERS:
                self.reads = self.what.reads
                self.again = self.again or with_stream(self.what.again, stream)
                if len(self.out) - self.at + len(out) < MOST_UNSENT:
                    out += with_stream(self.what.answer, stream)
        self.pending = self.pending[at:]
        if out or (self.again and not self.wants_write()):
            self.out, self.at = self.out[self.at :] + out or self.again, 0
        return bool(data)


def with_stream(frames: bytes, stream: int) -> bytes:
    """The frames with stream id 1 replaced; ids above stay relative to it."""
    out, at = bytearray(frames), 0
    while at < len(out):
        (own,) = struct.unpack_from(">I", out, at + 5)
        if own:
            struct.pack_into(">I", out, at + 5, own - 1 + stream)
        at += 9 + int.from_bytes(out[at : at + 3], "big")
    return bytes(out)


class Backend:
    """A pod's server that behaves as a HostileBackend says at the time."""

    def __init__(self, pod, port: int, what: HostileBackend | None = None):
        self.listener = pod.listen(port)
        self.listener.setblocking(False)
        self.what = what or HostileBackend()
        self.over = False
        self.begun_for = self.what  # whose connections there are
        self.scripts: list[BackendScript] = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _accept(self) -> None:
        try:
            accepted, _ = self.listener.accept()
        except BlockingIOError:
            return
        self.scripts.append(BackendScript(accepted, self.what))

    def _run(self) -> None:
        def ended():
            if self.begun_for is not self.what:
                self.begun_for = self.what
                for script in self.scripts:
                    script.open = False
            self._accept()
            return self.over

        drive(self.scripts, lambda script: None, ended)

    def close(self) -> None:
        self.over = True
        self.thread.join(5)
        self.listener.close()
