"""Attacks of one pod on the agent that it shares with another: the table of hardening. While one runs, an honest pod
makes RPCs: none fails, and their latency at 99 % is at most twice that of the quiet moment before, or of the
same attack on a plain nghttpd beside an idle agent (what an attacker's use of the CPUs does by itself).

Sound on two cores: the agent has one, the attacker the other. The honest pod, its backend and the agent run with
real-time priority where that is allowed, so that what is measured is the agent's fairness, not the scheduler's.
"""

import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from attackers import (
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITY, PUSH,
    Attack, Backend, HostileBackend, attack, block, frame, ids, integer, literal, request, reset, settings, window_update,
)  # fmt: skip
from lab.service import Port

AGENT_CPU, OTHER_CPU = 0, 1
SERVICE_PORT, BACKEND_PORT = 80, 8080
LARGE = 8 << 20  # the attacked backend's file
FOR_EVER = float("inf")
ATTEMPTS = 3  # other work of the machine may disturb one
ALLOWED_GROWTH_KIB = 96 << 10  # three times the pod's memory: objects, and what the allocator keeps

HTTP2 = "weir_http2_limits_total"
PROTOCOL_ERRORS = "weir_downstream_protocol_errors_total"
UPSTREAM_ERRORS = "weir_upstream_protocol_errors_total"
POD_LIMITS = "weir_pod_limits_total"


@dataclass
class Row:
    name: str
    attack: Attack
    counters: tuple = ()  # (metric, labels): one of them at least has grown; () for what is merely borne


def limit(*names: str) -> tuple:
    return tuple((HTTP2, {"role": "downstream", "limit": name}) for name in names)


def up_limit(*names: str) -> tuple:
    return tuple((HTTP2, {"role": "upstream", "limit": name}) for name in names)


def flagged(flag: str) -> tuple:
    return (("istio_requests_total", {"response_flags": flag}),)


