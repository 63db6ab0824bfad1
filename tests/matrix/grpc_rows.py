"""Rows of gRPC clients, each with its own HTTP/2 stack, against three servers of grpc-go's.

Every client is a small program of clients/ that plays cases by name and prints a line for each, `case: what it saw`; CASES
has the line of a client that sees everything. Messages are bytes without a schema: gRPC does not look into them."""

import hashlib
import re
from collections.abc import Callable
from functools import partial
from math import comb

import stacks
from row import BALANCED, PLAIN, RELAYED, Declared, End, Row

STREAM = b"".join(bytes([number % 256]) * 1024 for number in range(1000))
SUM = f"1000 messages, {len(STREAM)} bytes, {hashlib.sha256(STREAM).hexdigest()[:16]}"
# case -> what a client says that sees what it should.
CASES = {
    "unary": "30 echoed",  # first: a server with a call in progress would get none of these
    "down": SUM,
    "up": SUM,
    "both": "200 echoed",
    "large": "52428800 echoed",
    "metadata": "8192 in headers, 8192 in trailers",
    "cancel": "echoed, the server heard",
    "deadline": "20 ended",  # how: see unlike()
    "status": '9 söme 100% "message"',
    "unimplemented": "12",
    "compressed": "100000 echoed, gzip",
    "health": "0801",
    "reflection": re.compile("[0-9a-f]{64}"),  # of the server's services
}
OVER_TLS = {case: CASES[case] for case in ("unary", "down", "up", "both", "large", "metadata", "cancel", "deadline", "health")}
# What takes time only: all clients at once. Seventeen seconds of silence beside a call: the client's pings, after three or ten,
# answered within five, keep its connection. Eight without a call: so do its answers to the server's pings, after one.
IDLE = {"keepalive": "alive", "pinged": "alive"}
CLIENTS = ("go", "cpp", "python", "netty", "okhttp", "node", "rust")
# Built in seconds, with what weir's other tests need anyway.
QUICK = ("go", "cpp", "python")
# One whose sockets are redirected past TCP, and one whose aren't.
OVER_IPV6 = ("go", "cpp")
SERVERS = 3
SIDES = {1: "directly", 2: "through weir"}
# A port that says so, and one that says nothing.
SAYS, SILENT = PORTS = (Declared("grpc"), Declared("api-port"))
DEADLINE_EXCEEDED = "4"
# What an application is told of a reset at the deadline, if it is: CANCELLED or UNKNOWN.
RESET = ("1", "2")
# What a client's own timer says, where that is something else: CANCELLED.
OWN_TIMER = {"rust": "1"}
# Less likely than this is no chance; and how often deadlines are met anew to tell.
CHANCE, AGAIN = 0.001, 10


def command(client: str, tls: bool, end: End, *cases: str) -> dict:
    """For End.start()."""
    argv, environment = stacks.client(client)
    return {"argv": [*argv, end.address, *(["--tls", end.shared / "tls" / "ca.crt"] if tls else []), *cases], "env": environment}


def play(client: str, tls: bool, end: End) -> None:
    cases = OVER_TLS if tls else CASES
    said = lines(end.ended("the client", end.start(**command(client, tls, end, *cases))))
    said["deadline"] = note_deadlines(end, said)
    for case, known in cases.items():
        end.saw(case, said.get(case, "nothing"), known)
    end.servers = int(said.get("servers", 0))


def idle(case: str, clients: tuple[str, ...], tls: bool, end: End) -> None:
    begun = {client: end.start(**command(client, tls, end, case)) for client in clients}
    for client, process in begun.items():
        end.saw(client, lines(end.ended(client, process)).get(case, "nothing"), IDLE[case])


def note_deadlines(end: End, said: dict[str, str]) -> str:
    """How many of a client's calls have ended at their deadlines, if they have; with which status, the End counts."""
    codes = said.get("deadline", "nothing").split()
    if not {DEADLINE_EXCEEDED, *RESET}.issuperset(codes):
        return " ".join(codes)
    end.deadlines.update(codes)
    return f"{len(codes)} ended"


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


