"""Scripted HTTP/2 peers in the hands of a test: a backend that does what it is told, and a bare
client. Both use python3-h2 over sockets that belong to pods, and note when what arrived."""

import socket
import struct
import threading
import time
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
from lab.tcp_server import Acceptor

GRPC = "application/grpc"


def grpc_message(payload: bytes) -> bytes:
    return struct.pack(">BI", 0, len(payload)) + payload


def grpc_messages(body: bytes) -> list[bytes]:
    found = []
    while body:
        (size,) = struct.unpack_from(">xI", body)
        found.append(body[5 : 5 + size])
        body = body[5 + size :]
    return found


class GoawayFilter:
    """python3-h2 takes nothing more after a GOAWAY, where RFC 9113 section 6.8 lets open streams finish. So
    GOAWAY frames are taken out of what it is given."""

    def __init__(self, skip: int):
        self.skip = skip  # bytes of the preface
        self.pending = b""

    def feed(self, data: bytes) -> tuple[bytes, list[tuple[int, int]]]:
        """The bytes for h2, and (last stream, error code) of each GOAWAY."""
        self.pending += data
        passed, found = self.pending[: self.skip], []
        self.pending, self.skip = self.pending[self.skip :], max(0, self.skip - len(self.pending))
        while len(self.pending) >= 9:
            size = 9 + int.from_bytes(self.pending[:3], "big")
            if len(self.pending) < size:
                break
            frame, self.pending = self.pending[:size], self.pending[size:]
            if frame[3] == 7:
                found.append(struct.unpack_from(">II", frame, 9))
            else:
                passed += frame
        return passed, found


@dataclass
class Request:
    """One request as a backend saw it, and the means to answer it."""

    connection: "BackendConnection"
    stream: int
    headers: dict
    at: float
    body: bytearray = field(default_factory=bytearray)
    ended_at: float | None = None
    reset_at: float | None = None
    reset_code: int | None = None

    def head(self, *extra) -> None:
        self.connection.send(lambda c: c.send_headers(self.stream, [(":status", "200"), ("content-type", "application/grpc"), *extra]))

    def message(self, payload: bytes) -> None:
        self.connection.send(lambda c: c.send_data(self.stream, grpc_message(payload)))

    def status(self, code: int, text="") -> None:
        trailers = [("grpc-status", str(code)), ("grpc-message", text)]
        self.connection.send(lambda c: c.send_headers(self.stream, trailers, end_stream=True))

    def answer(self, payload=b"{}") -> None:
        self.head()
        self.message(payload)
        self.status(0)

    def reset(self, code: h2.errors.ErrorCodes) -> None:
        self.connection.send(lambda c: c.reset_stream(self.stream, code))

    @property
    def method(self) -> str:
        return self.headers[":path"].rsplit("/", 1)[-1]


class BackendConnection:
    def __init__(self, backend, accepted: socket.socket, peer):
        self.backend, self.socket, self.peer = backend, accepted, peer
        self.lock = threading.RLock()
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8", validate_inbound_headers=True)
        )
        self.filter = GoawayFilter(skip=24)
        self.requests: dict[int, Request] = {}
        self.last_stream: int | None = None
        self.closed_at: float | None = None
        self.goaway_at: float | None = None

    def send(self, act) -> None:
        with self.lock:
            try:
                act(self.h2)
                self.socket.sendall(self.h2.data_to_send())
            except (OSError, h2.exceptions.ProtocolError):
                return  # the peer reset the stream or left: the test looks at what it sees then

    def goaway(self, last_stream: int) -> None:
        """GOAWAY: what came later is not looked at (it is for the peer to send it elsewhere)."""
        with self.lock:
            self.last_stream = last_stream
            self.socket.sendall(struct.pack(">IBIII", 8 << 8 | 7, 0, 0, last_stream, 0))

    def abort(self) -> None:
        """RST, as a server whose process is killed with unread data leaves."""
        self._end(struct.pack("ii", 1, 0))

    def close(self) -> None:
        self._end(struct.pack("ii", 0, 0))

    def _end(self, linger: bytes) -> None:
        """run() closes: a descriptor that one thread closes and another reads may by then be somebody else's."""
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.socket.shutdown(socket.SHUT_RD)
        except OSError:
            return  # the peer was first

    def run(self) -> None:
        self.send(lambda c: c.initiate_connection())
        try:
            while data := self.socket.recv(65536):
                with self.lock:
                    data, goaways = self.filter.feed(data)
                    events = self.h2.receive_data(data) if data else []
                    self.socket.sendall(self.h2.data_to_send())
                if goaways:
                    self.goaway_at = time.monotonic()
                for event in events:
                    self.handle(event)
        except (OSError, h2.exceptions.ProtocolError) as error:
            self.backend.errors.append(error)
        self.closed_at = time.monotonic()
        self.socket.close()

    def handle(self, event) -> None:
        now = time.monotonic()
        if isinstance(event, h2.events.RequestReceived):
            request = Request(self, event.stream_id, dict(event.headers), now)
            self.requests[event.stream_id] = request
            if self.last_stream is not None and event.stream_id > self.last_stream:
                return
            self.backend.requests.append(request)
            threading.Thread(target=self.backend.respond, args=(request,), daemon=True).start()
        elif isinstance(event, h2.events.DataReceived):
            self.requests[event.stream_id].body += event.data
            if self.backend.grant_windows:
                self.send(lambda c: c.acknowledge_received_data(event.flow_controlled_length, event.stream_id))
        elif isinstance(event, h2.events.StreamEnded):
            self.requests[event.stream_id].ended_at = now
        elif isinstance(event, h2.events.StreamReset):
            self.requests[event.stream_id].reset_code = int(event.error_code)
            self.requests[event.stream_id].reset_at = now