def flood(one: bytes, bytes_at_once=32 << 10) -> bytes:
    return one * (bytes_at_once // len(one))


BROKEN = ((PROTOCOL_ERRORS, {}),)
GRANT_ALL = settings((4, 0x7FFFFFFF)) + window_update(0, 0x7FFF0000)
OPEN = request(1, end=False)
# A block that fills the dynamic table with one field and then refers to it again and again.
BOMB = literal(b"x", b"y" * 3900, indexed=True) + block() + b"\xbe" * 4000
RESET_MAKERS = {
    "a window update of 0": lambda i: request(i, end=False) + window_update(i, 0),
    "a window that overflows": lambda i: request(i, end=False) + window_update(i, 0x7FFFFFFF),
    "data beyond its length": lambda i: request(i, (b"content-length", b"1"), end=False) + frame(DATA, 0, i, b"xx"),
    "a short PRIORITY": lambda i: request(i, end=False) + frame(PRIORITY, 0, i, b"xxxx"),
    "a stream of itself": lambda i: request(i, end=False) + frame(PRIORITY, 0, i, i.to_bytes(4, "big") + b"x"),
    "data after the end": lambda i: request(i) + frame(DATA, 0, i, b"x"),
}
SMUGGLED = [
    (b"x", b"a\r\nb: c"),
    (b"x", b"a\0b"),
    (b"X-Y", b"z"),
    (b"transfer-encoding", b"chunked"),
    (b"connection", b"x"),
    (b":path", b"/"),
    (b"content-length", b"1, 2"),
]

ROWS = [
    Row("PING flood", Attack(again=flood(frame(PING, 0, 0, bytes(8)))), limit("ping_flood", "unwritten_output")),
    Row("PING flood, answers not read", Attack(again=flood(frame(PING, 0, 0, bytes(8))), reads=False), limit("ping_flood")),
    Row("SETTINGS flood", Attack(again=flood(settings())), limit("settings_flood")),
    Row("empty DATA flood", Attack(OPEN, flood(frame(DATA, 0, 1))), limit("empty_data_flood")),
    Row("PRIORITY flood", Attack(again=flood(frame(PRIORITY, 0, 9, bytes(5)))), limit("priority_flood")),
    Row("unknown frames", Attack(again=flood(frame(99, 0, 0))), limit("ignored_frame_flood")),
    Row("WINDOW_UPDATE flood", Attack(again=flood(window_update(0, 1))), limit("window_update_flood")),
    Row("huge SETTINGS", Attack(again=settings(*[(99, 1)] * 2700)), limit("settings_size")),
    Row("rapid reset", Attack(b"".join(request(i) + reset(i) for i in ids()), stays=FOR_EVER), limit("rapid_reset")),
    *(
        Row(f"made to reset: {name}", Attack(b"".join(make(i) for i in ids()), stays=FOR_EVER),
            limit("provoked_resets", "rapid_reset", "priority_flood"))
        for name, make in RESET_MAKERS.items()
    ),
    Row("CONTINUATION flood", Attack(frame(HEADERS, 0, 1, block()), flood(frame(CONTINUATION, 0, 1, b"\0"))),
        (*limit("continuation_flood"), *BROKEN)),
    Row("CONTINUATION of nothing", Attack(frame(HEADERS, 0, 1, block()), flood(frame(CONTINUATION, 0, 1))),
        (*limit("continuation_flood"), *BROKEN)),
    Row("HPACK bomb", Attack(b"".join(frame(HEADERS, 5, i, BOMB if i == 1 else block() + b"\xbe" * 4000) for i in ids(2000))),
        limit("header_list_size", "header_fields")),
    Row("cookie crumbs", Attack(b"".join(request(i, *[(b"cookie", b"a=b")] * 500) for i in ids(500))),
        limit("header_fields")),
    Row("huge header sections", Attack(b"".join(request(i, *[(b"x-%d" % n, b"v" * 140) for n in range(90)]) for i in ids(500)))),
    Row("a header block without end", Attack(
        frame(HEADERS, 0, 1, block()), frame(CONTINUATION, 0, 1, literal(b"x", b"v" * 16000))),
        (*limit("header_block_size", "continuation_flood"), *BROKEN)),
    Row("a growing HPACK table", Attack(b"".join(frame(HEADERS, 5, i, integer(1 << 30, 5, 0x20) + block()) for i in ids(10))), BROKEN),
    Row("a promise of large tables", Attack(
        b"".join(request(i, (b"x-%d" % i, b"v" * 1000)) for i in ids(900)), settings=settings((1, 0xFFFFFFFF)))),
    Row("streams beyond the limit", Attack(b"".join(request(i, end=False) for i in ids(5000)), connections=2, stays=FOR_EVER),
        limit("concurrent_streams", "refused_streams")),
    Row("a window of nothing", Attack(b"".join(request(i) for i in ids(900)), settings=settings((4, 0)), stays=FOR_EVER)),
    Row("a window of one byte", Attack(
        b"".join(request(i) for i in ids(900)), b"".join(window_update(i, 1) for i in ids(900)), settings=settings((4, 0))),
        limit("window_dribble", "window_update_flood")),
    Row("a dribble of DATA", Attack(
        b"".join(request(i, end=False) for i in ids(100)), b"".join(frame(DATA, 0, i, b"x") for i in ids(100)), pace=0.001)),
    Row("half a preface", Attack(preface=PREFACE[:9], connections=400, stays=FOR_EVER)),
    Row("half a header block", Attack(frame(HEADERS, 0, 1, block()[:9]), connections=400, stays=FOR_EVER)),
    Row("a connection window update of 0", Attack(window_update(0, 0)), BROKEN),
    Row("a connection window that overflows", Attack(window_update(0, 0x7FFFFFFF)), BROKEN),
    Row("changes of the initial window", Attack(
        b"".join(request(i) for i in ids(900)), flood(settings((4, 0)) + settings((4, 1)))), limit("settings_flood")),
    Row("padding", Attack(OPEN, flood(frame(DATA, PADDED, 1, b"\xff" + bytes(255))))),
    Row("smuggling", Attack(b"".join(request(i, SMUGGLED[i // 2 % len(SMUGGLED)]) for i in ids())), limit("provoked_resets")),
    Row("requests, answers not read", Attack(
        b"".join(request(i) for i in ids(900)), settings=GRANT_ALL, reads=False, stays=FOR_EVER),
        ((POD_LIMITS, {"limit": "memory"}), ("weir_stalled_connections_total", {"role": "downstream"}))),
    Row("connections without end", Attack(connections=700, stays=FOR_EVER), ((POD_LIMITS, {"limit": "connections"}),)),
    Row("streams without end", Attack(b"".join(request(i, end=False) for i in ids(990)), connections=4, stays=FOR_EVER),
        ((POD_LIMITS, {"limit": "streams"}),)),
]  # fmt: skip

HEAD = literal(b":status", b"200") + literal(b"content-type", b"application/grpc")
ANSWER = frame(HEADERS, END_HEADERS, 1, HEAD)
BACKEND_ROWS = [
    Row("PING flood", HostileBackend(again=flood(frame(PING, 0, 0, bytes(8)))), up_limit("ping_flood")),
    Row("SETTINGS flood", HostileBackend(again=flood(settings())), up_limit("settings_flood")),
    Row("empty DATA flood", HostileBackend(ANSWER, flood(frame(DATA, 0, 1))), up_limit("empty_data_flood")),
    Row("PRIORITY flood", HostileBackend(again=flood(frame(PRIORITY, 0, 9, bytes(5)))), up_limit("priority_flood")),
    Row("unknown frames", HostileBackend(again=flood(frame(99, 0, 0))), up_limit("ignored_frame_flood")),
    Row("huge SETTINGS", HostileBackend(again=settings(*[(99, 1)] * 2700)), up_limit("settings_size")),
    Row("resets", HostileBackend(reset(1, 2)), flagged("UR")),
    Row("data beyond its length", HostileBackend(
        frame(HEADERS, END_HEADERS, 1, HEAD + literal(b"content-length", b"1")) + frame(DATA, 0, 1, b"xx")), flagged("UPE")),
    Row("CONTINUATION flood", HostileBackend(frame(HEADERS, 0, 1, HEAD), flood(frame(CONTINUATION, 0, 1, b"\0"))),
        (*up_limit("continuation_flood"), (UPSTREAM_ERRORS, {}))),
    Row("CONTINUATION of nothing", HostileBackend(frame(HEADERS, 0, 1, HEAD), flood(frame(CONTINUATION, 0, 1))),
        (*up_limit("continuation_flood"), (UPSTREAM_ERRORS, {}))),
    Row("HPACK bomb", HostileBackend(frame(HEADERS, END_HEADERS, 1, literal(b"x", b"y" * 3900, indexed=True) + HEAD + b"\xbe" * 4000)),
        up_limit("header_list_size", "header_fields")),
    Row("cookie crumbs", HostileBackend(frame(HEADERS, END_HEADERS, 1, HEAD + literal(b"set-cookie", b"a=b") * 500)),
        up_limit("header_fields")),
    Row("1xx without end", HostileBackend(again=flood(frame(HEADERS, END_HEADERS, 1, literal(b":status", b"103")))),
        up_limit("informational_responses")),
    Row("window update of 0", HostileBackend(window_update(0, 0)), ((UPSTREAM_ERRORS, {}),)),
    Row("window that overflows", HostileBackend(window_update(0, 0x7FFFFFFF)), ((UPSTREAM_ERRORS, {}),)),
    Row("changes of the initial window", HostileBackend(again=flood(settings((4, 0)) + settings((4, 1)))), up_limit("settings_flood")),
    Row("data beyond the window", HostileBackend(ANSWER, flood(frame(DATA, 0, 1, bytes(16000)), 1 << 20)), ()),
    Row("data before the head", HostileBackend(frame(DATA, 0, 1, b"x")), flagged("UPE")),
    Row("a dribble of DATA", HostileBackend(ANSWER, flood(frame(DATA, 0, 1, b"x"))), ()),
    Row("padding", HostileBackend(ANSWER, flood(frame(DATA, PADDED, 1, b"\xff" + bytes(255)))), ()),
    Row("PUSH_PROMISE", HostileBackend(frame(PUSH, END_HEADERS, 1, b"\0\0\0\2" + HEAD)), ((UPSTREAM_ERRORS, {}),)),
    Row("GOAWAY flood", HostileBackend(again=flood(frame(GOAWAY, 0, 0, b"\x7f\xff\xff\xff" + bytes(4)))), up_limit("goaway_flood")),
    Row("smuggling", HostileBackend(frame(HEADERS, END_HEADERS | END_STREAM, 1, HEAD + literal(b"x", b"a\r\nb"))), flagged("UPE")),
]  # fmt: skip


def realtime() -> bool:
    return subprocess.run(["chrt", "-f", "10", "true"], capture_output=True).returncode == 0


class Node:
    """An agent with an honest pod, an attacker and what they call."""

    def __init__(self, lab):
        self.lab = lab
        self.first = ["chrt", "-f", "10"] if realtime() else ["nice", "-n", "-20"]
        self.agent_priority = ["chrt", "-f", "1"] if realtime() else []
        content = lab.folder / "www"
        content.mkdir()
        (content / "large").write_bytes(bytes(LARGE))
        self.echo = self.nghttpd("echo", self.first, "--echo-upload", "-d", "/var/empty")
        self.attacked = self.nghttpd("attacked", [], "-d", content)
        self.control = self.nghttpd("control", self.agent_priority, "-d", content, cpu=AGENT_CPU)
        self.hostile = lab.pod("hostile")
        self.backend = Backend(self.hostile, BACKEND_PORT)
        self.honest, self.attacker = (lab.pod(name, dataplane="enabled") for name in ("honest", "attacker"))
        services = (("echo", self.echo), ("attacked", self.attacked), ("hostile", self.hostile))
        self.vip = {name: lab.service(name, [Port("grpc", SERVICE_PORT, BACKEND_PORT)], [pod]).vip for name, pod in services}
        self.body = lab.folder / "body"
        self.body.write_bytes(bytes(5))
        self.agent = lab.agent(
            arguments=["--pod-max-connections", "500", "--pod-max-streams", "3000", "--pod-max-memory", "32MiB",
                       "--send-timeout", "1s"]
        )  # fmt: skip
        self.agent.start()
        self.agent.wait_enrolled(self.honest, self.attacker)
        self.agent.wait_applied()
        for task in Path(f"/proc/{self.agent.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {AGENT_CPU})
            if self.first[0] == "chrt" and (task / "comm").read_text().startswith("worker-"):
                subprocess.run(["chrt", "-f", "-p", "1", task.name], check=True)

    def nghttpd(self, name, first, *arguments, cpu=OTHER_CPU):
        pod = self.lab.pod(name)
        pod.popen([*first, "taskset", "-c", cpu, "nghttpd", "--no-tls", "-n", 1, *arguments, BACKEND_PORT])
        pod.wait_listening(BACKEND_PORT)
        return pod

    def descriptors(self) -> int:
        """Without the upstream connections, which stay for the next RPCs."""
        return self.agent.descriptors() - int(self.agent.metric("weir_upstream_connections"))

    def cpu_seconds(self) -> float:
        ns = 0
        for task in Path(f"/proc/{self.agent.pid}/task").iterdir():
            ns += int((task / "schedstat").read_text().split()[0])
        return ns / 1e9

    def latency(self, seconds: float) -> int:
        """The honest pod's RPCs for that long, one after the other: their latency at 99 %, in microseconds."""
        log = self.lab.folder / "latency.log"
        log.unlink(missing_ok=True)
        self.honest.run(
            [*self.first, "taskset", "-c", OTHER_CPU, "h2load", "-c", 1, "-m", 1, "-D", f"{int(seconds * 1000)}ms", "-d", self.body,
             "-H", "content-type: application/grpc", f"--log-file={log}", f"http://{self.vip['echo']}/"]
        )  # fmt: skip
        rows = [line.split("\t") for line in log.read_text().splitlines()]
        assert [row for row in rows if row[1] != "200"] == [], "the honest pod's RPCs failed"
        if len(rows) < 100 * seconds:
            return int(1e6 * seconds)  # held up
        return sorted(int(row[2]) for row in rows)[int(0.99 * len(rows))]

    def idle(self) -> bool:
        spent = self.cpu_seconds()
        time.sleep(0.2)
        return self.cpu_seconds() - spent < 0.05

    def counted(self, counters) -> float | None:
        """The sum of the counters that there are; None for none."""
        samples = self.agent.samples()
        found = [
            value
            for metric, labels in counters
            for name, series, value in samples
            if name == metric and labels.items() <= series.items()
        ]
        known = {name for name, _, _ in samples} | {"istio_requests_total"}  # has a series once it counts
        return sum(found) if any(metric in known for metric, _ in counters) else None


class During:
    """Something that runs in a thread while the block does: `act(connect, ended)`."""

    def __init__(self, act, connect):
        self.over = threading.Event()
        self.thread = threading.Thread(target=act, args=(connect, self.over.is_set), daemon=True)

    def __enter__(self):
        self.thread.start()
        time.sleep(0.2)
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture(scope="module")
def node(lab):
    before = os.sched_getaffinity(0)
    made = Node(lab)
    os.sched_setaffinity(0, {OTHER_CPU})
    yield made
    os.sched_setaffinity(0, before)
    made.backend.close()
    made.agent.stop()
    made.agent.uninstall()


def withstand(node, row, act, address) -> None:
    """`act(connect, ended)` attacks `address`, or the control."""
    node.latency(0.1)  # connections, tables and caches
    descriptors, rss, counted = node.descriptors(), node.agent.resident_kib(), node.counted(row.counters)
    tries = []
    for _ in range(ATTEMPTS):
        quiet = node.latency(0.4)
        with During(act, lambda: node.attacker.connect(address, SERVICE_PORT)):
            attacked = node.latency(0.8)
            grown = node.agent.resident_kib() - rss
            if counted is not None:
                node.agent.wait(lambda: (node.counted(row.counters) or 0) > counted, 10, f"one of {row.counters} has counted it")
        assert grown < ALLOWED_GROWTH_KIB, f"{grown} KiB more"
        if attacked > 2 * quiet:
            with During(act, lambda: node.attacker.connect(node.control.ip, BACKEND_PORT)):
                quiet = max(quiet, node.latency(1.0))
        tries.append(f"{attacked} us, {quiet} us without")
        if attacked <= 2 * quiet:
            break
    else:
        pytest.fail(f"the honest pod's p99: {tries}")
    node.backend.what = HostileBackend()  # what it has open ends
    node.agent.wait(lambda: node.descriptors() <= descriptors, 10, f"the agent is back at {descriptors} descriptors")
    node.agent.wait(lambda: node.agent.active_rpcs() == 0, 10, "no RPC is left")
    node.agent.wait(node.idle, 5, "the agent is busy with nothing")


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_hostile_client(node, row):
    withstand(node, row, lambda connect, ended: attack(row.attack, connect, ended), node.vip["attacked"])


@pytest.mark.parametrize("row", BACKEND_ROWS, ids=[row.name for row in BACKEND_ROWS])
def test_hostile_backend(node, row):
    node.backend.what = row.attack
    asking = Attack(b"".join(request(i) for i in ids(40)), connections=2, stays=0.05)
    withstand(node, row, lambda connect, ended: attack(asking, connect, ended), node.vip["hostile"])


def test_memory_is_back(node):
    """After all of that: RSS as after the first load, within what the allocator keeps."""
    node.latency(0.5)
    assert node.agent.resident_kib() < 200 << 10
