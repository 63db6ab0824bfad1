"""Backends that break the protocol: a clear status for the client, a counter, and nothing leaks."""

import socket
import struct
import time

import h2.errors
import pytest
from h2_peers import Backend, Client
from lab.service import Port
from lab.tcp_server import TcpServer

PORT = 50051


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


SETTINGS = frame(4, 0, 0)


def http1(accepted):
    accepted.recv(4096)
    accepted.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")


def closes_at_once(accepted):
    accepted.shutdown(socket.SHUT_RDWR)


def resets_at_once(accepted):
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def half_a_frame(accepted):
    accepted.recv(4096)
    accepted.sendall(SETTINGS[:5])


def garbage(accepted):
    accepted.recv(4096)
    accepted.sendall(bytes(range(256)) * 20)
    while accepted.recv(4096):
        pass


def oversized_frame(accepted):
    accepted.recv(4096)
    accepted.sendall(SETTINGS + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01")
    while accepted.recv(4096):
        pass


def closes_after_the_request(accepted):
    accepted.sendall(SETTINGS)
    seen = b""
    while b"Hello" not in seen and len(seen) < 200:
        seen += accepted.recv(4096)
    time.sleep(0.05)


# behaviour, the flags that may stand in the metrics (the last try's)
BEHAVIOURS = [
    (http1, {"UPE", "UF"}),
    (closes_at_once, {"UF", "UC"}),
    (resets_at_once, {"UF", "UC"}),
    (half_a_frame, {"UF", "UC", "UPE"}),
    (garbage, {"UPE", "UF"}),
    (oversized_frame, {"UPE", "UC", "UF"}),
    (closes_after_the_request, {"UC"}),
]


def rpcs_by_flag(agent):
    found = {}
    for name, labels, value in agent.samples():
        if name == "istio_requests_total":
            for flag in labels["response_flags"].split(","):
                found[flag] = found.get(flag, 0) + value
    return found


@pytest.mark.parametrize("behave,flags", BEHAVIOURS, ids=[b[0].__name__ for b in BEHAVIOURS])
def test_a_backend_that_is_none(lab, agent, client, service, behave, flags):
    client.greet(service.target, "--rpcs", 20)
    descriptors, before = agent.descriptors(), rpcs_by_flag(agent)
    with lab.pod("raw") as pod, lab.service("raw", ports=[Port("grpc", PORT, PORT)], pods=[pod]) as broken:
        server = TcpServer(pod.listen(PORT), behave)
        agent.wait_applied()
        result = client.greet(broken.target, "--rpcs", 20, "--deadline", 5)
        server.close()
    assert [e["code"] for e in result["errors"]] == ["UNAVAILABLE"] * 20
    assert all(e["details"] for e in result["errors"])
    assert max(e["ended"] - e["started"] for e in result["errors"]) < 2
    after = rpcs_by_flag(agent)
    assert sum(after.get(f, 0) - before.get(f, 0) for f in flags) >= 20
    agent.wait(lambda: agent.descriptors() <= descriptors, 5, "the descriptors are gone")
    agent.wait(lambda: agent.active_rpcs() == 0, 5, "no RPC is left")
    assert client.greet(service.target, "--rpcs", 50)["errors"] == []


class Fickle:
    """Answers as the test's present behaviour says."""

    behave = None

    def respond(self, request):
        self.behave(request)


@pytest.fixture(scope="module")
def fickle(lab, agent):
    script = Fickle()
    pod = lab.pod("fickle")
    backend = Backend(pod, script.respond)
    script.backend = backend
    script.service = lab.service("fickle", ports=[Port("grpc", PORT, PORT)], pods=[pod])
    agent.wait_applied()
    yield script
    backend.close()


@pytest.fixture
def connection(client, fickle):
    with Client(client.connect(fickle.service.vip, PORT)) as made:
        yield made


def dies_mid_stream(request):
    request.head()
    request.message(b"one")
    time.sleep(0.05)
    request.connection.abort()


def test_dying_mid_stream_ends_in_trailers(connection, fickle, agent):
    """Not a bare RST: the client gets status 14 and the reason."""
    fickle.behave = dies_mid_stream
    before = rpcs_by_flag(agent).get("UC", 0)
    response = connection.call()
    assert response.headers[":status"] == "200"
    assert bytes(response.body) == b"\0\0\0\0\x03one"
    assert response.trailers["grpc-status"] == "14" and response.trailers["grpc-message"]
    assert rpcs_by_flag(agent).get("UC", 0) == before + 1
    assert not connection.closed
    fickle.behave = lambda request: request.answer()
    assert connection.call().grpc_status == 0


def test_other_streams_are_untouched(lab, agent, client, service, fickle):
    fickle.behave = dies_mid_stream
    with Client(client.connect(service.vip, PORT)) as other, Client(client.connect(fickle.service.vip, PORT)) as dying:
        running = other.start("Sleep", b'{"seconds": 0.5}')
        assert dying.call().grpc_status == 14
        assert other.finish(running).grpc_status == 0


@pytest.mark.parametrize("code", [h2.errors.ErrorCodes.INTERNAL_ERROR, h2.errors.ErrorCodes.PROTOCOL_ERROR])
def test_a_reset_by_the_backend(connection, fickle, agent, code):
    fickle.behave = lambda request: request.reset(code)
    before = rpcs_by_flag(agent).get("UR", 0)
    response = connection.call()
    assert response.grpc_status == 14 and response.grpc_text
    assert rpcs_by_flag(agent).get("UR", 0) == before + 1


def test_an_answer_before_the_request_has_ended(connection, fickle):
    def early(request):
        request.head()
        request.status(7, "go away")

    fickle.behave = early
    stream = connection.start(end=False)
    assert connection.finish(stream).trailers["grpc-status"] == "7"


def test_trailers_only_and_unusual_statuses_pass_unchanged(connection, fickle):
    def trailers_only(request):
        head = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "9"), ("x-more", "1")]
        request.connection.send(lambda c: c.send_headers(request.stream, head, end_stream=True))

    fickle.behave = trailers_only
    response = connection.call()
    assert (response.grpc_status, response.headers["x-more"]) == (9, "1")


def test_a_backend_that_grants_no_window(lab, agent, client):
    """Backpressure by flow control alone: a client that uploads more than anybody takes is held back, and
    the agent's memory stays bounded."""
    pod = lab.pod("stingy")
    with (
        Backend(pod, lambda request: None, grant_windows=False),
        lab.service("stingy", ports=[Port("grpc", PORT, PORT)], pods=[pod]) as service,
    ):
        agent.wait_applied()
        rss = agent.resident_kib()
        client.run(["/usr/bin/python3", "-c", _UPLOAD, service.target], timeout=30)
        assert agent.resident_kib() - rss < 32 << 10


_UPLOAD = """
import sys, grpc
def chunks():
    for _ in range(200):
        yield bytes(1 << 20)
with grpc.insecure_channel(sys.argv[1], [("grpc.enable_http_proxy", 0)]) as channel:
    try:
        channel.stream_unary("/weir.lab.Greeter/Upload")(chunks(), timeout=2)
        sys.exit("200 MB went where nobody reads")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
"""
