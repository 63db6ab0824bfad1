"""A gRPC client that greets over one channel and counts who answered. Debian's python3-grpcio.

Runs --rpcs RPCs, or for --duration seconds, or until SIGTERM (neither given). The last line of its
output is the result as JSON: {"rpcs", "ok", "backends": {uuid: count}, "texts", "errors": [...],
"latency_ms": {...}, "peer"}; errors carry start and end on CLOCK_MONOTONIC, which other
processes of the machine share.
"""

import argparse
import collections
import json
import signal
import sys
import threading
import time

import grpc

# An address from the environment must not come between the client and the ClusterIP, and a
# channel's connection must be its own.
OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]


class Tally:
    def __init__(self):
        self.lock = threading.Lock()
        self.backends = collections.Counter()
        self.texts = collections.Counter()
        self.peers = set()
        self.errors = []
        self.latencies = []
        self.started = 0

    def take(self, limit) -> bool:
        with self.lock:
            if limit is not None and self.started >= limit:
                return False
            self.started += 1
            return True

    def answered(self, message: bytes, seconds: float) -> None:
        answer = json.loads(message)
        with self.lock:
            self.backends[answer["uuid"]] += 1
            self.texts[answer.get("text", "")] += 1
            self.peers.add(answer.get("peer", ""))
            self.latencies.append(seconds)

    def failed(self, error: grpc.RpcError, started: float) -> None:
        with self.lock:
            self.errors.append(
                {
                    "code": error.code().name,
                    "details": error.details(),
                    "started": started,
                    "ended": time.monotonic(),
                    "trailers": {k: v for k, v in error.trailing_metadata() or () if isinstance(v, str)},
                }
            )

    def result(self) -> dict:
        ordered = sorted(self.latencies)

        def at(share):
            return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else None

        return {
            "rpcs": len(ordered) + len(self.errors),
            "ok": len(ordered),
            "backends": dict(self.backends),
            "texts": dict(self.texts),
            "peers": sorted(self.peers),
            "errors": self.errors,
            "latency_ms": {"p50": at(0.5), "p99": at(0.99), "max": at(1.0)},
        }


def greet(options, tally: Tally, ended: threading.Event, channel, until: float) -> None:
    """One worker's RPCs, one after the other."""
    due = time.monotonic()
    while not ended.is_set() and time.monotonic() < until and tally.take(options.rpcs):
        own = grpc.insecure_channel(options.target, OPTIONS) if options.reconnect else channel
        started = time.monotonic()
        try:
            call = own.unary_unary(f"/weir.lab.Greeter/{options.method}")
            answer = call(
                options.request.encode(),
                timeout=options.deadline,
                metadata=tuple(pair.split("=", 1) for pair in options.metadata),
                wait_for_ready=options.wait_for_ready,
            )
            tally.answered(answer, time.monotonic() - started)
        except grpc.RpcError as error:
            tally.failed(error, started)
            ended.wait(options.pause_after_error)
        finally:
            if options.reconnect:
                own.close()
        if options.progress and tally.started % options.progress == 0:
            print(tally.started, file=sys.stderr, flush=True)
        if options.rate:
            due += options.concurrency / options.rate
            ended.wait(max(0.0, due - time.monotonic()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", help="ADDRESS:PORT")
    parser.add_argument("--rpcs", type=int, help="how many RPCs in all")
    parser.add_argument("--duration", type=float, help="seconds")
    parser.add_argument("--concurrency", type=int, default=1, help="RPCs at a time")
    parser.add_argument("--rate", type=float, help="RPCs a second in all (default: as fast as it goes)")
    parser.add_argument("--deadline", type=float, default=5.0, help="seconds for each RPC")
    parser.add_argument("--method", default="Hello")
    parser.add_argument("--request", default="", help="the request message")
    parser.add_argument("--metadata", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--reconnect", action="store_true", help="a new connection for each RPC")
    parser.add_argument("--wait-for-ready", action="store_true", help="RPCs wait while there is no connection")
    parser.add_argument("--pause-after-error", type=float, default=0.0, help="seconds")
    parser.add_argument("--progress", type=int, default=0, metavar="N", help="say on stderr when N more RPCs are done")
    options = parser.parse_args()

    tally, ended = Tally(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    until = time.monotonic() + options.duration if options.duration else float("inf")
    with grpc.insecure_channel(options.target, OPTIONS) as channel:
        workers = [
            threading.Thread(target=greet, args=(options, tally, ended, channel, until))
            for _ in range(options.concurrency)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    print(json.dumps(tally.result()), flush=True)


if __name__ == "__main__":
    main()
