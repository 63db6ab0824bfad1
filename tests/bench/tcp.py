"""Plain TCP: the relay beside HAProxy's TCP mode, and a port of which weir has learned that it is none of HTTP/2 beside
not having weir."""

import json
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from lab import processes
from lab.service import Port

from . import load, matrix
from .peers import Direct, HaProxyTcp, Missing
from .session import SETTLE, say, turned
from .testbed import Testbed, tool
from .weir import Weir

# Where connections begin. The agent dials endpoints from the client's address, as the client does itself past the agent, but their
# timestamps have different offsets: one that reuses the other's port while the server has it in TIME_WAIT waits a second. So
# what is to be without weir has a pod of its own.
CLIENTS = {"direct": 1, "weir-learned": 2}
BPF_STATISTICS = Path("/proc/sys/kernel/bpf_stats_enabled")


class Relay(HaProxyTcp):
    """One row's: it listens once."""

    load = ()

    def __init__(self, bed, port: int):
        super().__init__(bed)
        self.port = port


class WeirRelay(Weir):
    """Undeclared ports, every connection through the agent."""

    name = "weir-tcp"
    arguments = ("--learn-after", "0")


class WeirLearned(Weir):
    """Undeclared ports as shipped: after some connections only a sample goes through the agent."""

    name = "weir-learned"


def measure(bed: Testbed, rounds: int) -> tuple[list, dict]:
    """Samples of all rows, and {hook: {"ns" of a run, "runs"}}, the median of the rounds."""
    servers = [pod.popen([tool("tcp_backend"), matrix.TCP_PORT]) for pod in bed.backends]
    ports = [Port(mode, matrix.TCP_PORT + i, matrix.TCP_PORT + i) for i, mode in enumerate(matrix.TCP_MODES)]
    try:
        for pod in bed.backends:
            pod.wait_listening(matrix.TCP_PORT + len(ports) - 1)
        with bed.lab.service("tcp", ports, bed.backends) as service:
            numbers = range(1, rounds * matrix.TCP_ROUNDS + 1)
            samples = _relays(bed, service, numbers)
            learned, hooks = _learned(bed, service, numbers)
    finally:
        for server in servers:
            processes.stop(server)
    say(f"tcp done; the connect hooks: {json.dumps(hooks)}")
    return samples + learned, hooks


def _relays(bed: Testbed, service, numbers) -> list:
    """Both proxies run at the same time, so that the windows of a round are next to each other."""
    samples = []
    with _started(WeirRelay(bed)) as weir:
        for payload in matrix.TCP_ROWS:
            vip = f"{service.vip}:{_port(payload)}"
            with _peer(bed, payload) as peers:
                targets = [(weir, vip), *((peer, peer.target(0)) for peer in peers)]
                for proxy, target in targets:
                    _settle(bed, proxy, target, payload)
                for number in numbers:
                    samples += [_sample(bed, proxy, target, payload, number) for proxy, target in turned(targets, number)]
    return samples


@contextmanager
def _peer(bed: Testbed, payload: str):
    """HAProxy, or nothing where it is missing."""
    try:
        HaProxyTcp.available()
    except Missing:
        yield []
        return
    with _started(Relay(bed, _port(payload))) as proxy:
        yield [proxy]


def _learned(bed: Testbed, service, numbers) -> tuple[list, dict]:
    """Without weir there are no agent, no programs and no maps: it comes and goes in every round."""
    samples, hooks = [], {name: [] for name in matrix.HOOKS}
    for number in numbers:
        for kind in turned([Direct, WeirLearned], number):
            with _started(kind(bed)) as proxy:
                for payload in matrix.LEARNED_ROWS:
                    vip = f"{service.vip}:{_port(payload)}"
                    _settle(bed, proxy, vip, payload)
                    if kind is WeirLearned:
                        proxy.agent.wait(lambda vip=vip: vip in proxy.agent.weirctl("verdicts", "list"), 2, f"a verdict on {vip}")
                    samples.append(_sample(bed, proxy, vip, payload, number))
                if kind is WeirLearned:
                    for name, runs in hooks.items():
                        runs.append(_hook(bed, proxy, service, name))
    return samples, {name: {"ns": median(ns for ns, _ in runs), "runs": sum(n for _, n in runs)} for name, runs in hooks.items()}


def _settle(bed: Testbed, proxy, target: str, payload: str) -> None:
    """Connections come through, and by far enough of them for a verdict."""

    def served():
        return _run(bed, proxy, target, payload, SETTLE)["completed"]

    processes.wait_until(served, 10, f"{proxy.name} serves {payload}")


def _hook(bed: Testbed, proxy, service, name: str) -> tuple[float, int]:
    """Nanoseconds a run, and runs, while connections are opened of which most pass by the agent."""
    vip = f"[::ffff:{service.vip}]" if name == "weir_connect6" else service.vip
    before = BPF_STATISTICS.read_text()
    BPF_STATISTICS.write_text("1")
    try:
        start = _run_time(bed, name)
        _run(bed, proxy, f"{vip}:{_port('tcp connect')}", "tcp connect", matrix.HOOK_TIMING)
        ns, runs = (now - then for now, then in zip(_run_time(bed, name), start, strict=True))
    finally:
        BPF_STATISTICS.write_text(before)
    return round(ns / max(runs, 1), 1), runs


def _run_time(bed: Testbed, name: str) -> tuple[int, int]:
    """Nanoseconds and runs of a program that connect() meets."""
    (pin,) = bed.lab.bpf_dir.glob(f"v*/links/{name}")
    link = _bpftool("link", "show", "pinned", pin)
    program = _bpftool("prog", "show", "id", link["prog_id"])
    return program.get("run_time_ns", 0), program.get("run_cnt", 0)


def _bpftool(*arguments) -> dict:
    return json.loads(processes.run(["bpftool", "--json", *map(str, arguments)]).stdout)


@contextmanager
def _started(proxy):
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


def _sample(bed: Testbed, proxy, target: str, payload: str, number: int):
    segments = bed.segments()
    result = _run(bed, proxy, target, payload, matrix.TCP_TIMING)
    shape = matrix.TCP_ROWS[payload].shape
    return load.sample(result, number, proxy.name, shape, payload, bed.segments() - segments, 0.0)


def _run(bed: Testbed, proxy, target: str, payload: str, timing: dict) -> dict:
    row = matrix.TCP_ROWS[payload]
    argv = [f"{target}@{bed.clients[CLIENTS.get(proxy.name, 0)].pid}", "--mode", row.mode, "--connections", row.connections]
    argv += ["--warm-up", timing["warm_up"], "--duration", timing["window"]]
    argv += ["--watch", proxy.pid] if proxy.pid else []
    return load.run(bed, argv, program="tcp_load")


def _port(payload: str) -> int:
    return matrix.TCP_PORT + matrix.TCP_MODES.index(matrix.TCP_ROWS[payload].mode)
