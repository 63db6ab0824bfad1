"""Ports that declare nothing: HTTP/2 is balanced per RPC, all else passes as TCP, and what is learned passes by the agent."""

import json
import re
import socket
import time

import pytest
from h2_peers import Client
from lab.processes import wait_until
from lab.service import Port
from lab.tcp_server import Acceptor, TcpServer, echo

LEARNING = ["--learn-after", "3", "--verdict-lifetime", "3s", "--verdict-sample", "4"]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GREETING = b"220 mail.example ESMTP\r\n"


def greets(accepted):
    accepted.sendall(GREETING)
    echo(accepted)


@pytest.fixture(scope="module")
def agent(lab, service, client):
    started = lab.agent(arguments=LEARNING)
    started.start()
    started.wait_enrolled(client)
    started.wait_applied()
    return started


@pytest.fixture(scope="module")
def servers(lab, agent):
    pod = lab.pod("plain")
    made = [TcpServer(pod.listen(7000), greets), TcpServer(pod.listen(7001), echo)]
    ports = [Port("mail", 7000, 7000), Port("echo", 7001, 7001)]
    service = lab.service("plain", ports=ports, pods=[pod])
    agent.wait_applied()
    yield service
    for server in made:
        server.close()


@pytest.fixture
def fresh(agent):
    """Nothing is learned."""
    agent.weirctl("verdicts", "clear")


def verdicts(agent):
    return json.loads(agent.weirctl("verdicts", "list", "-o", "json"))


def echoed(client, service, words=b"hello there"):
    with client.connect(service.vip, 7001) as connection:
        connection.sendall(words)
        data = b""
        while len(data) < len(words) and (chunk := connection.recv(100)):
            data += chunk
    return data


def relays(agent):
    return sum(worker["tcp_relays"] for worker in agent.stats()["workers"])


def test_a_server_that_speaks_first(agent, servers, client, fresh):
    """That it is heard without delay is asserted where nothing else runs: test_detection_cost.py."""
    before = agent.metric("weir_detected_connections_total", declared="none", detected="server_first")
    with client.connect(servers.vip, 7000) as connection:
        assert connection.recv(100) == GREETING
        connection.sendall(b"EHLO")
        assert connection.recv(100) == b"EHLO"
    assert agent.metric("weir_detected_connections_total", declared="none", detected="server_first") == before + 1


def test_http2_is_balanced(lab, agent, client, greeters, fresh):
    before = agent.metric("weir_detected_connections_total", declared="none", detected="http2")
    with lab.service("undeclared", ports=[Port("api-port", 6200, 50051)], pods=greeters) as service:
        agent.wait_applied()
        result = client.greet(service.target, "--rpcs", 60)
    assert result["errors"] == []
    assert len(result["backends"]) == 3
    assert agent.metric("weir_detected_connections_total", declared="none", detected="http2") > before


def test_what_is_learned_passes_by_the_agent(agent, servers, client, fresh):
    bypassed, diverted = agent.bpf_stat("bypass_learned"), agent.bpf_stat("diverted")
    for _ in range(3):
        assert echoed(client, servers) == b"hello there"
    agent.wait(lambda: len(verdicts(agent)) == 1, 2, "a verdict")
    (verdict,) = verdicts(agent)
    assert verdict["address"] == f"{servers.vip}:7001"
    assert verdict["pod"].endswith("/client")
    assert verdict["service"].endswith("/plain")
    for _ in range(8):  # of which two are samples
        assert echoed(client, servers) == b"hello there"
    assert agent.bpf_stat("bypass_learned") - bypassed == 6
    assert agent.bpf_stat("diverted") - diverted == 5
    assert verdict["pod"] in agent.weirctl("verdicts", "list")
    why = agent.weirctl("why", "client", "plain:7001")
    assert "not diverted" in why and "but for one in 4; `weirctl verdicts clear" in why
    agent.weirctl(*re.search("`weirctl (.*)`", why)[1].split())
    assert ": diverted (detect" in agent.weirctl("why", "client", "plain:7001")


