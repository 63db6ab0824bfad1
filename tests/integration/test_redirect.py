"""Redirect past TCP with a real agent: which connections have it, what is held when nobody reads, every byte in order.

Runs with WEIR_REDIRECT=off too: then the same traffic must do the same by TCP.
"""

import os
import random
import signal
import socket
import time

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from lab.service import Port

REDIRECT = os.environ.get("WEIR_REDIRECT", "auto") != "off"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
UNKNOWN_FRAME = b"\0\x40\0\x77\0\0\0\0\0" + bytes(16384)
MIB = 1 << 20
BIG = 64 * MIB
GREETER_PORT, FILES_PORT = 50051, 8080


@pytest.fixture(scope="module")
def files(lab, agent, tmp_path_factory):
    """A service that sends files and echoes uploads."""
    folder = tmp_path_factory.mktemp("files")
    with open(folder / "big", "wb") as big:
        big.truncate(BIG)
    pod = lab.pod("files")
    pod.popen(["nghttpd", "--no-tls", "--echo-upload", "-d", folder, str(FILES_PORT)])
    pod.wait_listening(FILES_PORT)
    made = lab.service("files", [Port("http2", FILES_PORT, FILES_PORT)], [pod])
    agent.wait_applied()
    return made


def paths(agent, pod) -> set[bool]:
    """Whether the pod's connections are redirected."""
    return {flow["redirect"] for flow in agent.bpf("flows") if flow["pod"] == f"default/{pod.name}"}



def test_declared_connections_are_redirected(agent, client, service):
    assert agent.stats()["redirect"]["state"] == ("on" if REDIRECT else "off")
    assert agent.metric("weir_redirect_enabled") == REDIRECT
    assert "Redirect: " in agent.weirctl("status")
    before = agent.bpf_stat("redirected")
    load = client.start_greet(service.target, "--concurrency", 2, "--rate", 50)
    agent.wait_served(20)
    assert paths(agent, client) == {REDIRECT}
    assert client.finish_greet(load)["errors"] == []
    assert (agent.bpf_stat("redirected") > before) == REDIRECT
    assert agent.bpf_stat("redirect_overrun") == 0


def test_a_pod_may_opt_out(lab, agent, service):
    with lab.pod("plain-tcp", dataplane="enabled", annotations={"weir.dev/redirect": "off"}) as pod:
        agent.wait_enrolled(pod)
        load = pod.start_greet(service.target, "--rate", 50)
        agent.wait_served(20)
        assert paths(agent, pod) == {False}
        assert pod.finish_greet(load)["errors"] == []


@pytest.mark.parametrize("size", [0, 1, 100_000, 20 * MIB])
def test_uploads_come_back_as_they_were(agent, client, files, tmp_path, size):
    sent, got = tmp_path / "sent", tmp_path / "got"
    sent.write_bytes(random.Random(size).randbytes(size))
    client.run(["curl", "--silent", "--fail", "--http2-prior-knowledge", "--max-time", "60", "--data-binary", f"@{sent}",
                "--output", got, f"http://{files.target}/"], timeout=70)  # fmt: skip
    assert got.read_bytes() == sent.read_bytes()
    assert agent.bpf_stat("redirect_overrun") == 0


def flood(connection: socket.socket) -> int:
    """Sends frames that ask for nothing until the kernel takes no more for a while."""
    sent = 0
    connection.settimeout(1)
    try:
        while sent < 64 * MIB:
            sent += connection.send(UNKNOWN_FRAME)
    except TimeoutError:
        return sent
    raise AssertionError("nothing makes the sender wait")


def test_a_stopped_agent_makes_senders_wait(agent, client, service):
    with client.connect(service.vip, GREETER_PORT) as connection:
        connection.sendall(PREFACE + SETTINGS)
        assert connection.recv(9)[3] == 4
        overruns = agent.bpf_stat("redirect_overrun")
        os.kill(agent.pid, signal.SIGSTOP)
        try:
            sent = flood(connection)
        finally:
            os.kill(agent.pid, signal.SIGCONT)
        assert agent.bpf_stat("redirect_overrun") == overruns + REDIRECT
        assert sent < 32 * MIB
    assert client.greet(service.target, "--rpcs", 30)["errors"] == []


def read_for(connection, seconds):
    """What arrives until nothing does for so long."""
    connection.settimeout(seconds)
    got = 0
    try:
        while data := connection.recv(MIB):
            got += len(data)
    except TimeoutError:
        pass
    return got


def ask_for_big():
    """A client that has asked for the file, with windows without limit."""
    http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    http.initiate_connection()
    http.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1})
    http.increment_flow_control_window(2**31 - 1 - 65535)
    http.send_headers(1, [(":method", "GET"), (":scheme", "http"), (":path", "/big"), (":authority", "f")], end_stream=True)
    return http


def test_what_a_client_never_acknowledges_is_bounded(agent, client, files):
    """Windows without limit, and no answer to any PING: what was sent counts as unread."""
    with client.connect(files.vip, FILES_PORT) as connection:
        http = ask_for_big()
        # The ACK of the agent's SETTINGS, which h2 would send on receiving them.
        connection.sendall(http.data_to_send() + b"\0\0\0\4\1\0\0\0\0")
        got = read_for(connection, 1.5)
        if not REDIRECT:
            assert got > BIG, "TCP knows itself what is read"
            return
        assert 3 * MIB < got < 5 * MIB
        assert agent.metric("weir_redirect_stalls_total") > 0


def test_a_client_that_stops_reading_goes_on_where_it_was(agent, client, files):
    with client.connect(files.vip, FILES_PORT) as connection:
        http = ask_for_big()
        connection.sendall(http.data_to_send())
        time.sleep(1)
        got, ended = 0, False
        while not ended:
            for event in http.receive_data(connection.recv(MIB)):
                if isinstance(event, h2.events.DataReceived):
                    got += len(event.data)
                ended = ended or isinstance(event, h2.events.StreamEnded)
            connection.sendall(http.data_to_send())
        assert got == BIG


def test_nothing_is_left_when_the_connections_are(agent, client, service):
    assert client.greet(service.target, "--rpcs", 10)["errors"] == []
    agent.wait(lambda: agent.bpf("flows") == [], 5, "no flow is left")
    agent.stop()
    agent.uninstall()
    agent.start()
    agent.wait_enrolled(client)
    assert client.greet(service.target, "--rpcs", 30)["errors"] == []
