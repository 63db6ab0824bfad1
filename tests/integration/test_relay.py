"""Bytes on a declared port that are not HTTP/2 pass through as TCP, whole and in order."""

import hashlib
import random
import socket
import threading

import pytest
from lab import tcp_server
from lab.service import Port
from lab.tcp_server import TcpServer
from memory import Peak


class Echo(TcpServer):
    """Sends back what comes, and FIN for FIN."""

    def __init__(self, pod, port):
        self.resets = 0
        super().__init__(pod.listen(port), self._echo)

    def _echo(self, accepted):
        try:
            tcp_server.echo(accepted)
        except ConnectionResetError:
            self.resets += 1


@pytest.fixture(scope="module")
def echo(lab, agent):
    pod = lab.pod("echo")
    server = Echo(pod, 7000)
    server.service = lab.service("echo", ports=[Port("grpc", 7000, 7000), Port("undeclared", 7001, 7000)], pods=[pod])
    agent.wait_applied()
    yield server
    server.close()


def receive(connection, size):
    data = b""
    while len(data) < size and (chunk := connection.recv(size - len(data))):
        data += chunk
    return data


@pytest.mark.parametrize("address", ["vip", "vip6"])
@pytest.mark.parametrize(
    "first",
    [b"G", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nXX", b"\0" * 50],
    ids=["one byte", "HTTP/1.1", "nearly", "TLS", "very nearly", "zeros"],
)
def test_small_exchanges(agent, echo, client, first, address):
    diverted = agent.bpf_stat("diverted")
    with client.connect(getattr(echo.service, address), 7000) as connection:
        connection.sendall(first)
        assert receive(connection, len(first)) == first
        connection.sendall(b"again")
        assert receive(connection, 5) == b"again"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert agent.bpf_stat("diverted") == diverted + 1


def test_a_prefix_of_the_preface_and_then_something_else(agent, echo, client):
    with client.connect(echo.service.vip, 7000) as connection:
        for byte in b"PRI * HT":
            connection.sendall(bytes([byte]))
        connection.sendall(b"ML\n")
        assert receive(connection, 11) == b"PRI * HTML\n"


def test_a_prefix_of_the_preface_and_then_the_end(agent, echo, client):
    with client.connect(echo.service.vip, 7000) as connection:
        connection.sendall(b"PRI * ")
        connection.shutdown(socket.SHUT_WR)
        assert receive(connection, 100) == b"PRI * "


@pytest.mark.parametrize("port", [7000, 7001], ids=["declared", "undeclared"])
def test_bulk_both_ways(agent, echo, client, port):
    """200 MiB each way at once. Nobody reads at first, so the writer has to wait, and what the agent holds must not grow."""
    size = 200 << 20
    data = random.Random(7).randbytes(size)
    spliced = agent.metric("weir_tcp_spliced_bytes_total")
    peak = Peak(agent)
    with client.connect(echo.service.vip, port, timeout=30) as connection:

        def write():
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

        writer = threading.Thread(target=write)
        writer.start()
        writer.join(0.5)
        assert writer.is_alive()
        digest = hashlib.sha256()
        received = 0
        while chunk := connection.recv(1 << 18):
            digest.update(chunk)
            received += len(chunk)
        writer.join(10)
    assert received == size
    assert digest.digest() == hashlib.sha256(data).digest()
    assert peak.growth_kib() < 4 << 10
    spliced = agent.metric("weir_tcp_spliced_bytes_total") - spliced
    copied = port == 7000 and agent.metric("weir_redirect_enabled")  # splice() can't take from what may be redirected
    assert spliced == 0 if copied else spliced > size


def test_relays_are_counted_and_leave_nothing(agent, echo, client):
    def opened_and_closed():
        return agent.metric("istio_tcp_connections_opened_total"), agent.metric("istio_tcp_connections_closed_total")

    before = opened_and_closed()
    descriptors = agent.descriptors()
    for _ in range(20):
        with client.connect(echo.service.vip, 7000) as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
    agent.wait(lambda: opened_and_closed() == (before[0] + 20, before[1] + 20), 5, "20 relays are counted")
    agent.wait(lambda: agent.descriptors() <= descriptors, 5, "the relays' descriptors are gone")


def test_no_backend_closes_the_connection(lab, agent, client):
    with lab.pod("nobody") as pod, lab.service("refused", ports=[Port("grpc", 7001, 7001)], pods=[pod]) as service:
        agent.wait_applied()
        with client.connect(service.vip, 7001) as connection:
            connection.sendall(b"hello")
            try:
                assert connection.recv(1) == b""
            except ConnectionResetError:
                pass  # as a server that refuses would
