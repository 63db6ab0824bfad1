"""What is measured: shapes, payloads, and the goals. Data only."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """How the calls come: pods, connections of each pod, calls at a time on each connection (closed loop)."""

    pods: int
    connections: int
    streams: int
    part: float | None = None  # open loop instead: this part of HAProxy's saturation


SHAPES = {
    "1x1": Shape(1, 1, 1),
    "1x100": Shape(1, 1, 100),
    "50x10": Shape(1, 50, 10),
    "200x1": Shape(1, 200, 1),
    "50 pods x 4": Shape(50, 4, 1),
    "10x4": Shape(1, 10, 4),
    "50x1": Shape(1, 50, 1),
    "open 25 %": Shape(1, 50, 0, 0.25),
    "open 50 %": Shape(1, 50, 0, 0.50),
    "open 70 %": Shape(1, 50, 0, 0.70),
}

# The open loop's rates are parts of what HAProxy sustains in this shape: as many connections, and no queue. (Calls that
# queue travel in common segments: at 50x10 a proxy sustains more than it can when calls come one by one.)
SATURATION_SHAPE = "50x1"

# Arguments of rpc_load; tests/bench/load/calls.h explains the methods. `varying` has a fresh trace id and another
# grpc-timeout in each call, indexed by HPACK as grpc-go does it: the dynamic tables change with every call.
PAYLOADS = {
    "tiny": (),
    "varying": ("--varying",),
    "1 KB": ("--method", "Reply1x1024", "--request-size", "1024"),
    "64 KB": ("--method", "Reply1x65536"),
    "stream 100 x 1 KB": ("--method", "Reply100x1024"),
    "ping-pong": ("--method", "Echo", "--request-size", "100"),  # a round trip of a message counts as an RPC
}

ISSUE_SHAPES = ("1x1", "1x100", "50x10", "200x1", "50 pods x 4")
OPEN_SHAPES = ("open 25 %", "open 50 %", "open 70 %")

QUICK = [(shape, "tiny") for shape in ISSUE_SHAPES] + [("1x100", "varying")]
FULL = (
    QUICK
    + [("50x10", "varying"), ("50 pods x 4", "varying"), ("50x10", "1 KB")]
    + [("10x4", "64 KB"), ("10x4", "stream 100 x 1 KB"), ("50x10", "ping-pong")]
    + [(shape, "tiny") for shape in OPEN_SHAPES]
)

# Growth: one call at a time to Services of so many endpoints, which are addresses of the three backends. One
# at a time, so that the figure is the agent's work for a choice among many; with more calls at a time on more
# connections, fewer calls would share a send, whatever the proxy does.
GROWTH = (10, 100, 1000, 10000)
IDLE_CONNECTIONS = 5000
HELD = (100, 100)  # connections, open streams on each


def growth_shape(endpoints: int) -> str:
    return f"1x1, {endpoints} endpoints"


@dataclass(frozen=True)
class Goal:
    """`metric` of `proxy` as a part of the same metric of `beside` in the same round, at most `limit`."""

    proxy: str
    shape: str
    payload: str
    metric: str  # "cpu", "system" or "p99"
    limit: float
    beside: str = "haproxy"


_CPU = {"1x1": 0.70, "1x100": 0.35, "50x10": 0.35, "200x1": 0.70, "50 pods x 4": 0.70}
GOALS = (
    [Goal("weir", shape, "tiny", "cpu", limit) for shape, limit in _CPU.items()]
    + [Goal("weir", "1x100", "varying", "cpu", 0.40)]
    + [Goal("weir", shape, "tiny", "system", 1.0) for shape in _CPU]
    + [Goal("weir", shape, "tiny", "p99", 1.0) for shape in OPEN_SHAPES]
    + [Goal("weir", "10x4", "64 KB", "cpu", 2.0, beside="haproxy-tcp")]
)
GROWTH_LIMIT = 1.10  # CPU per RPC with the most endpoints, as a part of that with the fewest
MEMORY_LIMITS = {"idle connection": 12 * 1024}  # bytes, weir's
