"""A stopped agent still has its listeners, but no heartbeat: connections go the plain way within a second."""

import ctypes
import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from h2_peers import Client

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
LIMIT = 1.0  # seconds of silence after which a worker is taken for hung
SLACK = 0.05
STUCK = 10  # seconds after which the agent is to be started anew


@pytest.fixture(scope="module")
def agent(lab, service, client):
    """Two workers; each of two pods has one of them."""
    started = lab.agent(workers=2)
    started.start()
    started.wait_enrolled(client)
    started.wait_applied()
    return started


@contextmanager
def stopped(agent):
    """SIGSTOP for the block; yields the moment at which the agent stood still."""
    os.kill(agent.pid, signal.SIGSTOP)
    try:
        yield time.monotonic()
    finally:
        os.kill(agent.pid, signal.SIGCONT)


def thread_of(agent, name: str) -> int:
    tasks = Path(f"/proc/{agent.pid}/task")
    (thread,) = (int(task.name) for task in tasks.iterdir() if (task / "comm").read_text().strip() == name)
    return thread


@contextmanager
def one_thread_stopped(thread: int):
    """As stopped(), for one thread, by ptrace."""
    libc = ctypes.CDLL(None, use_errno=True)

    def ptrace(request: int) -> None:
        if libc.ptrace(request, thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), f"ptrace request {request:#x} of thread {thread}")

    ptrace(PTRACE_SEIZE)
    ptrace(PTRACE_INTERRUPT)
    os.waitpid(thread, os.WUNTRACED | 0x40000000)  # __WALL
    try:
        yield time.monotonic()
    finally:
        ptrace(PTRACE_DETACH)


def counted(agent, name: str) -> int:
    """A counter of the BPF programs, read without the agent."""
    return next(row["count"] for row in agent.bpf("stats") if row["name"] == name)


def test_connections_go_plain_after_a_second_and_come_back(agent, client, service):
    assert len(client.greet(service.target, "--rpcs", 60)["backends"]) == 3
    with stopped(agent) as since:
        time.sleep(LIMIT + SLACK - (time.monotonic() - since))
        before = counted(agent, "bypass_stale")
        result = client.greet(service.target, "--rpcs", 20, "--deadline", 5)
        assert result["errors"] == [] and len(result["backends"]) == 1
        assert counted(agent, "bypass_stale") > before
        asked = time.monotonic()
        assert agent.bpf("pods")[0]["heartbeat_age_seconds"] > LIMIT
        assert time.monotonic() - asked < 4, "weirctl waits for an agent that hangs"
    time.sleep(LIMIT)
    assert len(client.greet(service.target, "--rpcs", 60)["backends"]) == 3
    assert agent.metric("weir_bypass_total", reason="stale") > 0


def test_rpcs_in_flight_survive(agent, client, service):
    connection = Client(client.connect(service.vip, 50051))
    streams = [connection.start("Sleep", b'{"seconds": 0.5}') for _ in range(4)]
    agent.wait_rpcs(4)
    with stopped(agent):
        time.sleep(2 * LIMIT)
    assert [connection.finish(stream).grpc_status for stream in streams] == [0] * 4
    connection.close()


def test_connections_dialled_while_it_stands_still_are_served_late_or_plain(agent, client, service):
    """Those of the first second wait in the listener's queue: none fails."""
    answers = []

    def dial():
        connection = Client(client.connect(service.vip, 50051))
        answers.append(connection.finish(connection.start("Sleep", b'{"seconds": 0}')).grpc_status)
        connection.close()

    with stopped(agent) as since:
        threads = []
        while time.monotonic() - since < 1.5 * LIMIT:
            threads.append(threading.Thread(target=dial))
            threads[-1].start()
            time.sleep(0.1)
    for thread in threads:
        thread.join(10)
    assert answers == [0] * len(threads)


def test_a_hung_worker_takes_only_its_own_pods_along(lab, agent, client, service):
    with lab.pod("neighbour", dataplane="enabled") as neighbour:
        agent.wait_enrolled(neighbour)
        workers = {pod.name: agent.enrolment(pod)["worker"] for pod in (client, neighbour)}
        assert sorted(workers.values()) == [0, 1]
        with one_thread_stopped(thread_of(agent, f"worker-{workers[client.name]}")) as since:
            time.sleep(LIMIT + SLACK - (time.monotonic() - since))
            assert len(client.greet(service.target, "--rpcs", 60)["backends"]) == 1
            assert len(neighbour.greet(service.target, "--rpcs", 60)["backends"]) == 3
        time.sleep(LIMIT)
        assert len(client.greet(service.target, "--rpcs", 60)["backends"]) == 3


@pytest.mark.parametrize("name", ["worker-1", "the control thread"])
def test_the_liveness_probe_says_which_thread_hangs(agent, name):
    thread = agent.pid if name == "the control thread" else thread_of(agent, name)
    with one_thread_stopped(thread):
        time.sleep(STUCK - 2)
        assert agent.admin("/healthz") == (200, "ok\n")
        time.sleep(4)
        status, body = agent.admin("/healthz")
        assert (status, body.split(" has stood still for ")[0]) == (503, name)
    agent.wait(lambda: agent.admin("/healthz") == (200, "ok\n"), 2, "it goes on")


def test_heartbeats_cost_nothing(agent):
    """CPU of an agent with nothing to do: below 0.2 % of a core."""
    ticks = os.sysconf("SC_CLK_TCK")

    def cpu_seconds() -> float:
        fields = Path(f"/proc/{agent.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / ticks

    before, since = cpu_seconds(), time.monotonic()
    time.sleep(10)
    assert (cpu_seconds() - before) / (time.monotonic() - since) <= 0.002
