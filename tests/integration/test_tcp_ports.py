"""Ports that carry no HTTP/2, or may: what a DestinationRule does for their connections, and what is left alone."""

import collections
import contextlib
import json

import pytest
from lab.service import Port
from lab.tcp_server import TcpServer, echo

MOST = 6


def named(name):
    """A server that begins with its name, and then sends back what comes."""

    def serve(accepted):
        accepted.sendall(name)
        echo(accepted)

    return serve


@pytest.fixture(scope="module")
def servers(lab):
    """Three pods that listen on two ports."""
    with contextlib.ExitStack() as stack:
        pods = [lab.pod(f"server-{i}") for i in range(3)]
        for pod in pods:
            for port in (7000, 7001):
                stack.enter_context(TcpServer(pod.listen(port), named(pod.name.encode())))
        yield pods


def modes(agent, name) -> dict:
    """How each port of the Service is diverted."""
    services = json.loads(agent.admin("/services")[1])["services"]
    return {port["port"]: port["diverted_mode"] for s in services if s["name"] == name for port in s["ports"]}


@contextlib.contextmanager
def published(lab, kind, version, name, spec):
    metadata = {"name": name, "namespace": "default"}
    lab.objects.publish(name, {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
    try:
        yield
    finally:
        lab.objects.withdraw(name)


def dial(pod, address, port) -> str:
    """The name of the server; empty if the connection was reset, which may be before connect() has returned."""
    with contextlib.suppress(ConnectionResetError), pod.connect(address, port) as connection:
        return connection.recv(100).decode()
    return ""


def test_a_destination_rule_for_tcp(lab, agent, client, servers):
    """Each connection goes to the next server, and what maxConnections does not allow is reset, with flag UO."""
    policy = {"loadBalancer": {"simple": "ROUND_ROBIN"}, "connectionPool": {"tcp": {"maxConnections": MOST}}}
    rule = {"host": "shaped.default.svc.cluster.local", "trafficPolicy": policy}
    labels = {"destination_service_name": "shaped", "response_flags": "UO"}
    with lab.service("shaped", [Port("tcp-x", 7000, 7000)], servers) as service, contextlib.ExitStack() as held:
        with published(lab, "DestinationRule", "networking.istio.io/v1", "shaped", rule):
            agent.wait(lambda: modes(agent, "shaped") == {7000: "tcp"}, 5, "the rule is applied")
            diverted = agent.bpf_stat("diverted")
            made = [held.enter_context(client.connect(service.vip, 7000)) for _ in range(MOST)]
            greetings = collections.Counter(connection.recv(100).decode() for connection in made)
            assert greetings == {pod.name: MOST / 3 for pod in servers}
            assert [dial(client, service.vip, 7000) for _ in range(3)] == [""] * 3
            assert agent.bpf_stat("diverted") == diverted + MOST + 3
            agent.wait(lambda: agent.metric("istio_tcp_connections_closed_total", **labels) == 3, 5, "three have the flag UO")
            agent.wait(lambda: agent.access_log.read_text().count(" UO ") == 3, 5, "in the access log, too")
            for connection in made:
                connection.sendall(b"still here")
                assert connection.recv(100) == b"still here"
            made[0].close()
            agent.wait(lambda: dial(client, service.vip, 7000), 5, "there is room for another")
        agent.wait(lambda: modes(agent, "shaped") == {7000: "none"}, 5, "the rule is gone")
        diverted = agent.bpf_stat("diverted")
        assert dial(client, service.vip, 7000)
        assert agent.bpf_stat("diverted") == diverted


@pytest.mark.parametrize("name", ["api-port", "7000"])
def test_detection_can_be_off_for_a_port(lab, agent, client, servers, name):
    ports = [Port("api-port", 7000, 7000), Port("other", 7001, 7001)]
    with lab.service("partly", ports, servers[:1], annotations={"weir.dev/detect": f"{name}=off"}) as service:
        agent.wait_applied()
        assert modes(agent, "partly") == {7000: "none", 7001: "detect"}
        for port, more in ((7000, 0), (7001, 1)):
            diverted = agent.bpf_stat("diverted")
            assert dial(client, service.vip, port) == servers[0].name
            assert agent.bpf_stat("diverted") == diverted + more
        assert "weir.dev/detect is off" in agent.weirctl("why", "client", "partly:7000")


def test_an_external_name_is_left_alone(lab, agent, client, service, greeters):
    """A resolver would give a pod's address for it; the Service's own ports mean nothing there."""
    spec = {"type": "ExternalName", "externalName": "elsewhere.example.com", "ports": [{"name": "grpc", "port": 50051}]}
    with published(lab, "Service", "v1", "elsewhere", spec):
        agent.wait(lambda: modes(agent, "elsewhere"), 5, "the Service is known")
        diverted = agent.bpf_stat("diverted")
        seen = client.greet(f"{greeters[0].ip}:50051", "--rpcs", 30)
        assert (seen["errors"], list(seen["backends"])) == ([], [greeters[0].uid])
        assert agent.bpf_stat("diverted") == diverted
        assert client.greet(service.target, "--rpcs", 1)["errors"] == []
        assert agent.bpf_stat("diverted") == diverted + 1
