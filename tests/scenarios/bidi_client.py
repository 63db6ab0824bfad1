"""A gRPC client that says nothing before the server's headers have come; then three messages go there and back.

Prints {"headers_ms", "echoes"}; fails after five seconds."""

import json
import queue
import sys
import time

import grpc

MESSAGES = [b"one", b"two", b"three"]


def main() -> None:
    said = queue.SimpleQueue()
    with grpc.insecure_channel(sys.argv[1], [("grpc.enable_http_proxy", 0)]) as channel:
        started = time.monotonic()
        call = channel.stream_stream("/weir.lab.Greeter/Converse")(iter(said.get, None), timeout=5)
        call.initial_metadata()
        headers_ms = round(1000 * (time.monotonic() - started), 1)
        echoes = 0
        for message in MESSAGES:
            said.put(message)
            echoes += next(call) == message
        said.put(None)
        assert call.code() == grpc.StatusCode.OK
    print(json.dumps({"headers_ms": headers_ms, "echoes": echoes}))


if __name__ == "__main__":
    main()
