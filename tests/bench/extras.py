"""What is measured besides CPU per RPC of a shape: memory, and growth with the number of endpoints."""

import json
import time
from pathlib import Path

from . import load, matrix
from .peers import HaProxy
from .session import running, say, turned
from .testbed import Testbed
from .weir import Weir

SETTLED = 1.0  # seconds between the last connection and the look at the memory
CALLS_FIRST = {"warm_up": 0.1, "window": 0.9}


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no VmRSS")


def memory(bed: Testbed, proxies) -> list[dict]:
    """[{"proxy", "what", "count", "bytes" each}]: growth of the resident size by connections that stay idle after
    the SETTINGS, and by calls that wait for their answer."""
    connections, streams = matrix.HELD
    cases = (
        ("idle connection", matrix.IDLE_CONNECTIONS, matrix.IDLE_CONNECTIONS, 0),
        ("open stream without data", connections * streams, connections, streams),
    )
    results = []
    for kind in proxies:
        for what, count, wide, deep in cases:
            with running(bed, kind) as proxy:
                load.measure(bed, proxy, 0, "50x10", "tiny", CALLS_FIRST)
                before = resident_bytes(proxy.pid)
                held = matrix.Shape(1, wide, deep)
                argv = [*load.arguments(bed, proxy, held), "--method", "Hold"]
                holder = load.start(bed, [*argv, "--warm-up", SETTLED, "--duration", 60, "--announce"])
                try:
                    if holder.stdout.readline() != "window\n":
                        raise RuntimeError(f"rpc_load could not hold {count} of: {what}")
                    each = (resident_bytes(proxy.pid) - before) / count
                finally:
                    holder.kill()
                    holder.wait(5)
                    holder.stdout.close()
            results.append({"proxy": proxy.name, "what": what, "count": count, "bytes": round(each)})
            say(f"memory: {json.dumps(results[-1])}")
    return results


def in_turn(bed: Testbed, rounds: int) -> list:
    """Samples of one call at a time, weir and HAProxy in turn."""
    samples = []
    with running(bed, HaProxy) as haproxy, running(bed, Weir) as weir:
        for number in range(1, rounds * matrix.IN_TURN_ROUNDS + 1):
            for proxy in turned([haproxy, weir], number):
                samples.append(load.measure(bed, proxy, number, matrix.IN_TURN_SHAPE, "tiny", matrix.IN_TURN_TIMING))
    say("in turn: done")
    return samples


def growth(bed: Testbed, rounds: int, timing: dict) -> list:
    """Samples of weir with Services of more and more endpoints."""
    services = {count: bed.wide_service(f"wide-{count}", count) for count in matrix.GROWTH}
    samples = []
    with running(bed, Weir) as proxy:
        argv = load.arguments(bed, proxy, matrix.SHAPES["1x1"])
        for count, service in services.items():
            _call_everyone(bed, service, count)
        for number in range(1, rounds + 1):
            for count, service in services.items():
                argv[0] = f"{service.target}@{bed.clients[0].pid}"
                more = ["--warm-up", timing["warm_up"], "--duration", timing["window"], "--watch", proxy.pid]
                segments = bed.segments()
                result = load.run(bed, [*argv, *more])
                shape = matrix.growth_shape(count)
                samples.append(load.sample(result, number, "weir", shape, "tiny", bed.segments() - segments, 0.0))
    for service in services.values():
        bed.lab.remove_service(service)
    say("growth done")
    return samples


def _call_everyone(bed: Testbed, service, count: int) -> None:
    """So many calls that, at random, few endpoints are left without a connection: the rows are to measure calls."""
    calls, deadline = 0, time.monotonic() + 60
    while calls < 10 * count and time.monotonic() < deadline:
        argv = [f"{service.target}@{bed.clients[0].pid}", "--connections", 20, "--streams", 50]
        calls += load.run(bed, [*argv, "--warm-up", 0, "--duration", 1])["total"]
