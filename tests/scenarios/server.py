"""A gRPC server that misbehaves as it is told and counts what it sees. Debian's python3-grpcio, no generated code.

Told over its standard input, a JSON object a line: {"behave": {...}} is its behaviour from now on, and counts begin
anew; {} changes nothing. Each is answered by a line with the counts until then:
  {"requests", "connections": {peer, as gRPC names it: [requests, most at a time]}, "cut_after": [seconds of each call that hung]}
Behaviour: {} answers; {"code": N} fails calls with that status; {"hang": true} answers none;
{"headers": true} sends headers before that; with {"first": N} only the first N calls, the others are answered.

Methods of weir.lab.Greeter (messages are JSON, as greeter_server.py's):
  Hello     unary: {"uuid", "text", "peer"}, after {"seconds"}
  Converse  bidirectional: sends its headers at once, then every message comes back as it is
"""

import argparse
import contextlib
import json
import sys
import threading
import time
from concurrent import futures

import grpc

STATUS = {code.value[0]: code for code in grpc.StatusCode}
# A call that nobody cuts short ends some time.
LONGEST_HANG = 30.0
THREADS = 400


class Stage:
    def __init__(self):
        self._lock = threading.Lock()
        self.behave({})

    def behave(self, behaviour: dict) -> None:
        with self._lock:
            self._behaviour = behaviour
            self._requests = 0
            self._connections = {}
            self._cut_after = []

    def counts(self) -> dict:
        with self._lock:
            connections = {peer: [seen["requests"], seen["most"]] for peer, seen in self._connections.items()}
            return {"requests": self._requests, "connections": connections, "cut_after": list(self._cut_after)}

    @contextlib.contextmanager
    def call(self, context):
        """Counts a call for as long as it runs, and lets it fail if it shall."""
        with self._lock:
            behaviour, self._requests = self._behaviour, self._requests + 1
            if self._requests > behaviour.get("first", self._requests):
                behaviour = {}
            seen = self._connections.setdefault(context.peer(), {"requests": 0, "now": 0, "most": 0})
            seen["requests"] += 1
            seen["now"] += 1
            seen["most"] = max(seen["most"], seen["now"])
        try:
            if behaviour.get("headers"):
                context.send_initial_metadata(())
            if behaviour.get("hang"):
                self._hang(context)
            if "code" in behaviour:
                context.abort(STATUS[behaviour["code"]], "as told")
            yield
        finally:
            with self._lock:
                seen["now"] -= 1

    def _hang(self, context) -> None:
        ended, started = threading.Event(), time.monotonic()
        if context.add_callback(ended.set):
            ended.wait(LONGEST_HANG)
        with self._lock:
            self._cut_after.append(time.monotonic() - started)


class Greeter:
    def __init__(self, identity: str, stage: Stage):
        self._identity = identity
        self._stage = stage

    def hello(self, request: bytes, context) -> bytes:
        with self._stage.call(context):
            time.sleep(json.loads(request or b"{}").get("seconds", 0))
            return json.dumps({"uuid": self._identity, "text": "scenario", "peer": context.peer()}).encode()

    def converse(self, requests, context):
        with self._stage.call(context):
            context.send_initial_metadata(())
            yield from requests


def serve(identity: str, ports: list[int], options: list, stage: Stage) -> grpc.Server:
    greeter = Greeter(identity, stage)
    handlers = {
        "Hello": grpc.unary_unary_rpc_method_handler(greeter.hello),
        "Converse": grpc.stream_stream_rpc_method_handler(greeter.converse),
    }
    server = grpc.server(futures.ThreadPoolExecutor(THREADS), options=[("grpc.so_reuseport", 0), *options])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("weir.lab.Greeter", handlers),))
    for port in ports:
        if server.add_insecure_port(f"[::]:{port}") == 0:
            raise SystemExit(f"port {port} could not be bound")
    server.start()
    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uuid", required=True, help="what it answers with")
    parser.add_argument("--port", type=int, action="append", required=True, help="repeatable")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=NUMBER", help="a channel argument of gRPC")
    arguments = parser.parse_args()
    options = [(name, int(value)) for name, value in (pair.split("=", 1) for pair in arguments.option)]
    stage = Stage()
    server = serve(arguments.uuid, arguments.port, options, stage)
    # Ends with the pipe: when whoever holds its other end is gone.
    for line in sys.stdin:
        order = json.loads(line)
        counts = stage.counts()
        if "behave" in order:
            stage.behave(order["behave"])
        print(json.dumps(counts), flush=True)
    server.stop(0).wait()


if __name__ == "__main__":
    main()
