"""What many connections take they give back; and an agent with few descriptors or none refuses the new and keeps what runs."""

import contextlib
import json
import os
import resource
import time
from pathlib import Path

import pytest
from h2_peers import Backend, Client
from lab import processes
from lab.agent import Agent, binary
from lab.service import Port

PORT = 50051
REDIRECT = os.environ.get("WEIR_REDIRECT", "auto") != "off"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CONNECTIONS = 10_000
AT_ONCE = 2_500


@pytest.fixture(scope="module")
def echo(lab):
    pod = lab.pod("echo")
    # A backend that sends "date" would have an entry more in 50 HPACK tables with every second of the test.
    pod.popen([binary("tests") / "bench" / "load" / "rpc_backend", 8080, 0])
    pod.wait_listening(8080)
    return lab.service("echo", [Port("grpc", 80, 8080)], [pod])


def load(client, target, connections, requests):
    body = client.lab.folder / "body"
    body.write_bytes(bytes(5))
    output = client.run(["h2load", "-c", connections, "-m", 2, "-n", requests, "-d", body, f"http://{target}/bench.Load/Reply1x5"], timeout=90).stdout
    assert f"{requests} succeeded" in output, output


def without_upstream(agent) -> int:
    return agent.descriptors() - int(agent.metric("weir_upstream_connections"))


def rows(agent) -> dict:
    """Of every map that has rows: as weirctl lists them, or as they stand in the kernel."""
    listed = {table: len(agent.bpf(table)) for table in ("pods", "services", "flows")}
    return listed | {table: kernel_rows(agent, table) for table in ("accounts", "pending", "sockets", "verdicts")}


def kernel_rows(agent, table) -> int:
    (pin,) = agent.lab.bpf_dir.glob(f"*/maps/{table}")
    return len(json.loads(processes.run(["bpftool", "--json", "map", "dump", "pinned", pin]).stdout))


def ten_thousand(client, service):
    for _ in range(CONNECTIONS // AT_ONCE):
        load(client, service.target, AT_ONCE, 2 * AT_ONCE)
        for connection in [client.connect(service.vip, 80) for _ in range(50)]:  # that say nothing
            connection.close()


@pytest.fixture
def instead(lab, agent, client):
    """Starts an agent of another kind in the usual one's place."""
    started = []

    def start(kind):
        agent.stop()
        started.append(kind(lab))
        started[0].start()
        started[0].wait_enrolled(client)
        started[0].wait_applied()
        return started[0]

    yield start
    for other in started:
        if other.running:
            other.stop()
        other.uninstall()


def settled_kib(agent, peak) -> int:
    """The RSS once memory has been given back, which takes some seconds."""
    agent.wait(lambda: agent.metric("weir_downstream_connections") == 0, 10, "no client is left")
    agent.wait(lambda: agent.resident_kib() < 0.7 * peak, 30, f"RSS has come down from {peak} KiB")
    for _ in range(10):
        now = agent.resident_kib()
        time.sleep(10)  # lists of free objects halve each second, and the allocator is asked again when they are empty
        if agent.resident_kib() >= now:
            break
    return agent.resident_kib()


@pytest.mark.timeout(400)
def test_ten_thousand_connections_leave_nothing(instead, client, service, echo):
    agent = instead(Agent)
    with client.connect(service.vip, PORT) as connection:
        connection.sendall(PREFACE)
        agent.wait(lambda: all(rows(agent)[table] for table in ("flows", "accounts", "sockets")) or not REDIRECT, 5, "rows are counted")
    settled = []
    for _ in range(2):  # until the upstream connections, which stay, and what is allocated for good have their places
        ten_thousand(client, echo)
        peak = agent.resident_kib()
        settled.append(settled_kib(agent, peak))
    descriptors, before = without_upstream(agent), rows(agent)
    # The allocator leaves other pages each time: a leak, unlike that, is there in every round.
    most, after = 1.05 * max(settled), []
    while len(after) < 3 and not (after and after[-1] <= most):
        ten_thousand(client, echo)
        after.append(settled_kib(agent, agent.resident_kib()))
    assert after[-1] <= most, f"RSS {after} KiB, after the rounds before {settled}"
    assert agent.metric("weir_downstream_connections_total") >= 3 * CONNECTIONS
    assert (agent.bpf_stat("redirected") >= 3 * CONNECTIONS) == REDIRECT, "which had rows in the maps of redirect"
    agent.wait(lambda: rows(agent) == before, 5, f"the maps' rows are back: {before}")
    assert without_upstream(agent) <= descriptors


class PoorAgent(Agent):
    """An agent of few descriptors."""

    @property
    def argv(self):
        return ["prlimit", "--nofile=160:160", *super().argv]


def cpu_seconds(agent) -> float:
    tasks = Path(f"/proc/{agent.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def assert_at_rest(agent, running) -> None:
    """RPCs go on, and the listener does not spin."""
    spent = cpu_seconds(agent)
    for _ in range(20):
        assert running.call().grpc_status == 0
        time.sleep(0.02)
    assert cpu_seconds(agent) - spent < 0.2, "the listener spins"


@pytest.fixture
def another(lab, greeters):
    """A Service whose endpoints nobody has dialled yet."""
    return lab.service("another", pods=greeters)


def test_a_part_of_the_descriptors_is_for_new_connections(instead, lab, client, service, another):
    """The rest is for other pods, dialling, configuration and admin."""
    poor = instead(PoorAgent)
    with Client(client.connect(service.vip, PORT, timeout=30)) as running:
        assert running.call().grpc_status == 0
        many = connections(client, service, 300)
        limit = {"limit": "agent_descriptors"}
        poor.wait(lambda: poor.metric("weir_pod_limits_total", **limit) > 200, 5, "new connections are refused")
        assert_at_rest(poor, running)
        assert poor.metric("weir_accept_failures_total") == 0
        neighbour = lab.pod("neighbour", dataplane="enabled")
        poor.wait_enrolled(neighbour)
        seen = neighbour.greet(another.target, "--rpcs", 30)
        assert (seen["errors"], len(seen["backends"])) == ([], 3)
        refused = sum(is_refused(connection) for connection in many)
        assert 200 <= refused < 300
        for connection in filter(None, many):
            connection.close()
        poor.wait(lambda: poor.metric("weir_downstream_connections") + poor.metric("weir_tcp_relays") <= 2, 8, "they are gone")
        assert client.greet(service.target, "--rpcs", 20)["errors"] == []
    neighbour.remove()


def leave_free(agent, free: int) -> None:
    """Lowers a running agent's limit, so that it can have so many descriptors more."""
    taken = {int(entry.name) for entry in Path(f"/proc/{agent.pid}/fd").iterdir()}
    limit = [number for number in range(len(taken) + free + 1) if number not in taken][free]
    resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (limit, resource.prlimit(agent.pid, resource.RLIMIT_NOFILE)[1]))


def test_out_of_descriptors(instead, lab, client, service, another):
    """Whatever has taken them, what runs goes on, what comes is told, and all is well when they are back."""
    agent = instead(Agent)
    soft = resource.prlimit(agent.pid, resource.RLIMIT_NOFILE)
    with Client(client.connect(service.vip, PORT, timeout=30)) as running, Client(client.connect(another.vip, PORT, timeout=30)) as undialled:
        assert running.call().grpc_status == 0
        leave_free(agent, 0)
        many = connections(client, service, 50)
        assert_at_rest(agent, running)
        assert sum(is_refused(connection) for connection in many) == 50
        answer = undialled.call()
        assert (answer.grpc_status, "open files" in answer.grpc_text) == (14, True)
        late = lab.pod("late", dataplane="enabled")
        time.sleep(1)
        assert late.greet(service.target, "--rpcs", 6)["errors"] == []  # by kube-proxy
        resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, soft)
        assert agent.metric("weir_accept_failures_total") >= 50
        agent.wait_enrolled(late, timeout=10)
        assert undialled.call().grpc_status == 0
        assert len(late.greet(service.target, "--rpcs", 30)["backends"]) == 3
    late.remove()


