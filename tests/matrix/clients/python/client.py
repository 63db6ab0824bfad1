"""grpcio's client of the matrix: client.py TARGET [--tls CA] CASE...  (grpc_rows.py says what each case is)"""

import hashlib
import queue
import sys
import time
import uuid
from pathlib import Path

import grpc

OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 32 << 10),
    ("grpc.absolute_max_metadata_size", 64 << 10),
    ("grpc.keepalive_time_ms", 3000),
    ("grpc.keepalive_timeout_ms", 5000),
    ("grpc.http2.max_pings_without_data", 0),
]
CASES = {}


def case(play):
    CASES[play.__name__] = play
    return play


def path(method: str) -> str:
    return method if method.startswith("/") else f"/weir.Matrix/{method}"


def call(channel, method: str, message: bytes, timeout=30.0, **more):
    """(answer, grpc.Call) of a unary call."""
    return channel.unary_unary(path(method)).with_call(message, timeout=timeout, **more)


class Both:
    """A bidirectional call, a message at a time."""

    def __init__(self, channel, method="Both", **more):
        self._messages = queue.SimpleQueue()
        self.call = channel.stream_stream(path(method))(iter(self._messages.get, None), timeout=60, **more)

    def exchange(self, message: bytes) -> bytes:
        self._messages.put(message)
        return next(self.call)

    def end(self) -> None:
        self._messages.put(None)
        assert next(self.call, None) is None


def block(number: int, size: int) -> bytes:
    return bytes([number % 256]) * size


def total(messages) -> str:
    count, size, digest = 0, 0, hashlib.sha256()
    for message in messages:
        count += 1
        size += len(message)
        digest.update(message)
    return f"{count} messages, {size} bytes, {digest.hexdigest()[:16]}"


@case
def unary(channel) -> str:
    echoed, servers = 0, set()
    for number in range(30):
        answer, done = call(channel, "Echo", block(number, 100))
        servers.add(dict(done.initial_metadata())["x-server"])
        echoed += answer == block(number, 100)
    print(f"# {len(servers)} servers")
    return f"{echoed} echoed"


@case
def down(channel) -> str:
    return total(channel.unary_stream(path("Down"))(b"1000 1024", timeout=30))


@case
def up(channel) -> str:
    return channel.stream_unary(path("Up"))((block(number, 1024) for number in range(1000)), timeout=30).decode()


@case
def both(channel) -> str:
    stream = Both(channel)
    echoed = sum(stream.exchange(block(number, 50)) == block(number, 50) for number in range(200))
    stream.end()
    return f"{echoed} echoed"


@case
def large(channel) -> str:
    message = block(7, 50 << 20)
    answer, _ = call(channel, "Echo", message)
    return f"{len(answer)} {'echoed' if answer == message else 'changed'}"


@case
def metadata(channel) -> str:
    _, done = call(channel, "Echo", b"x", metadata=[("x-echo", "m" * 8192)])
    headers, trailers = dict(done.initial_metadata()), dict(done.trailing_metadata())
    return f"{len(headers.get('x-echo', ''))} in headers, {len(trailers.get('x-echo-trailer', ''))} in trailers"


@case
def cancel(channel) -> str:
    name = str(uuid.uuid4())
    stream = Both(channel, metadata=[("x-id", name)])
    if stream.exchange(block(1, 10)) != block(1, 10):
        return "silent"
    stream.call.cancel()
    for _ in range(100):
        if call(channel, "Cancelled", name.encode())[0] == b"1":
            return "echoed, the server heard"
        time.sleep(0.03)
    return "the server did not hear"


def ended(channel, method: str, **more) -> grpc.RpcError:
    try:
        call(channel, method, b"", **more)
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"{method} did not fail")


@case
def deadline(channel) -> str:
    return " ".join(str(ended(channel, "Sleep", timeout=0.05).code().value[0]) for _ in range(20))


@case
def status(channel) -> str:
    error = ended(channel, "Fail")
    return f"{error.code().value[0]} {error.details()}"


@case
def unimplemented(channel) -> str:
    return str(ended(channel, "Nothing").code().value[0])


@case
def compressed(channel) -> str:
    answer, done = call(channel, "Echo", block(1, 100_000), compression=grpc.Compression.Gzip)
    return f"{len(answer)} echoed, {dict(done.initial_metadata())['x-encoding']}"


@case
def health(channel) -> str:
    return call(channel, "/grpc.health.v1.Health/Check", b"")[0].hex()


@case
def reflection(channel) -> str:
    stream = Both(channel, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    answer = stream.exchange(b":\0")
    stream.end()
    return hashlib.sha256(answer).hexdigest()


@case
def keepalive(channel) -> str:
    stream = Both(channel)
    for pause in (17, 0):
        if stream.exchange(block(1, 10)) != block(1, 10):
            return "dead"
        time.sleep(pause)
    stream.end()
    return "alive"


@case
def pinged(channel) -> str:
    connections = {}
    for pause in (8, 0):
        for _ in range(30):
            headers = dict(call(channel, "Echo", block(1, 10))[1].initial_metadata())
            if connections.setdefault(headers["x-server"], headers["x-connection"]) != headers["x-connection"]:
                return "another connection"
        time.sleep(pause)
    return "alive"


def main() -> None:
    target, *arguments = sys.argv[1:]
    if arguments[0] == "--tls":
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(Path(arguments[1]).read_bytes()), OPTIONS)
        arguments = arguments[2:]
    else:
        channel = grpc.insecure_channel(target, OPTIONS)
    with channel:
        for name in arguments:
            try:
                print(f"{name}: {CASES[name](channel)}", flush=True)
            except grpc.RpcError as error:
                print(f"{name}: failed with {error.code().value[0]} {error.details()}", flush=True)


main()