def test_the_agent_takes_other_source_ports_than_what_passes_by_it(lab, agent, client, fresh):
    """A server that has one's port in TIME_WAIT refuses the other's SYN, whose timestamps are of another offset."""
    ports = {True: set(), False: set()}  # by: through the agent
    seen = []

    def take(accepted, peer):
        accepted.sendall(GREETING)
        accepted.close()
        seen.append(peer[1])

    with lab.pod("server") as pod, Acceptor(pod.listen(7003), take):
        with lab.service("ends", ports=[Port("ends", 7003, 7003)], pods=[pod]) as service:
            agent.wait_applied()
            for i in range(35):
                seen.clear()
                diverted = agent.bpf_stat("diverted")
                with client.connect(service.vip, 7003) as connection:
                    assert connection.recv(100) == GREETING
                wait_until(lambda: seen, 2, "the server has it")
                if i > 0:  # of the first nobody knows that others will pass by
                    ports[agent.bpf_stat("diverted") > diverted].update(port % 2 for port in seen)
                if i == 2:
                    agent.wait(lambda: len(verdicts(agent)) == 1, 2, "a verdict")
    assert len(ports[True]) == len(ports[False]) == 1 and ports[True] != ports[False], ports


def test_verdicts_expire_and_can_be_cleared(agent, servers, client, fresh):
    for _ in range(3):
        echoed(client, servers)
    agent.wait(lambda: len(verdicts(agent)) == 1, 2, "a verdict")
    agent.weirctl("verdicts", "clear", "--service", f"{servers.vip}:7000")
    assert len(verdicts(agent)) == 1, "of another port"
    agent.weirctl("verdicts", "clear", "--pod", client.ip, "--service", f"{servers.vip}:7001")
    assert verdicts(agent) == []
    diverted = agent.bpf_stat("diverted")
    echoed(client, servers)
    assert agent.bpf_stat("diverted") == diverted + 1
    agent.wait(lambda: len(verdicts(agent)) == 1, 2, "it is learned again by one more")
    agent.wait(lambda: verdicts(agent) == [], 5, "it expires")


def test_http2_clears_a_verdict(lab, agent, client, greeters, fresh):
    """A port that was TCP and now speaks HTTP/2: found by the sample."""
    with lab.service("turns", ports=[Port("turns", 6201, 50051)], pods=greeters) as service:
        agent.wait_applied()
        for _ in range(3):
            with client.connect(service.vip, 6201) as connection:
                connection.sendall(b"not HTTP/2 at all")
        agent.wait(lambda: len(verdicts(agent)) == 1, 2, "a verdict")
        for _ in range(4):
            client.greet(service.target, "--rpcs", 1)
        agent.wait(lambda: verdicts(agent) == [], 2, "no verdict")
        assert len(client.greet(service.target, "--rpcs", 60)["backends"]) == 3


def test_declared_ports_never_learn(lab, agent, client, fresh):
    pod = lab.pod("declared")
    server = TcpServer(pod.listen(7002), echo)
    with lab.service("declared", ports=[Port("grpc-x", 7002, 7002)], pods=[pod]) as service:
        agent.wait_applied()
        for _ in range(5):
            with client.connect(service.vip, 7002) as connection:
                connection.sendall(b"PING\r\n")
                assert connection.recv(100) == b"PING\r\n"
        assert verdicts(agent) == []
        assert agent.metric("weir_detected_connections_total", declared="http2", detected="tcp") >= 5
        assert agent.metric("weir_misdeclared_connections_total", destination_service_name="declared", destination_port="7002") == 5
        assert "passed as TCP (of all pods here): 5 " in agent.weirctl("why", "default/client", "default/declared:7002")
    server.close()


def test_detection_can_be_off_for_a_service(lab, agent, client, greeters, fresh):
    annotations = {"weir.dev/detect": "off"}
    with lab.service("exempt", ports=[Port("api-port", 6202, 50051)], pods=greeters, annotations=annotations) as service:
        agent.wait_applied()
        diverted = agent.bpf_stat("diverted")
        assert len(client.greet(service.target, "--rpcs", 60)["backends"]) == 1
        assert agent.bpf_stat("diverted") == diverted


