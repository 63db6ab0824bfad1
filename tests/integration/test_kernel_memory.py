"""What the kernel holds while somebody doesn't read: measured, and bounded for each connection.

/proc says it for the whole machine: pages of TCP, in which redirected bytes are counted too, and slabs, where messages that wait
in a redirected socket's queue have 1 KiB each. Runs with WEIR_REDIRECT=off too.
"""

import os
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from attackers import ACK, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, frame, literal, settings, window_update
from lab.service import Port
from lab.tcp_server import TcpServer

REDIRECT = os.environ.get("WEIR_REDIRECT", "auto") != "off"
FLOWS = 24
MIB = 1 << 20
SLACK = 64 * MIB  # the rest of the machine has sockets and slabs too
# Of a connection: what may be redirected ahead of the reader (bpf/redirect.h, http2/unread_bound.h), and TCP's queues.
REDIRECTED_TO_AGENT, REDIRECTED_TO_CLIENT = (8 * MIB, 5 * MIB) if REDIRECT else (0, 0)
PORT, FILES_PORT = 50051, 8080
UNKNOWN = 0x77
TINY_SENDS = 12_000  # 8 MiB at 1 KiB a message, and half as many again


def queues() -> int:
    """What TCP may have in a connection's two queues: it fits into the sender's buffer and the receiver's first one."""
    sizes = {name: Path(f"/proc/sys/net/ipv4/tcp_{name}").read_text().split() for name in ("wmem", "rmem")}
    return int(sizes["wmem"][2]) + 2 * int(sizes["rmem"][1])


class Kernel:
    """What it holds more than at the beginning."""

    def __init__(self):
        self.before = self.now()

    @staticmethod
    def now() -> tuple[int, int]:
        (tcp,) = (line.split() for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
        slabs = next(line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("SUnreclaim:"))
        return int(tcp[tcp.index("mem") + 1]) * os.sysconf("SC_PAGESIZE"), int(slabs) << 10

    def grown(self) -> tuple[int, int]:
        return tuple(now - before for now, before in zip(self.now(), self.before))

    def assert_bounded(self, each: int, what: str, record) -> int:
        pages, slabs = self.grown()
        print(f"{what}, {FLOWS} connections, redirect {'on' if REDIRECT else 'off'}: {pages / MIB:.1f} MiB of TCP's pages "
              f"and {slabs / MIB:.1f} MiB of slabs, of {FLOWS * each / MIB:.0f} allowed")  # fmt: skip
        record("tcp_mib", round(pages / MIB, 1))
        record("slab_mib", round(slabs / MIB, 1))
        assert pages + slabs < FLOWS * each + SLACK
        return pages + slabs


@pytest.fixture
def kernel(agent):
    """After the test it is back where it was."""
    made = Kernel()
    yield made
    agent.wait(lambda: made.grown()[0] < SLACK / 4, 20, "TCP's pages are free again")


def send_all_that_fits(connection: socket.socket, message: bytes) -> int:
    """Messages one by one; when nothing more is redirected, larger pieces, until nobody has taken any for a while."""
    sent = sends = 0
    connection.settimeout(0.2)
    try:
        while True:
            piece = message if len(message) > 1000 or sends < TINY_SENDS else message * 1000
            sent += connection.send(piece)
            sends += 1
            assert sent < 64 * MIB, "nothing makes the sender wait"
    except TimeoutError:
        return sent


@pytest.mark.parametrize("size", [16384, 20])
def test_an_agent_that_is_stopped_while_a_pod_sends(agent, client, service, kernel, record_property, size):
    message = frame(UNKNOWN, 0, 0, bytes(size - 9))
    overruns = agent.bpf_stat("redirect_overrun")
    with ExitStack() as connections:
        flows = [connections.enter_context(client.connect(service.vip, PORT)) for _ in range(FLOWS)]
        for flow in flows:
            flow.sendall(PREFACE + settings())
            assert flow.recv(9)[3] == SETTINGS
        os.kill(agent.pid, signal.SIGSTOP)
        try:
            sent = sum(send_all_that_fits(flow, message) for flow in flows)
            held = kernel.assert_bounded(REDIRECTED_TO_AGENT + queues(), f"agent stopped, messages of {size} bytes", record_property)
        finally:
            os.kill(agent.pid, signal.SIGCONT)
    assert held > min(sent, FLOWS * REDIRECTED_TO_AGENT) / 2, "what is measured is what was sent"
    assert agent.bpf_stat("redirect_overrun") - overruns == FLOWS * REDIRECT


@pytest.fixture(scope="module")
def files(lab, agent, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    with open(folder / "big", "wb") as big:
        big.truncate(64 * MIB)
    pod = lab.pod("files")
    pod.popen(["nghttpd", "--no-tls", "-d", folder, str(FILES_PORT)])
    pod.wait_listening(FILES_PORT)
    made = lab.service("files", [Port("http2", FILES_PORT, FILES_PORT)], [pod])
    agent.wait_applied()
    return made


def test_clients_that_grant_all_windows_and_never_read(agent, client, files, kernel, record_property):
    fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/big"), (b":authority", b"files")]
    ask = PREFACE + settings((4, 0x7FFFFFFF)) + frame(SETTINGS, ACK) + window_update(0, 0x7FFF0000)
    ask += frame(HEADERS, END_HEADERS | END_STREAM, 1, b"".join(literal(*field) for field in fields))
    stalls = agent.metric("weir_redirect_stalls_total")
    with ExitStack() as connections:
        for _ in range(FLOWS):
            connections.enter_context(client.connect(files.vip, FILES_PORT)).sendall(ask)
        if REDIRECT:
            agent.wait(lambda: agent.metric("weir_redirect_stalls_total") >= stalls + FLOWS, 30, "every reader's account is full")
        settled, pages = -1, 0
        while pages > settled:
            settled = pages
            time.sleep(1)
            pages = max(settled, kernel.grown()[0])
        held = kernel.assert_bounded(REDIRECTED_TO_CLIENT + queues(), "readers that stopped", record_property)
        if REDIRECT:
            assert held > FLOWS * 3 * MIB, "what is measured is what was sent"


def test_readers_that_stop_on_what_became_a_relay(lab, agent, client, kernel, record_property):
    """A client of a declared port that says nothing for five seconds is relayed; the preface is the first thing that it says."""

    def pour(accepted: socket.socket) -> None:
        accepted.recv(len(PREFACE), socket.MSG_WAITALL)
        for _ in range(64):
            accepted.sendall(bytes(MIB))

    pod = lab.pod("pourer")
    relays = agent.metric("weir_tcp_relays")
    with ExitStack() as stack:
        stack.enter_context(TcpServer(pod.listen(PORT), pour))
        service = stack.enter_context(lab.service("pourer", [Port("grpc", PORT, PORT)], [pod]))
        agent.wait_applied()
        flows = [stack.enter_context(client.connect(service.vip, PORT)) for _ in range(FLOWS)]
        agent.wait(lambda: agent.metric("weir_tcp_relays") == relays + FLOWS, 10, "all are relayed")
        for flow in flows:
            flow.sendall(PREFACE)
        settled, pages = -1, 0
        while pages > settled:
            settled = pages
            time.sleep(1)
            pages = max(settled, kernel.grown()[0])
        # Also between the server and the agent, which reads so fast at first that its queue grows to the largest.
        longest = int(Path("/proc/sys/net/ipv4/tcp_rmem").read_text().split()[2])
        held = kernel.assert_bounded(2 * queues() + longest, "readers of relays that stopped", record_property)
        assert held > FLOWS * MIB, "what is measured is what was sent"