class Backend:
    """Listens in a pod; `respond(request)` runs on a thread of its own for each request."""

    def __init__(self, pod, respond, port=50051, grant_windows=True):
        self.respond = respond
        self.grant_windows = grant_windows
        self.requests: list[Request] = []
        self.connections: list[BackendConnection] = []
        self.errors: list[Exception] = []
        self._acceptor = Acceptor(pod.listen(port), self._take)

    def _take(self, accepted: socket.socket, peer: tuple) -> None:
        connection = BackendConnection(self, accepted, peer)
        self.connections.append(connection)
        threading.Thread(target=connection.run, daemon=True).start()

    def close(self) -> None:
        self._acceptor.close()
        for connection in self.connections:
            connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@dataclass
class Response:
    headers: dict = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    trailers: dict = field(default_factory=dict)
    reset_code: int | None = None
    ended_at: float | None = None

    @property
    def grpc_status(self) -> int | None:
        value = self.trailers.get("grpc-status", self.headers.get("grpc-status"))
        return None if value is None else int(value)

    @property
    def grpc_text(self) -> str:
        return self.trailers.get("grpc-message", self.headers.get("grpc-message", ""))


class Client:
    """One HTTP/2 connection from a pod. Everything that arrives is read by a thread."""

    def __init__(self, connection: socket.socket, write_size=None):
        self.socket = connection
        self.write_size = write_size
        self.changed = threading.Condition(threading.RLock())
        # Not validated on the way out: some tests send what they must not.
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False)
        )
        self.responses: dict[int, Response] = {}
        self.filter = GoawayFilter(skip=0)
        self.goaway_code: int | None = None
        self.closed = False
        self.send(lambda c: c.initiate_connection())
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def send(self, act) -> None:
        with self.changed:
            act(self.h2)
            data = self.h2.data_to_send()
        for at in range(0, len(data), self.write_size or max(1, len(data))):
            self.socket.sendall(data[at : at + (self.write_size or len(data))])

    def start(self, method="Hello", payload: bytes | None = b"{}", headers=(), end=True, content_type=GRPC) -> int:
        """Begins an RPC and returns its stream."""
        with self.changed:
            stream = self.h2.get_next_available_stream_id()
            self.responses[stream] = Response()
            head = [
                (":method", "POST"), (":scheme", "http"), (":path", f"/weir.lab.Greeter/{method}"), (":authority", "greeter"),
                ("content-type", content_type), ("te", "trailers"), *headers,
            ]  # fmt: skip
            self.send(lambda c: c.send_headers(stream, head))
            if payload is not None:
                self.send(lambda c: c.send_data(stream, grpc_message(payload), end_stream=end))
        return stream

    def cancel(self, stream: int) -> None:
        self.send(lambda c: c.reset_stream(stream, h2.errors.ErrorCodes.CANCEL))

    def finish(self, stream: int, timeout=5.0) -> Response:
        """The response, once its stream or the connection has ended."""
        response = self.responses[stream]
        with self.changed:
            if not self.changed.wait_for(lambda: response.ended_at is not None or self.closed, timeout):
                raise TimeoutError(f"stream {stream} has not ended after {timeout:g} s: {response}")
        return response

    def call(self, method="Hello", payload=b"{}", headers=(), timeout=5.0, content_type=GRPC) -> Response:
        return self.finish(self.start(method, payload, headers, content_type=content_type), timeout)

    def wait_closed(self, timeout=5.0) -> None:
        with self.changed:
            if not self.changed.wait_for(lambda: self.closed, timeout):
                raise TimeoutError(f"the connection is still open after {timeout:g} s")

    def _read(self) -> None:
        try:
            while data := self.socket.recv(65536):
                with self.changed:
                    data, goaways = self.filter.feed(data)
                    for event in self.h2.receive_data(data) if data else []:
                        self._handle(event)
                    if goaways:
                        self.goaway_code = goaways[-1][1]
                    self.socket.sendall(self.h2.data_to_send())
                    self.changed.notify_all()
        except (OSError, h2.exceptions.ProtocolError):
            pass
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def _handle(self, event) -> None:
        response = self.responses.get(getattr(event, "stream_id", 0))
        if response is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            response.headers = dict(event.headers)
        elif isinstance(event, h2.events.TrailersReceived):
            response.trailers = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            response.body += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
            if isinstance(event, h2.events.StreamReset):
                response.reset_code = int(event.error_code)
            response.ended_at = time.monotonic()

    def vanish(self) -> None:
        """RST instead of FIN: what is left of a client that was killed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_RD)
        except OSError:
            pass  # the peer was first
        # First the reader, then the descriptor: its number is soon another connection's.
        self.reader.join(10)
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
