"""Rows of gRPC clients, each with its own HTTP/2 stack, against three servers of grpc-go's.

Every client is a small program of clients/ that plays cases by name and prints a line for each, `case: what it saw`; CASES
has the line of a client that sees everything. Messages are bytes without a schema: gRPC does not look into them."""

import hashlib
import re
from functools import partial

import stacks
from row import BALANCED, PLAIN, RELAYED, ROWS, Declared, End, Row

STREAM = b"".join(bytes([number % 256]) * 1024 for number in range(1000))
SUM = f"1000 messages, {len(STREAM)} bytes, {hashlib.sha256(STREAM).hexdigest()[:16]}"
# case -> what a client says that sees what it should.
CASES = {
    "unary": "30 echoed",
    "down": SUM,
    "up": SUM,
    "both": "200 echoed",
    "large": "52428800 echoed",
    "metadata": "8192 in headers, 8192 in trailers",
    "cancel": "echoed, the server heard",
    "deadline": "4",
    "status": '9 söme 100% "message"',
    "unimplemented": "12",
    "compressed": "100000 echoed, gzip",
    "health": "0801",
    "reflection": re.compile("[0-9a-f]{64}"),  # of the server's services
}
# Seventeen seconds of silence, beside the others: pings after ten at most, answered within five, keep the connection alive.
IDLE = {"keepalive": "alive"}
OVER_TLS = {case: CASES[case] for case in ("unary", "down", "up", "both", "large", "metadata", "cancel", "deadline", "health")}
CLIENTS = ("go", "cpp", "python", "netty", "okhttp", "node", "rust")
# One whose sockets are redirected past TCP, and one whose aren't.
OVER_IPV6 = ("go", "cpp")
SERVERS = 3
# A port that says so, and one that says nothing.
PORTS = (Declared("grpc"), Declared("api-port"))
# grpc-go's server resets a call at its deadline, too. Clients that hear of that before their own timer goes off tell their
# application CANCELLED (or UNKNOWN). Where weir balances, it knows the deadline, and they get DEADLINE_EXCEEDED without exception.
RESET_AT_DEADLINE = ("1", "2")
# What tonic's own timer says, too, if it goes off first: CANCELLED.
CANCELS_AT_DEADLINE = ("rust",)


def play(client: str, tls: bool, end: End, passed: bool = False) -> None:
    """`passed`: weir passes bytes only."""
    command, environment = stacks.client(client)
    command = [*command, end.address, *(["--tls", end.shared / "tls" / "ca.crt"] if tls else [])]
    cases = OVER_TLS if tls else CASES
    # First, while nothing else runs: a server with a call in progress would get none of these.
    said = lines(end.ran("the first call", [*command, "unary"], environment))
    idle = [] if tls else [end.start([*command, *IDLE], env=environment)]
    said |= lines(end.ran("the others", [*command, *(case for case in cases if case != "unary")], environment))
    if said.get("deadline") in RESET_AT_DEADLINE and (end.side == 1 or passed or client in CANCELS_AT_DEADLINE):
        end.notes.append(f"deadline: {said['deadline']} {('directly', 'through weir')[end.side - 1]}")
        said["deadline"] = CASES["deadline"]
    for case, known in cases.items():
        end.saw(case, said.get(case, "nothing"), known)
    for process in idle:
        end.saw("keepalive", lines(end.ended("the idle one", process)).get("keepalive", "nothing"), IDLE["keepalive"])
    end.servers = int(said.get("servers", 0))


def lines(printed: bytes) -> dict[str, str]:
    """case -> what the client says it saw. A line that begins with # is not compared."""
    out = printed.decode(errors="replace")
    found = dict(line.split(": ", 1) for line in out.splitlines() if ": " in line)
    if seen := re.search(r"^# (\d+) servers", out, re.M):
        found["servers"] = seen[1]
    return found


def balanced(direct: End, weir: End, handled: str) -> list[str]:
    """Directly all calls of a connection go to one server; through weir they are spread."""
    expected = SERVERS if handled == BALANCED else 1
    weir.notes.append(f"servers seen by one client: {direct.servers} directly, {weir.servers} through weir")
    return [] if (direct.servers, weir.servers) == (1, expected) else [f"{weir.notes[-1]}; expected {expected} through weir"]


# Of the interoperability clients of grpc-go and grpc-java against grpc-go's server. (Java's takes seconds for each.)
INTEROP = ("empty_unary", "ping_pong", "custom_metadata", "special_status_message", "status_code_and_message", "cancel_after_first_response",
           "client_streaming", "server_streaming", "large_unary", "empty_stream", "cancel_after_begin", "unimplemented_method")  # fmt: skip
FEW = INTEROP[:6]


def interop(client: str, end: End) -> None:
    folder = stacks.interop() if client == "go" else stacks.built("java")
    command = [folder / "interop_client"]
    if client != "go":
        command = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{folder}/jars/*", "io.grpc.testing.integration.TestServiceClient"]
        command.append(f"--use_okhttp={str(client == 'okhttp').lower()}")
    command += ["--use_tls=false", f"--server_host={end.host}", f"--server_port={end.port}"]
    for case in INTEROP if client == "go" else FEW:
        end.run(case, [*command, f"--test_case={case}"], quiet=True)


for name in CLIENTS:
    for port in (*PORTS, *((Declared("grpc", ipv6=True),) if name in OVER_IPV6 else ())):
        ROWS.append(Row(name, port, "grpc", partial(play, name, False), BALANCED, check=balanced))
    for port in PORTS:
        ROWS.append(Row(f"{name}, TLS", port, "grpcs", partial(play, name, True, passed=True), RELAYED, check=balanced))
for name in ("go", "netty", "okhttp"):
    for port in PORTS:
        ROWS.append(Row(f"{name} interop", port, "interop", partial(interop, name), BALANCED))
ROWS.append(Row("go", Declared("tcp-x"), "grpc", partial(play, "go", False, passed=True), PLAIN, check=balanced,
                explained=r"^not diverted: .*not declared.*tcp: port name tcp-x"))  # fmt: skip
