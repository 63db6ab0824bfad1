"""Nobody notices: the application sees the address it dialled, the backend sees the pod's."""

import socket

import pytest
from lab.pod import NODE_IP
from lab.service import Port


@pytest.mark.parametrize(
    "dialled,peer,own",
    [
        ("{vip}", "{vip}", "{ip}"),
        ("::ffff:{vip}", "::ffff:{vip}", "::ffff:{ip}"),
        ("{vip6}", "{vip6}", "{ip6}"),
    ],
    ids=["IPv4", "v4-mapped", "IPv6"],
)
def test_what_the_application_sees(agent, client, service, dialled, peer, own):
    names = {"vip": service.vip, "vip6": service.vip6, "ip": client.ip, "ip6": client.ip6}
    diverted = agent.bpf_stat("diverted")
    with client.connect(dialled.format(**names), 50051) as connection:
        assert connection.getpeername()[:2] == (peer.format(**names), 50051)
        assert connection.getsockname()[0] == own.format(**names)
    assert agent.bpf_stat("diverted") == diverted + 1


@pytest.mark.parametrize("target", ["target", "target6", "mapped_target"])
def test_what_the_backend_sees(agent, client, service, target):
    result = client.greet(getattr(service, target), "--rpcs", 60)
    assert len(result["backends"]) == 3
    # Which family reaches the backend is the endpoint's business; it is this pod's address in either.
    own = {f"ipv4:{client.ip}", f"ipv6:%5B{client.ip6}%5D"}
    assert {peer.rsplit(":", 1)[0] for peer in result["peers"]} <= own


def test_bound_to_the_pods_address(agent, client, service):
    with client.open_socket() as connection:
        connection.settimeout(5)
        connection.bind((client.ip, 0))
        connection.connect((service.vip, 50051))
        assert connection.getsockname()[0] == client.ip
        assert connection.getpeername() == (service.vip, 50051)


def test_bound_to_a_device_goes_plain(agent, client, service):
    diverted = agent.bpf_stat("diverted")
    with client.open_socket() as connection:
        connection.settimeout(5)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
        connection.connect((service.vip, 50051))
    assert agent.bpf_stat("diverted") == diverted


def test_the_pods_port_range_is_left_to_it(agent, client):
    """The agent's listener stands above the ephemeral range: servers of the pod bind what they did before."""
    for port in (50051, 15001, 15006, 60999):
        client.listen(port).close()


def test_a_pod_of_the_hosts_network_is_left_alone(lab, agent, service):
    with lab.pod("host", dataplane="enabled", host_network=True) as pod:
        agent.wait(lambda: "host's network" in agent.enrolment(pod).get("reason", ""), 5, "its reason")
        before = agent.bpf_stat("diverted")
        result = pod.greet(service.target, "--rpcs", 30)
        assert result["errors"] == []
        assert len(result["backends"]) == 1, "one connection, one backend"
        assert agent.bpf_stat("diverted") == before


def test_external_ips_and_node_ports_are_left_alone(lab, agent, greeters, client):
    """Only a ClusterIP is diverted: what comes to the node from outside is kube-proxy's, from a pod as well."""
    external = "192.0.2.10"
    ports = [Port("grpc", 50052, 50051, node_port=30052)]
    with lab.service("outside", ports=ports, pods=greeters, external_ips=[external]) as service:
        agent.wait_applied()
        assert len(client.greet(service.target, "--rpcs", 60)["backends"]) == 3
        before = agent.bpf_stat("diverted")
        for address, port in ((external, 50052), (NODE_IP, 30052)):
            with client.connect(address, port) as connection:
                assert connection.getpeername() == (address, port)
                assert connection.getsockname()[0] == client.ip
            result = client.greet(f"{address}:{port}", "--rpcs", 30)
            assert result["errors"] == []
            assert len(result["backends"]) == 1, "one connection, one backend"
        assert agent.bpf_stat("diverted") == before