def unlike(client: str, tls: bool, direct: End, weir: End, handled: str) -> list[str]:
    """What weir changes in how calls end at their deadlines. There are three ends, whichever is first: the client's timer; a
    RST_STREAM by grpc-go's transport, whose timer starts later but has no need to round to milliseconds; and trailers, of its
    handler or of weir where that balances. Who is told of the reset says CANCELLED (C-core, Node) or UNKNOWN (tonic). weir does
    not pass it on where it balances, and elsewhere not more often than it comes directly."""

    def resets() -> list[str]:
        return [code for code in RESET if weir.deadlines[code] and code != OWN_TIMER.get(client)]

    def more() -> list[str]:
        return [code for code in resets() if chance(direct.deadlines[code], weir.deadlines[code]) < CHANCE]

    for _ in range(AGAIN if handled != BALANCED else 0):
        if more() or all(direct.deadlines[code] for code in resets()):
            break
        for end in (direct, weir):
            said = note_deadlines(end, lines(end.finish(end.start(**command(client, tls, end, "deadline")))))
            if said != CASES["deadline"]:
                return [f"deadline, met anew: {said} {SIDES[end.side]}"]
    seen = "deadlines: " + ", ".join(
        f"{' '.join(f'{count} x {code}' for code, count in sorted(end.deadlines.items()))} {SIDES[end.side]}" for end in (direct, weir)
    )
    if {*direct.deadlines, *weir.deadlines} != {DEADLINE_EXCEEDED}:
        weir.notes.append(seen)
    return [seen] if (resets() if handled == BALANCED else more()) else []


def chance(direct: int, weir: int) -> float:
    """That as many as `weir` of all are on weir's side, if each might as well be on the other."""
    both = direct + weir
    return sum(comb(both, count) for count in range(weir, both + 1)) / 2**both


def compared(client: str, tls: bool, direct: End, weir: End, handled: str) -> list[str]:
    return balanced(direct, weir, handled) + unlike(client, tls, direct, weir, handled)


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


def rows(clients: tuple[str, ...]) -> list[Row]:
    made = []

    def add(what: str, port: Declared, server: str, play: Callable, handled: str, of: tuple[str, ...], **more) -> None:
        builds = tuple(dict.fromkeys(["interop" if server == "interop" else "go", *map(stacks.stack_of, of)]))
        made.append(Row(what, port, server, play, handled, stacks=builds, **more))

    def add_client(client: str, port: Declared, handled: str, tls=False, **more) -> None:
        add(f"{client}{', TLS' * tls}", port, "grpcs" if tls else "grpc", partial(play, client, tls), handled, (client,),
            check=partial(compared, client, tls), **more)  # fmt: skip

    def add_idle(what: str, port: Declared, server: str, case: str, of: tuple[str, ...], tls=False) -> None:
        add(f"{what}{', TLS' * tls}", port, server, partial(idle, case, of, tls), RELAYED if tls else BALANCED, of)

    ipv6 = Declared("grpc", ipv6=True)
    over_ipv6 = tuple(client for client in clients if client in OVER_IPV6)
    for client in clients:
        for port in (*PORTS, *((ipv6,) if client in over_ipv6 else ())):
            add_client(client, port, BALANCED)
        for port in PORTS:
            add_client(client, port, RELAYED, tls=True)
    for client in ("go", "netty", "okhttp"):
        if client in clients:
            for port in PORTS:
                add(f"{client} interop", port, "interop", partial(interop, client), BALANCED, () if client == "go" else (client,))
    add_client("go", Declared("tcp-x"), PLAIN, explained=r"^not diverted: .*not declared.*tcp: port name tcp-x")
    add_idle("keepalive", SAYS, "grpc", "keepalive", clients)
    add_idle("keepalive", ipv6, "grpc", "keepalive", over_ipv6)
    add_idle("keepalive", SILENT, "grpcs", "keepalive", clients, tls=True)
    add_idle("server's pings", SILENT, "pinging", "pinged", clients)
    add_idle("server's pings", SAYS, "pinging_tls", "pinged", clients, tls=True)
    return made
