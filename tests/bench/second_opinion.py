"""The tiny shapes again by h2load, a load generator that is not ours: weir's CPU per RPC as a part of HAProxy's."""

import re
import statistics
from pathlib import Path

from . import matrix
from .peers import HaProxy
from .session import running, say
from .testbed import Testbed
from .weir import Weir

ROUNDS = 3
REQUESTS = {"1x1": 4_000, "1x100": 60_000, "50x10": 30_000, "200x1": 20_000}


def measure(bed: Testbed) -> dict[str, float]:
    """{shape: median of the rounds' ratios}."""
    body = bed.lab.folder / "empty-message"
    body.write_bytes(bytes(5))
    ratios = {shape: [] for shape in REQUESTS}
    for _ in range(ROUNDS):
        cpu = {}
        for kind in (HaProxy, Weir):
            with running(bed, kind) as proxy:
                cpu |= {(kind, shape): _cpu_per_rpc(bed, proxy, shape, body) for shape in REQUESTS}
        for shape, values in ratios.items():
            values.append(cpu[Weir, shape] / cpu[HaProxy, shape])
    result = {shape: round(statistics.median(values), 3) for shape, values in ratios.items()}
    say(f"weir beside HAProxy by h2load: {result}")
    return result


def _cpu_per_rpc(bed: Testbed, proxy, shape: str, body: Path) -> float:
    """Nanoseconds, of the whole run: h2load says of no window when it begins."""
    how = matrix.SHAPES[shape]
    before = _cpu_ns(proxy.pid)
    output = bed.clients[0].run(
        ["h2load", "-t", 1, "-c", how.connections, "-m", how.streams, "-n", REQUESTS[shape], "-d", body,
         "-H", "content-type: application/grpc", "-H", "te: trailers", f"http://{proxy.target(0)}/bench.Load/Reply1x0"],
        timeout=90,
    ).stdout  # fmt: skip
    spent = _cpu_ns(proxy.pid) - before
    succeeded = int(re.search(r"(\d+) succeeded", output)[1])
    if succeeded != REQUESTS[shape]:
        raise RuntimeError(f"h2load through {proxy.name}, {shape}: {succeeded} of {REQUESTS[shape]} calls succeeded")
    return spent / succeeded


def _cpu_ns(pid: int) -> int:
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())
