"""Random schedules of what a client does on one HTTP/2 connection, and what became of its calls, at both ends.

As schedules.py, but for connections that weir ends itself: other frames reach the other end then than without it, but the calls
must be the same, and so must the end. What is noted is again only what is certain."""

import contextlib
import random
import select
import socket
import struct
import time
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
from h2.settings import SettingCodes, Settings
from h2_peers import GRPC, grpc_message

PREFACE_SIZE = 24
SIZES = [0, 1, 100, 4096, 65_536, 300_000]
WINDOWS = [16_384, 65_535, 1 << 20]
SHARES = {
    "start": 8, "say": 10, "end": 4, "cancel": 2, "ping": 1, "unknown": 1, "settings": 1, "pause": 1, "wait": 2, "settle": 2,
}  # fmt: skip
UNKNOWN_FRAME = b"\0\0\5\x77\0\0\0\0\0hello"
# What ends a connection: DATA of no stream, a request in a server's stream, a PING and SETTINGS of the wrong length.
NONSENSE = [b"\0\0\1\0\0\0\0\0\0x", b"\0\0\1\1\5\0\0\0\2\x82", b"\0\0\5\6\0\0\0\0\0hello", b"\0\0\1\4\0\0\0\0\0x"]
LIMIT = 20.0  # seconds, for what has to come


def schedule(seed: int) -> list[tuple]:
    """Steps: ("open", window, frame, cut) ("start", call, does) ("say", call, bytes) ("end", call) ("cancel", call) ("ping",)
    ("unknown",) ("settings",) ("pause",) ("wait", s) ("settle",) ("shut",) ("reset",) ("nonsense", frame).
    What the server does in a call: "echo", "count", "pour SIZE", "fail STATUS"."""
    random_ = random.Random(seed)
    # A preface in two pieces is HTTP/2, too, but not redirected.
    cut = random_.randrange(1, PREFACE_SIZE) if random_.random() < 0.1 else 0
    steps = [("open", random_.choice(WINDOWS), random_.choice([16_384, 65_536]), cut)]
    calls, going_on = 0, []
    for _ in range(random_.randrange(2, 20)):
        what = random_.choices(list(SHARES), SHARES.values())[0]
        if what == "start":
            does = random_.choice(["echo", "echo", "count", f"pour {random_.choice(SIZES)}", "fail 5"])
            steps.append(("start", calls, does))
            if does == "fail 5":
                steps.append(("end", calls))
            else:
                going_on.append(calls)
            calls += 1
        elif what == "say" and going_on:
            steps.append(("say", random_.choice(going_on), random_.randbytes(random_.choice(SIZES))))
        elif what in ("end", "cancel") and going_on:
            steps.append((what, going_on.pop(random_.randrange(len(going_on)))))
        elif what == "wait":
            steps.append((what, random_.choice([0.0, 0.001, 0.01, 0.05])))
        elif what in ("ping", "unknown", "settings", "pause", "settle"):
            steps.append((what,))
    in_order = [*(("end", call) for call in going_on), ("settle",)]
    ending = random_.choices([in_order, [("shut",)], [("reset",)], [("nonsense", random_.choice(NONSENSE))]], [5, 2, 2, 2])[0]
    return steps + [("settle",)] * random_.randrange(2) + ending


def comes_whole(steps: list[tuple]) -> bool:
    """Whether the preface comes in one piece."""
    return steps[0][-1] == 0


@dataclass
class Served:
    """A call as the server sees it."""

    does: str
    heard: int = 0
    over: str = ""  # "ended" by the client, or "aborted"


class ServerConnection:
    """Serves one connection. Calls are noted by the names that clients give them."""

    def __init__(self, accepted: socket.socket, noted: dict[str, Served]):
        self.socket, self.noted = accepted, noted
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.calls: dict[int, Served] = {}
        self.answers: dict[int, bytearray] = {}  # what waits for windows

    def run(self) -> None:
        try:
            self.h2.initiate_connection()
            self._send()
            while data := self.socket.recv(65536):
                for event in self.h2.receive_data(data):
                    self._handle(event)
                self._send()
        except h2.exceptions.ProtocolError:
            return
        finally:
            for call in self.calls.values():
                call.over = call.over or "aborted"

    def _send(self) -> None:
        for stream, answer in list(self.answers.items()):
            frame_data(self.h2, stream, answer)
            if not answer and self.calls[stream].over:
                self.h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
                del self.answers[stream]
        self.socket.sendall(self.h2.data_to_send())

    def _handle(self, event) -> None:
        match event:
            case h2.events.RequestReceived():
                self._begin(event.stream_id, dict(event.headers))
            case h2.events.DataReceived():
                call = self.calls[event.stream_id]
                call.heard += len(event.data)
                if call.does == "echo":
                    self.answers[event.stream_id] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                call = self.calls[event.stream_id]
                call.over = "ended"
                if call.does == "count":
                    self.answers[event.stream_id] += grpc_message(str(call.heard).encode())
            case h2.events.StreamReset():
                self.answers.pop(event.stream_id, None)
                call = self.calls[event.stream_id]
                call.over = call.over or "aborted"

    def _begin(self, stream: int, headers: dict) -> None:
        call = self.calls[stream] = self.noted[headers["x-name"]] = Served(headers["x-does"])
        does, _, number = call.does.partition(" ")
        head = [(":status", "200"), ("content-type", GRPC), *([("grpc-status", number)] if does == "fail" else [])]
        with contextlib.suppress(h2.exceptions.ProtocolError):  # its reset has come with it
            self.h2.send_headers(stream, head, end_stream=does == "fail")
        if does != "fail":
            self.answers[stream] = bytearray(grpc_message(bytes(int(number)))) if does == "pour" else bytearray()