class SmallAgent(Agent):
    """An agent of a small container: three MiB may wait for all pods together."""

    @property
    def argv(self):
        return [*super().argv, "--memory-limit", "6MiB"]


def leave_waiting(connection, count: int) -> int:
    """Begins an RPC whose body nobody takes: so many bytes of it, or what the agent's windows allow. Returns its stream."""
    stream = connection.start("Hold", None, end=False)
    while count > 0:
        with connection.changed:
            room = min(count, connection.h2.local_flow_control_window(stream), connection.h2.max_outbound_frame_size)
        if room <= 0:
            break
        connection.send(lambda c: c.send_data(stream, bytes(room)))  # noqa: B023
        count -= room
    return stream


def test_memory_of_all_pods_is_limited(instead, lab, client):
    """What waits for one pod costs this one its largest connection, with flag OM, and another pod nothing."""
    deaf = lab.pod("deaf")
    with Backend(deaf, lambda request: request.method == "Hello" and request.answer(), PORT, grant_windows=False):
        held = lab.service("held", [Port("grpc", PORT, PORT)], [deaf])
        agent = instead(SmallAgent)
        modest_pod = lab.pod("modest", dataplane="enabled")
        agent.wait_enrolled(modest_pod)
        with (
            Client(client.connect(held.vip, PORT, timeout=30)) as large,
            Client(client.connect(held.vip, PORT, timeout=30)) as small,
            Client(modest_pod.connect(held.vip, PORT, timeout=30)) as modest,
        ):
            for connection in (large, small, modest):
                assert connection.call().grpc_status == 0  # its SETTINGS are known from here on
            kept = [(connection, leave_waiting(connection, 300_000)) for connection in (small, modest)]
            agent.wait_rpcs(2)
            assert agent.metric("weir_pod_limits_total", limit="agent_memory") == 0
            with contextlib.suppress(OSError):  # the reset, which is what is waited for
                for _ in range(100):
                    leave_waiting(large, 200_000)
                    time.sleep(0.02)
            large.wait_closed()
            assert agent.metric("weir_pod_limits_total", limit="agent_memory") == 1
            agent.wait(lambda: agent.metric("istio_requests_total", response_flags="OM") >= 1, 5, "the RPCs carry the flag OM")
            agent.wait(lambda: " OM " in agent.access_log.read_text(), 5, "the access log has it")
            for connection, stream in kept:
                assert not connection.closed and connection.responses[stream].ended_at is None
                assert connection.call().grpc_status == 0
        modest_pod.remove()
    lab.remove_service(held)
    deaf.remove()


def connections(client, service, count: int) -> list:
    """None in place of one whose reset came before connect() returned."""

    def attempt():
        try:
            return client.connect(service.vip, PORT)
        except ConnectionResetError:
            return None

    return [attempt() for _ in range(count)]


def is_refused(connection) -> bool:
    if connection is None:
        return True
    connection.settimeout(0.001)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
