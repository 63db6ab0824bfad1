"""A gRPC server that answers every RPC with its UUID. Debian's python3-grpcio, no generated code.

Messages are JSON. Methods of weir.lab.Greeter:
  Hello    unary: {"uuid", "text", "peer"}
  Sleep    unary: waits {"seconds"} first; ends early when the caller cancels
  Stream   server streaming: {"count", "size", "interval"}
  Echo     bidirectional: every message comes back as it is
  Upload   client streaming: {"uuid", "messages", "bytes", "crc32"}
grpc.health.v1.Health: Check says SERVING, as a kubelet's probe asks.
Request metadata: x-lab-delay: SECONDS waits before the answer; x-lab-fail: CODE fails with that status.
"""

import argparse
import json
import signal
import threading
import time
import uuid
import zlib
from concurrent import futures

import grpc

TEXT = "service-mesh-lab"
# HealthCheckResponse{status: SERVING}
SERVING = b"\x08\x01"
STATUS = {code.value[0]: code for code in grpc.StatusCode}


class Greeter:
    def __init__(self, identity: str):
        self.identity = identity

    def scripted(self, context):
        """What the request's metadata asks for."""
        metadata = dict(context.invocation_metadata())
        if "x-lab-delay" in metadata:
            time.sleep(float(metadata["x-lab-delay"]))
        if "x-lab-fail" in metadata:
            context.abort(STATUS[int(metadata["x-lab-fail"])], "as asked by x-lab-fail")

    def hello(self, request: bytes, context) -> bytes:
        self.scripted(context)
        return json.dumps({"uuid": self.identity, "text": TEXT, "peer": context.peer()}).encode()

    def sleep(self, request: bytes, context) -> bytes:
        ended = threading.Event()
        if not context.add_callback(ended.set):
            return b""  # the caller left while the RPC waited for a thread
        ended.wait(float(json.loads(request or b"{}").get("seconds", 1)))
        return self.hello(request, context)

    def stream(self, request: bytes, context):
        self.scripted(context)
        options = {"count": 10, "size": 0, "interval": 0.0, **json.loads(request or b"{}")}
        for i in range(options["count"]):
            yield json.dumps({"uuid": self.identity, "index": i, "padding": "x" * options["size"]}).encode()
            if options["interval"]:
                time.sleep(options["interval"])

    def echo(self, requests, context):
        self.scripted(context)
        yield from requests

    def upload(self, requests, context) -> bytes:
        self.scripted(context)
        messages = size = crc = 0
        for message in requests:
            messages, size, crc = messages + 1, size + len(message), zlib.crc32(message, crc)
        return json.dumps({"uuid": self.identity, "messages": messages, "bytes": size, "crc32": crc}).encode()


def serve(address: str, identity: str, threads: int) -> grpc.Server:
    greeter = Greeter(identity)
    handlers = {
        "Hello": grpc.unary_unary_rpc_method_handler(greeter.hello),
        "Sleep": grpc.unary_unary_rpc_method_handler(greeter.sleep),
        "Stream": grpc.unary_stream_rpc_method_handler(greeter.stream),
        "Echo": grpc.stream_stream_rpc_method_handler(greeter.echo),
        "Upload": grpc.stream_unary_rpc_method_handler(greeter.upload),
    }
    server = grpc.server(futures.ThreadPoolExecutor(threads), options=[("grpc.so_reuseport", 0)])
    health = {"Check": grpc.unary_unary_rpc_method_handler(lambda request, context: SERVING)}
    services = {"weir.lab.Greeter": handlers, "grpc.health.v1.Health": health}
    server.add_generic_rpc_handlers(tuple(grpc.method_handlers_generic_handler(*service) for service in services.items()))
    if server.add_insecure_port(address) == 0:
        raise SystemExit(f"{address} could not be bound")
    server.start()
    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="[::]:50051")
    parser.add_argument("--uuid", default=str(uuid.uuid4()), help="what it answers with (default: a new one)")
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--grace", type=float, default=5.0, help="seconds that RPCs may take to end after SIGTERM")
    options = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server = serve(options.address, options.uuid, options.threads)
    print(f"{options.uuid} serves on {options.address}", flush=True)
    ended.wait()
    server.stop(options.grace).wait()


if __name__ == "__main__":
    main()
