"""Clients that break the protocol, dribble or disappear: they hurt themselves only."""

import os
import random
import socket
import struct
import time

import pytest
from h2_peers import Client, Response

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
PORT = 50051


def vanish(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.fixture
def leaks_nothing(agent, client, service):
    """Descriptors, streams and memory of the agent are back where they were after the test."""
    client.greet(service.target, "--rpcs", 50)
    descriptors, rss = agent.descriptors(), agent.resident_kib()
    yield
    agent.wait(lambda: agent.descriptors() <= descriptors, 8, f"the agent is back at {descriptors} descriptors")
    agent.wait(lambda: agent.active_rpcs() == 0, 5, "no RPC is left")
    assert agent.resident_kib() - rss < 16 << 10
    assert client.greet(service.target, "--rpcs", 60)["errors"] == []


def test_one_byte_writes(agent, client, service, leaks_nothing):
    with Client(client.connect(service.vip, PORT), write_size=1) as connection:
        for _ in range(3):
            assert connection.call().grpc_status == 0


def test_silent_connections_that_vanish(agent, client, service, leaks_nothing):
    for _ in range(50):
        vanish(client.connect(service.vip, PORT))


@pytest.mark.parametrize("size", [1, 5, 12, 23, 24, 28, 33])
def test_half_a_preface_and_gone(agent, client, service, leaks_nothing, size):
    for _ in range(10):
        connection = client.connect(service.vip, PORT)
        connection.sendall((PREFACE + SETTINGS)[:size])
        vanish(connection)


def test_half_a_preface_that_stays_goes_to_the_backend(agent, client, service, leaks_nothing):
    """After the detection limit the bytes are relayed: what the backend makes of them is its business."""
    with client.connect(service.vip, PORT, timeout=10) as connection:
        connection.sendall(PREFACE[:10])
        first = connection.recv(100)
    assert first[3:4] == b"\4" or first == b"", "the backend's SETTINGS, or its refusal"


BROKEN = {
    "no SETTINGS first": b"\0\0\x08\6\0\0\0\0\0" + bytes(8),
    "DATA on stream 0": SETTINGS + b"\0\0\1\0\0\0\0\0\0x",
    "HEADERS on an even stream": SETTINGS + b"\0\0\1\1\5\0\0\0\2\x82",
    "a frame larger than allowed": SETTINGS + b"\x7f\xff\xff\0\0\0\0\0\1",
    "broken HPACK": SETTINGS + b"\0\0\4\1\5\0\0\0\1\xff\xff\xff\xff",
    "CONTINUATION alone": SETTINGS + b"\0\0\1\x09\4\0\0\0\1\x82",
    "SETTINGS of a wrong length": b"\0\0\5\4\0\0\0\0\0" + bytes(5),
    "window of 2^31": SETTINGS + b"\0\0\4\x08\0\0\0\0\0\x7f\xff\xff\xff",
    "PUSH_PROMISE": SETTINGS + b"\0\0\5\5\4\0\0\0\1\0\0\0\2\x82",
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_frames_end_the_connection(agent, client, service, leaks_nothing, what):
    for _ in range(5):
        with client.connect(service.vip, PORT) as connection:
            connection.sendall(PREFACE + BROKEN[what])
            received = b""
            try:
                while chunk := connection.recv(4096):
                    received += chunk
            except ConnectionResetError:
                pass
            assert b"\0\0\0\0\0" in received, "SETTINGS came"
            assert any(received[i : i + 1] == b"\7" for i in range(3, len(received))), "GOAWAY came"


def test_garbage_after_the_preface(agent, client, service, leaks_nothing):
    source = random.Random(3)
    for _ in range(30):
        connection = client.connect(service.vip, PORT)
        try:
            connection.sendall(PREFACE + SETTINGS + source.randbytes(2000))
            while connection.recv(4096):
                pass
        except OSError:
            pass
        connection.close()


def test_garbage_on_the_port_reaches_the_backend_as_tcp(agent, client, service, leaks_nothing):
    for _ in range(10):
        connection = client.connect(service.vip, PORT)
        connection.sendall(os.urandom(500))
        connection.shutdown(socket.SHUT_WR)
        try:
            while connection.recv(4096):
                pass
        except OSError:
            pass
        connection.close()


@pytest.mark.parametrize("leave", ["close", "vanish"])
def test_clients_that_disappear_with_rpcs_running(agent, client, service, leaks_nothing, leave):
    for _ in range(10):
        connection = Client(client.connect(service.vip, PORT))
        for _ in range(10):
            connection.start("Sleep", b'{"seconds": 20}')
        connection.start("Stream", b'{"count": 100000, "size": 10000}')
        time.sleep(0.02)
        getattr(connection, leave)()


def test_clients_that_disappear_mid_request(agent, client, service, leaks_nothing):
    for _ in range(10):
        connection = Client(client.connect(service.vip, PORT))
        for _ in range(5):
            connection.start("Upload", b"x" * 1000, end=False)
        time.sleep(0.02)
        connection.vanish()


def test_a_reader_that_stops(agent, client, service, leaks_nothing):
    """A client that asks for much and reads nothing: the agent holds a window's worth, not the stream."""
    connection = client.connect(service.vip, PORT)
    with Client(connection) as reader:
        # A stream window that nobody refills: h2's own 64 KiB, of a stream of 100 MB.
        reader._handle = lambda event: None
        reader.start("Stream", b'{"count": 10000, "size": 10000}')
        before = agent.resident_kib()
        time.sleep(1.0)
        assert agent.resident_kib() - before < 16 << 10


def test_connect_is_refused(agent, client, service):
    with Client(client.connect(service.vip, PORT)) as connection:
        with connection.changed:
            stream = connection.h2.get_next_available_stream_id()
            connection.responses[stream] = Response()
            connection.send(lambda c: c.send_headers(stream, [(":method", "CONNECT"), (":authority", "x:1")], end_stream=True))
        response = connection.finish(stream)
        assert response.reset_code is not None or int(response.headers[":status"]) >= 400
        assert connection.call().grpc_status == 0
