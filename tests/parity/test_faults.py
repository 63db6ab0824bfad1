"""The same backends, failing in the same way, behind weir and behind Envoy: what the client gets, and the response flag."""

import time
from dataclasses import dataclass, field

import h2.errors
import pytest
from h2_peers import Backend
from lab import processes
from pair import PORT, begin, outcome


def answers(request):
    request.answer()


def hangs(request):
    pass


def resets(request):
    request.reset(h2.errors.ErrorCodes.INTERNAL_ERROR)


def refuses(request):
    request.reset(h2.errors.ErrorCodes.REFUSED_STREAM)


def resets_after_headers(request):
    request.head()
    request.message(b"one")
    time.sleep(0.05)
    request.reset(h2.errors.ErrorCodes.INTERNAL_ERROR)


def leaves(request):
    request.connection.abort()


def leaves_after_headers(request):
    request.head()
    request.message(b"one")
    time.sleep(0.05)
    request.connection.abort()


def says_503(request):
    request.connection.send(lambda c: c.send_headers(request.stream, [(":status", "503")], end_stream=True))


def trailers_only(code):
    def answer(request):
        head = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", str(code)), ("grpc-message", "no")]
        request.connection.send(lambda c: c.send_headers(request.stream, head, end_stream=True))

    return answer


@dataclass
class Fault:
    name: str
    respond: object  # of the backend; None: nothing listens there; False: there is no endpoint
    expected: str  # of weir: at the client, and the flags
    envoy: str = ""  # where it differs ...
    why: str = ""  # ... on purpose
    rule: dict = field(default_factory=dict)
    policy: dict = field(default_factory=dict)
    before: int = 0  # calls that hang already


TRAILERS = "trailers are made up, so that the client learns the reason"
DEADLINE = "a timeout is DEADLINE_EXCEEDED, as gRPC says it"
RETRY = {"retries": {"attempts": 1, "retryOn": "reset,unavailable,connect-failure,5xx"}}
FAULTS = [
    Fault("answered", answers, "grpc 0 -"),
    Fault("no-endpoint", False, "grpc 14 UH"),
    Fault("connect-refused", None, "grpc 14 UF"),
    Fault("connect-refused-retried", None, "grpc 14 UF,URX", rule=RETRY),
    Fault("reset", resets, "grpc 14 UR"),
    Fault("reset-retried", resets, "grpc 14 UR,URX", rule=RETRY),
    Fault("refused", refuses, "grpc 14 UR"),
    Fault("reset-after-headers", resets_after_headers, "grpc 14 UR", "reset INTERNAL_ERROR UR", TRAILERS),
    Fault("connection-ends", leaves, "grpc 14 UC"),
    Fault("connection-ends-after-headers", leaves_after_headers, "grpc 14 UC", "reset INTERNAL_ERROR UC", TRAILERS),
    Fault("timeout", hangs, "grpc 4 UT", "grpc 14 UT", DEADLINE, {"timeout": "0.2s"}),
    Fault(
        "per-try-timeout",
        hangs,
        "grpc 4 URX,UT",
        "grpc 14 URX,UT",
        DEADLINE,
        {"retries": {"attempts": 1, "retryOn": "reset", "perTryTimeout": "0.2s"}},
    ),
    Fault("503", says_503, "http 503 -"),
    Fault("503-retried", says_503, "http 503 URX", rule=RETRY),
    Fault("trailers-only-13", trailers_only(13), "grpc 13 -"),
    Fault("trailers-only-14-retried", trailers_only(14), "grpc 14 URX", rule=RETRY),
    Fault("no-rule", answers, "grpc 12 NR", rule={"match": [{"headers": {"x-nobody": {"exact": "1"}}}]}),
    Fault("no-cluster", answers, "grpc 14 NC", rule={"route": [{"destination": {"subset": "nobody"}}]}),
    Fault("max-requests", hangs, "grpc 14 UO", policy={"connectionPool": {"http": {"http2MaxRequests": 1}}}, before=1),
    Fault(
        "max-connections",
        hangs,
        "grpc 14 UO",
        policy={"connectionPool": {"tcp": {"maxConnections": 1}, "http": {"maxConcurrentStreams": 1, "http1MaxPendingRequests": 1}}},
        before=2,
    ),
]


@pytest.fixture(scope="module")
def faulty(lab, pair):
    backends = []
    for fault in FAULTS:
        pods = [] if fault.respond is False else [lab.pod(f"b-{fault.name}")]
        if fault.respond:
            backends.append(Backend(pods[0], fault.respond))
        pair.add(fault.name, [{"route": [{"destination": {}}]} | fault.rule], fault.policy, pods)
    pair.start()
    yield pair
    for backend in backends:
        backend.close()


def ended(pair, connections, fault) -> list[str]:
    path = f"/pkg.Faults/{fault.name}"
    found = []
    for connection, which in zip(connections, (0, 1)):
        for number in range(fault.before):
            begin(connection, f"/pkg.Faults/before-{number}")
            time.sleep(0.1)
        client = outcome(connection, begin(connection, path))
        # Only what failed is in weir's log.
        logged = client == "grpc 0" and which == 0
        records = [] if logged else processes.wait_until(lambda: pair.flags(path)[which], 3, f"the access log has {path}")
        flags = records[0]["response_flags"] if records else "-"
        found.append(f"{client} {','.join(sorted(flags.split(',')))}")
    return found


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_client_sees_the_same(faulty, fault):
    connections = faulty.connect(fault.name)
    try:
        weir, envoy = ended(faulty, connections, fault)
    finally:
        for connection in connections:
            connection.close()
    print(f"{fault.name:32} {weir:24} {envoy:24} {fault.why}")
    assert weir == fault.expected
    assert envoy == (fault.envoy or fault.expected)
    assert bool(fault.envoy) == bool(fault.why)
