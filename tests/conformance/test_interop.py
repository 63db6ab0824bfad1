"""grpc-go's interop client against its server, through the diverted path, over IPv4, IPv6 and v4-mapped
sockets (those that dual-stack clients such as Java's and C++'s open for IPv4 addresses)."""

import socket
import threading

import pytest
from lab.service import Port
from lab.tcp_server import Acceptor

PORT = 10000
CASES = [
    "cancel_after_begin",
    "cancel_after_first_response",
    "client_streaming",
    "custom_metadata",
    "empty_stream",
    "empty_unary",
    "large_unary",
    "ping_pong",
    "server_streaming",
    "special_status_message",
    "status_code_and_message",
    "timeout_on_sleeping_server",
    "unimplemented_method",
    "unimplemented_service",
]
SOAK = ["--soak_iterations=200", "--soak_max_failures=0", "--soak_per_iteration_max_acceptable_latency_ms=2000",
        "--soak_overall_timeout_seconds=60"]  # fmt: skip


@pytest.fixture(scope="module")
def interop(go_tool):
    return go_tool("grpc-interop")


@pytest.fixture(scope="module")
def servers(lab, interop):
    """Two, so that balancing takes part; the interop server binds all addresses, here those of its pod."""
    pods = [lab.pod(f"interop-{i}") for i in range(2)]
    for pod in pods:
        pod.popen([interop / "interop_server", "--use_tls=false", f"--port={PORT}"])
    for pod in pods:
        pod.wait_listening(PORT)
    return pods


@pytest.fixture(scope="module")
def service(lab, agent, servers):
    made = lab.service("interop", ports=[Port("grpc", PORT, PORT)], pods=servers)
    agent.wait_applied()
    return made


class MappedForwarder(Acceptor):
    """Go dials AF_INET sockets even for ::ffff:a.b.c.d. So its client dials this, on the pod's loopback (which is
    never diverted), and from here on an AF_INET6 socket of the pod goes to the mapped address."""

    def __init__(self, pod, address, port):
        self.pod, self.target = pod, (f"::ffff:{address}", port)
        listener = pod.open_socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        super().__init__(listener, self._forward)

    def _forward(self, accepted, _):
        onward = self.pod.connect(*self.target)
        onward.settimeout(None)
        for source, sink in ((accepted, onward), (onward, accepted)):
            threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    @staticmethod
    def _carry(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (source, sink):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue


@pytest.fixture(scope="module", params=["IPv4", "v4-mapped", "IPv6"])
def address(request, client, service):
    """Host and port for the client."""
    if request.param == "v4-mapped":
        forwarder = MappedForwarder(client, service.vip, PORT)
        yield "127.0.0.1", forwarder.port
        forwarder.close()
    else:
        yield (service.vip if request.param == "IPv4" else service.vip6), PORT


def run(pod, interop, address, case, *more):
    host, port = address
    command = [interop / "interop_client", "--use_tls=false", f"--server_host={host}", f"--server_port={port}"]
    done = pod.run([*command, f"--test_case={case}", *more], timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES)
def test_case(agent, client, interop, address, case):
    diverted = agent.bpf_stat("diverted")
    run(client, interop, address, case)
    assert agent.bpf_stat("diverted") > diverted, "the client's connection went through the agent"


@pytest.mark.parametrize("case", ["rpc_soak", "channel_soak"])
def test_soak(agent, client, interop, address, case):
    diverted = agent.bpf_stat("diverted")
    run(client, interop, address, case, *SOAK)
    assert agent.bpf_stat("diverted") > diverted


def test_nothing_is_left(agent, client, interop, service):
    run(client, interop, (service.vip, PORT), "empty_unary")
    agent.wait(lambda: agent.active_rpcs() == 0, 5, "no RPC is left")