def test_headless_services_are_dialled_at_their_pods(lab, agent, client, greeters, fresh):
    """Opted in, one connection to one pod reaches all of them by HTTP/2; other bytes reach that pod only."""
    server = TcpServer(greeters[1].listen(7003), echo)
    ports = [Port("grpc", 50051, 50051), Port("echo", 7003, 7003)]
    target = f"{greeters[0].ip}:50051"
    assert len(client.greet(target, "--rpcs", 30)["backends"]) == 1
    opted_in = {"weir.dev/balance-headless": "true"}
    with lab.service("headless", ports=ports, pods=greeters, headless=True, annotations=opted_in):
        agent.wait_applied()
        diverted = agent.bpf_stat("diverted")
        assert len(client.greet(target, "--rpcs", 60)["backends"]) == 3
        assert agent.bpf_stat("diverted") > diverted
        for _ in range(6):
            with client.connect(greeters[1].ip, 7003) as connection:
                connection.sendall(b"only here")
                assert connection.recv(100) == b"only here"
        with pytest.raises(ConnectionError):
            with client.connect(greeters[0].ip, 7003) as connection:
                connection.sendall(b"nobody listens here")
                if not connection.recv(100):
                    raise ConnectionResetError
    agent.wait_applied()
    with lab.service("headless", ports=ports, pods=greeters, headless=True):
        agent.wait_applied()
        assert len(client.greet(target, "--rpcs", 30)["backends"]) == 1
    server.close()


def test_fast_open_reaches_the_server(agent, servers, client, fresh):
    """Data in the SYN is an offer that the agent's listener declines."""
    with client.open_socket() as connection:
        connection.settimeout(5)
        connection.setsockopt(socket.IPPROTO_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT
        connection.connect((servers.vip, 7001))
        connection.sendall(b"in the SYN, perhaps")
        assert connection.recv(100) == b"in the SYN, perhaps"
        assert connection.getpeername() == (servers.vip, 7001)
        assert connection.getsockname()[0] == client.ip


def test_mptcp_goes_the_plain_way(agent, servers, client, fresh):
    diverted = agent.bpf_stat("diverted")
    with client.open_socket(multipath=True) as connection:
        connection.settimeout(5)
        connection.connect((servers.vip, 7001))
        connection.sendall(b"by several ways, perhaps")
        assert connection.recv(100) == b"by several ways, perhaps"
        assert connection.getpeername() == (servers.vip, 7001)
        assert connection.getsockname()[0] == client.ip
    assert agent.bpf_stat("diverted") == diverted


H2C_UPGRADE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAA\r\n\r\n"
SPEECHES = {
    "an upgrade from HTTP/1.1": ([H2C_UPGRADE, PREFACE], 0.01),
    "byte by byte": ([bytes([byte]) for byte in PREFACE[:14] + b"\n"], 0.001),
    "sleeps in the middle of the preface": ([PREFACE[:10], b" HTML"], 0.5),
    "one byte before the preface is whole": ([PREFACE[:23], b"no"], 0.01),
    "a preface of another version": ([b"PRI * HTTP/3.0\r\n\r\n"], 0),
}


@pytest.mark.parametrize("speech", SPEECHES)
def test_what_nearly_is_a_preface_arrives_whole(agent, servers, client, fresh, speech):
    pieces, pause = SPEECHES[speech]
    expected = b"".join(pieces)
    with client.connect(servers.vip, 7001) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)
        data = b""
        while len(data) < len(expected) and (chunk := connection.recv(100)):
            data += chunk
    assert data == expected


def test_a_preface_and_then_nonsense_hurts_that_connection_only(agent, lab, client, greeters, fresh):
    with lab.service("nonsense", ports=[Port("api-port", 6203, 50051)], pods=greeters) as service:
        agent.wait_applied()
        with client.connect(service.vip, 6203) as connection:
            connection.sendall(PREFACE + b"\xff" * 100)
            while connection.recv(4096):
                pass
        assert len(client.greet(service.target, "--rpcs", 60)["backends"]) == 3


class Slowly(socket.socket):
    """Each byte in a segment of its own."""

    def sendall(self, data):
        for byte in data:
            super().sendall(bytes([byte]))
            time.sleep(0.001)


def test_a_preface_byte_by_byte_is_http2(agent, lab, client, greeters, fresh):
    before = agent.metric("weir_detected_connections_total", declared="none", detected="http2")
    with lab.service("slowly", ports=[Port("api-port", 6204, 50051)], pods=greeters) as service:
        agent.wait_applied()
        connection = Slowly(fileno=client.connect(service.vip, 6204).detach())
        connection.settimeout(10)
        peer = Client(connection)
        assert [peer.call().grpc_status for _ in range(2)] == [0, 0]
        peer.close()
    assert agent.metric("weir_detected_connections_total", declared="none", detected="http2") == before + 1
