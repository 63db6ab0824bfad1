"""What many connections take they give back; and an agent without descriptors refuses the new and keeps what runs."""

import time
from pathlib import Path

import pytest
from h2_peers import Client
from lab.agent import Agent, binary
from lab.service import Port

PORT = 50051
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
    return {table: len(agent.bpf(table)) for table in ("pods", "services", "flows")}


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


class UncachedAgent(Agent):
    """Without malloc's cache of freed blocks for each thread: a few hundred blocks, in other pages after each burst,
    each of which keeps its page resident. That alone moves the RSS by up to 7 %."""

    @property
    def argv(self):
        return ["env", "GLIBC_TUNABLES=glibc.malloc.tcache_count=0", *super().argv]


def settled_kib(agent, peak) -> int:
    """The RSS once memory has been given back, which takes some seconds."""
    agent.wait(lambda: agent.metric("weir_downstream_connections") == 0, 10, "no client is left")
    agent.wait(lambda: agent.resident_kib() < 0.7 * peak, 30, f"RSS has come down from {peak} KiB")
    for _ in range(10):
        now = agent.resident_kib()
        time.sleep(4)
        if agent.resident_kib() >= now:
            break
    return agent.resident_kib()


@pytest.mark.timeout(240)
def test_ten_thousand_connections_leave_nothing(instead, client, service, echo):
    agent = instead(UncachedAgent)
    settled = []
    for _ in range(3):  # until the upstream connections, which stay, and what is allocated for good have their places
        ten_thousand(client, echo)
        peak = agent.resident_kib()
        settled.append(settled_kib(agent, peak))
    descriptors, before = without_upstream(agent), rows(agent)
    ten_thousand(client, echo)
    assert agent.metric("weir_downstream_connections_total") >= 4 * CONNECTIONS
    after = settled_kib(agent, agent.resident_kib())
    assert after <= 1.05 * max(settled), f"RSS {after} KiB, after the rounds before {settled}"
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


def test_out_of_descriptors(instead, client, service):
    poor = instead(PoorAgent)
    with Client(client.connect(service.vip, PORT)) as running:
        assert running.call().grpc_status == 0
        many = [client.connect(service.vip, PORT) for _ in range(300)]
        poor.wait(lambda: poor.metric("weir_accept_failures_total") > 100, 5, "new connections are refused")
        spent = cpu_seconds(poor)
        for _ in range(20):
            assert running.call().grpc_status == 0
            time.sleep(0.02)
        assert cpu_seconds(poor) - spent < 0.2, "the listener spins"
        refused = sum(is_refused(connection) for connection in many)
        assert 100 <= refused < 300
        for connection in many:
            connection.close()
        poor.wait(lambda: poor.descriptors() < 100, 8, "the descriptors are back")
        assert client.greet(service.target, "--rpcs", 20)["errors"] == []


def is_refused(connection) -> bool:
    connection.settimeout(0.001)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
