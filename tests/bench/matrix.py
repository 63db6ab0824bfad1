"""What is measured: shapes, payloads, and the goals. Data only."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """How the calls come: pods, connections of each pod, calls at a time on each connection (closed loop)."""

    pods: int
    connections: int
    streams: int
    part: float | None = None  # open loop instead: this part of HAProxy's saturation


# One call at a time is mostly waking and being woken, whose price on a virtual machine changes from second to second: weir
# and HAProxy run at the same time and have short windows in turn, so many in each of the bench's rounds.
IN_TURN_SHAPE = "1x1, in turn"
IN_TURN_ROUNDS = 8
IN_TURN_TIMING = {"warm_up": 0.1, "window": 0.5}

SHAPES = {
    "1x1": Shape(1, 1, 1),
    IN_TURN_SHAPE: Shape(1, 1, 1),
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
class Configuration:
    """What weir is configured with besides the Service that is called, which has CALLED_ENDPOINTS."""

    others: int  # Services that nobody calls
    governed: bool  # ... each by a VirtualService
    endpoints: int = 0  # ... which they have together
    rules: int = 0  # of the called Service's VirtualService: all but the last are MISSES; 0: it has none


CONFIGURED_SHAPE = "1x100"
CALLED_ENDPOINTS = 10

RULES = {
    "no VirtualService": Configuration(others=1, governed=False),
    "another Service's": Configuration(others=1, governed=True),
    "ten rules": Configuration(others=1, governed=False, rules=10),
}
# Nanoseconds of routing::route() more than with the baseline.
ROUTE_BASELINE = "no VirtualService"
ROUTE_LIMITS = {"ten rules": 500}
SIZES = {
    "10 of each": Configuration(others=9, governed=True, rules=1),
    "10000 of each": Configuration(others=9_999, governed=True, endpoints=9_990, rules=1),
}
# What rules may cost is less than what one window differs from the next by: many rounds of short windows.
RULES_ROUNDS = 8  # in each of the bench's
RULES_TIMING = {"warm_up": 0.1, "window": 0.5}

# Header matches that no call meets; five of the nine are about fields that every call has.
MISSES = (
    ("content-type", "exact", "application/json"),
    ("user-agent", "prefix", "grpc-go/"),
    ("content-type", "regex", "application/grpc-web([+][a-z]+)?"),
    ("x-cohort", "exact", "canary"),
    ("x-tenant", "prefix", "eu-"),
    ("user-agent", "regex", "grpc-(java|python)[-/].*"),
    ("te", "exact", "gzip"),
    ("x-version", "prefix", "v2."),
    ("x-request-id", "regex", "[0-9a-f-]{36}"),
)


def configured_shape(name: str) -> str:
    return f"{CONFIGURED_SHAPE}, {name}"


@dataclass(frozen=True)
class Goal:
    """`metric` of `proxy` as a part of the same metric of `beside` in the same round (the median of the rounds), at
    most `limit`."""

    proxy: str
    shape: str
    payload: str
    metric: str  # of report.METRICS
    limit: float
    beside: str = "haproxy"


_CPU = {IN_TURN_SHAPE: 0.70, "1x100": 0.35, "50x10": 0.35, "200x1": 0.70, "50 pods x 4": 0.70}
GOALS = (
    [Goal("weir", shape, "tiny", "cpu", limit) for shape, limit in _CPU.items()]
    + [Goal("weir", "1x100", "varying", "cpu", 0.40)]
    + [Goal("weir", shape, "tiny", "system", 1.0) for shape in _CPU]
    + [Goal("weir", shape, "tiny", "p99", 1.0) for shape in OPEN_SHAPES]
    + [Goal("weir", "10x4", "64 KB", "cpu", 2.0, beside="haproxy-tcp")]
)


@dataclass(frozen=True)
class TcpRow:
    """What tcp_load does, and how many connections at a time. What counts as a call is a KiB there and back (bulk) or a
    connection."""

    mode: str
    connections: int

    @property
    def shape(self) -> str:
        return f"{self.connections} at a time"


# Plain TCP, by payload; the modes in the order of tcp_backend's ports.
TCP_PORT, TCP_MODES = 8090, ("bulk", "connect", "greeting")
TCP_ROWS = {
    "tcp bulk": TcpRow("bulk", 4),
    "tcp connect": TcpRow("connect", 8),
    "tcp greeting": TcpRow("greeting", 1),
}
# On a busy machine a window differs from the next by more than the goals allow: many short ones, in turn.
TCP_ROUNDS = 2  # in each of the bench's
TCP_TIMING = {"warm_up": 0.15, "window": 0.5}
LEARNED_ROWS = ("tcp bulk", "tcp connect")
HOOK_LIMIT_NS = 500  # of the connect hook, with a learned verdict
HOOKS = ("weir_connect4", "weir_connect6")  # the latter for v4-mapped addresses, which dual-stack sockets dial
HOOK_TIMING = {"warm_up": 0.15, "window": 1.5}  # thousands of runs: of a few hundred the first ones' cache misses are a part


def tcp_goal(proxy: str, payload: str, metric: str, limit: float, beside: str) -> Goal:
    return Goal(proxy, TCP_ROWS[payload].shape, payload, metric, limit, beside)


# A rate within 5 % is an interval of at most 1 / 0.95.
TCP_GOALS = [
    tcp_goal("weir-tcp", "tcp bulk", "cpu", 1.0, "haproxy-tcp"),
    tcp_goal("weir-tcp", "tcp connect", "cpu", 1.0, "haproxy-tcp"),
    tcp_goal("weir-tcp", "tcp greeting", "p50", 1.0, "haproxy-tcp"),
] + [tcp_goal("weir-learned", payload, "interval", 1 / 0.95, "direct") for payload in LEARNED_ROWS]


@dataclass(frozen=True)
class Comparison:
    """weir's CPU per RPC in `shape` beside that in `baseline` in the same round, tiny calls: at most `limit` times as
    much, or (`over`) so many microseconds more."""

    shape: str
    baseline: str
    limit: float
    over: bool = False


_NO_RULES = configured_shape("no VirtualService")
COMPARISONS = (
    Comparison(growth_shape(GROWTH[-1]), growth_shape(GROWTH[0]), 1.10),
    Comparison(configured_shape("another Service's"), _NO_RULES, 1.02),
    Comparison(configured_shape("ten rules"), _NO_RULES, 0.5, over=True),
    Comparison(configured_shape("10000 of each"), configured_shape("10 of each"), 1.10),
)
MEMORY_LIMITS = {"idle connection": 12 * 1024}  # bytes, weir's