def frame_data(connection: h2.connection.H2Connection, stream: int, waiting: bytearray) -> None:
    """As much as the windows allow."""
    while waiting and (room := min(connection.local_flow_control_window(stream), connection.max_outbound_frame_size)) > 0:
        connection.send_data(stream, bytes(waiting[:room]))
        del waiting[:room]


@dataclass
class Call:
    """A call as its client sees it."""

    name: str
    does: str
    stream: int
    said: int = 0
    expected: bytearray = field(default_factory=bytearray)
    waiting: bytearray = field(default_factory=bytearray)
    ending: bool = False
    finished: bool = False
    cancelled: bool = False
    heard: bytearray = field(default_factory=bytearray)
    fields: dict = field(default_factory=dict)
    over: str = ""  # "ended" or "reset"

    def settled(self, served: Served | None) -> bool:
        if self.cancelled:
            return not served or bool(served.over)
        if self.does.startswith("fail"):
            return bool(self.over)
        answered = self.heard == self.expected and bool(self.fields) and bool(self.over) == self.ending
        return answered and bool(served) and served.heard == self.said

    def seen(self) -> tuple:
        if self.cancelled:
            return ("cancelled",)
        return self.does, self.fields.get(":status"), self.fields.get("grpc-status"), len(self.heard), self.over


class Play:
    """A schedule on a connection that doesn't block, to a server that notes its calls in `noted`. Each play has its own name."""

    def __init__(self, connection: socket.socket, noted: dict[str, Served], name: str):
        self.socket, self.noted, self.name = connection, noted, name
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.calls: list[Call] = []
        self.outbox = bytearray()
        self.unanswered = 0  # pings
        self.unset = True  # SETTINGS
        self.paused = self.silent = False
        self.ended = ""  # "end" or "broken", once it has been seen
        self.seen: list = []

    def run(self, steps: list[tuple]) -> list:
        """What was seen, in order."""
        try:
            self._run(steps)
        except h2.exceptions.ProtocolError as error:
            self.seen.append((False, repr(error)))
        return self.seen

    def _run(self, steps: list[tuple]) -> None:
        for step, before in zip(steps, [None, *steps]):
            match step:
                case ("open", *sizes):
                    self._open(*sizes)
                    continue  # what follows may share a segment with it
                case ("start", _, does):
                    self._start(does)
                case ("say", number, said):
                    self._say(self.calls[number], said)
                case ("end", number):
                    self._end(self.calls[number])
                case ("cancel", number):
                    self._cancel(self.calls[number])
                case ("ping",):
                    self.h2.ping(b"12345678")
                    self.unanswered += 1
                case ("unknown",):
                    self._say_frame(UNKNOWN_FRAME)
                case ("settings",):
                    self._enlarge_windows()
                case ("pause",):
                    self.paused = True
                case ("wait", seconds):
                    self._pump(seconds)
                case ("settle",):
                    self._settle()
                case ("shut" | "reset" | "nonsense", *frame):
                    self._leave(step[0], *frame, settled=before == ("settle",))
            self._pump(0)

    def _open(self, window: int, frame: int, cut: int) -> None:
        values = {SettingCodes.INITIAL_WINDOW_SIZE: window, SettingCodes.MAX_FRAME_SIZE: frame}
        self.h2.local_settings = Settings(client=True, initial_values=values)
        self.h2.max_inbound_frame_size = frame
        self.h2.initiate_connection()
        self._say_frame(b"")
        if cut:
            self.socket.send(self.outbox[:cut])
            del self.outbox[:cut]
            time.sleep(0.005)

    def _enlarge_windows(self) -> None:
        """Once the first SETTINGS hold: python3-h2 takes an acknowledgement for that of all."""
        self.paused = False
        self._pump(LIMIT, lambda: not self.unset)
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: WINDOWS[-1]})
        self.unset = True

    def _start(self, does: str) -> None:
        call = Call(f"{self.name}-{len(self.calls)}", does, self.h2.get_next_available_stream_id())
        self.calls.append(call)
        head = [
            (":method", "POST"), (":scheme", "http"), (":path", "/weir.lab.Schedule/Play"), (":authority", "schedule"),
            ("content-type", GRPC), ("te", "trailers"), ("x-name", call.name), ("x-does", does),
        ]  # fmt: skip
        self.h2.send_headers(call.stream, head)
        kind, _, number = does.partition(" ")
        if kind == "pour":
            call.expected += grpc_message(bytes(int(number)))

    def _say(self, call: Call, said: bytes) -> None:
        message = grpc_message(said)
        call.said += len(message)
        call.waiting += message
        if call.does == "echo":
            call.expected += message

    def _end(self, call: Call) -> None:
        call.ending = True
        if call.does == "count":
            call.expected += grpc_message(str(call.said).encode())

    def _cancel(self, call: Call) -> None:
        call.cancelled = True
        if not call.over:
            self.h2.reset_stream(call.stream, h2.errors.ErrorCodes.CANCEL)

    def _say_frame(self, frame: bytes) -> None:
        """After all that has been framed."""
        self.outbox += self.h2.data_to_send() + frame

    def _settle(self) -> None:
        """All that was said is heard, and what has ended is answered."""
        self.paused = False
        self._pump(LIMIT, self._settled)
        self.seen.append((self._settled() and not self.ended, *(call.seen() for call in self.calls)))

    def _settled(self) -> bool:
        calls = all(call.settled(self.noted.get(call.name)) for call in self.calls)
        return calls and not self.unanswered and not self.unset and not self.outbox

    def _leave(self, how: str, frame: bytes = b"", settled=False) -> None:
        """The connection ends, and with it the calls that go on, which the server sees."""
        self.paused = False
        if how == "reset":
            self._pump(0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.close()
            self.ended = "left"
        else:
            self._say_frame(frame)
            self._pump(LIMIT, lambda: not self.outbox)
            self.silent = True
            if how == "shut" and not self.ended:
                self.socket.shutdown(socket.SHUT_WR)
            self._pump(LIMIT, lambda: False)
        until = time.monotonic() + LIMIT
        while not all(over := self._served_over()) and time.monotonic() < until:
            time.sleep(0.005)
        self.seen.append((bool(self.ended) and all(over), how, *(over if settled else [])))

    def _served_over(self) -> list[str]:
        """But of those whose end the server may not hear: failed before it, or cancelled before anything else was heard."""
        calls = [call for call in self.calls if not call.cancelled and not call.does.startswith("fail")]
        return [self.noted[call.name].over for call in calls if call.name in self.noted]

    def _pump(self, seconds: float, done=lambda: False) -> None:
        until = time.monotonic() + seconds
        while not self.ended and not done():
            self._gather()
            left = until - time.monotonic()
            readers, writers = [self.socket] * (not self.paused), [self.socket] * bool(self.outbox)
            readable, writable, _ = select.select(readers, writers, [], max(0, min(left, 0.01)))
            try:
                if writable:
                    del self.outbox[: self.socket.send(self.outbox)]
                if readable:
                    self._receive()
            except OSError:
                self.ended = "broken"
            if left <= 0:
                return

    def _gather(self) -> None:
        if self.silent:
            return self.outbox.clear()
        for call in self.calls:
            if call.over or call.cancelled or call.finished:
                continue
            frame_data(self.h2, call.stream, call.waiting)
            if call.ending and not call.waiting:
                call.finished = True
                self.h2.end_stream(call.stream)
        self._say_frame(b"")

    def _receive(self) -> None:
        data = self.socket.recv(1 << 18)
        if not data:
            self.ended = "end"
        elif not self.silent:
            try:
                events = self.h2.receive_data(data)
            except h2.exceptions.ProtocolError as e:
                print("FIG PROTOCOL", self.name, repr(e)); self.ended = "protocol"; events = []
            for event in events:
                self._handle(event)

    def _handle(self, event) -> None:
        if isinstance(event, h2.events.PingAckReceived):
            self.unanswered -= 1
        self.unset = self.unset and not isinstance(event, h2.events.SettingsAcknowledged)
        call = next((call for call in self.calls if call.stream == getattr(event, "stream_id", 0)), None)
        match event:
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                call.fields |= dict(event.headers)
            case h2.events.DataReceived():
                call.heard += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                call.over = "ended"
            case h2.events.StreamReset():
                call.over = call.over or "reset"


def whole(seen: list) -> bool:
    """Whether all that had to come has come, in time."""
    return all(entry[0] for entry in seen)
