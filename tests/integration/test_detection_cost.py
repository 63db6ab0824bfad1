"""What ports that declare nothing cost, with the machine to itself: the first byte of a server that speaks first, and many
connections that want to be a burden while nobody knows what they are."""

import contextlib
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from lab.service import Port
from lab.tcp_server import Acceptor, TcpServer
from latency import latency
from memory import Peak

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GREETING = b"220 mail.example ESMTP\r\n"
MAIL, PATIENT, ECHO = 7000, 7004, 8080
TURNS = 20
ADDED_SECONDS = 0.002  # before the first byte, at most
MORE_KIB = 40_000_000 >> 10
BACK = 1.05  # of what was open and resident before
ATTEMPTS = 3  # other work of the machine may disturb one
NOTICEABLE_US = 2000  # a p99 below is none that a pod of two shared cores could tell from the machine's own


@pytest.fixture(scope="module")
def bystander(lab):
    return lab.pod("bystander", dataplane="enabled")


@pytest.fixture(scope="module")
def echo(lab):
    pod = lab.pod("echo")
    pod.popen(["nghttpd", "--no-tls", "-n", 1, "--echo-upload", "-d", "/var/empty", ECHO])
    pod.wait_listening(ECHO)
    return lab.service("echo", [Port("grpc", 80, ECHO)], [pod])


class Sink(Acceptor):
    """A server that accepts and never reads or says anything."""

    def __init__(self, listener):
        self.accepted = []
        super().__init__(listener, lambda accepted, _: self.accepted.append(accepted))

    def hang_up(self):
        while self.accepted:
            self.accepted.pop().close()

    def close(self):
        super().close()
        self.hang_up()


@pytest.fixture(scope="module")
def sink(lab):
    pod = lab.pod("patient")
    with Sink(pod.listen(PATIENT, backlog=4096)) as made:
        made.pod = pod
        made.vip = lab.service("patient", [Port("patient", PATIENT, PATIENT)], [pod]).vip
        yield made


@pytest.fixture
def agent(lab, client, bystander, echo, sink):
    """A new one for each test: nothing has grown in it yet."""
    started = lab.agent()
    started.start()
    started.wait_enrolled(client, bystander)
    started.wait_applied()
    yield started
    sink.hang_up()
    started.stop()


def first_byte(connect, address) -> float:
    started = time.monotonic()
    with connect(address, MAIL) as connection:
        data = connection.recv(100)
        taken = time.monotonic() - started
    assert data == GREETING
    return taken


def test_a_server_that_speaks_first_is_heard_without_delay(lab, agent, client):
    """Beside a pod that is not enrolled, in turns."""
    plain, pod = lab.pod("not-enrolled"), lab.pod("mail")
    with TcpServer(pod.listen(MAIL), lambda accepted: accepted.sendall(GREETING)):
        service = lab.service("mail", [Port("mail", MAIL, MAIL)], [pod])
        agent.wait_applied()
        through, direct = [], []
        for _ in range(TURNS):
            agent.weirctl("verdicts", "clear")
            through.append(first_byte(client.connect, service.vip))
            direct.append(first_byte(plain.connect, service.vip))
    print(f"median {1000 * statistics.median(through):.2f} ms, directly {1000 * statistics.median(direct):.2f} ms")
    assert statistics.median(through) <= statistics.median(direct) + ADDED_SECONDS
    assert agent.metric("weir_detected_connections_total", declared="none", detected="server_first") == TURNS


def relays(agent) -> int:
    return sum(worker["tcp_relays"] for worker in agent.stats()["workers"])


def http2(agent) -> int:
    return int(agent.metric("weir_downstream_connections"))


@dataclass
class Opening:
    """What each of many connections writes, a piece at a time, and how many of them the agent has taken for something then:
    None where that ends them."""

    pieces: list[bytes]
    taken: Callable | None
    connections: int = 1000


OPENINGS = {
    "5,000 idle": Opening([], relays, 5000),
    "5,000 asleep in the middle of the preface": Opening([PREFACE[:12]], relays, 5000),
    "a preface byte by byte, and silence": Opening([bytes([byte]) for byte in PREFACE], http2),
    "the first line of a preface, and nonsense": Opening([PREFACE[:16], b"\xff" * 100], relays),
    "a preface, and nonsense": Opening([PREFACE, b"\xff" * 100], None),
}


class Flood:
    """Many connections that say the same, until the block ends. `address` is the agent's part or, as a control, nobody's."""

    def __init__(self, opening, client, sink, address):
        self._opening, self._client, self._sink, self._address = opening, client, sink, address

    def __enter__(self):
        self.made = [self._client.connect(self._address, PATIENT) for _ in range(self._opening.connections)]
        for piece in self._opening.pieces:
            for connection in self.made:
                with contextlib.suppress(ConnectionError):  # of those that the agent has ended
                    connection.sendall(piece)
        return self

    def __exit__(self, *_):
        for connection in self.made:
            connection.close()
        self._sink.hang_up()


@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS)
def test_hostile_connections_take_little_and_all_of_it_comes_back(agent, bystander, client, echo, sink, opening):
    """Twice in a row: what the first ones leave is not for ever, what the second ones leave is not added to it."""
    latency(bystander, echo.vip, 80, 1.0)
    agent.weirctl("verdicts", "clear")
    time.sleep(2)  # for what those RPCs took and need no more
    descriptors, resident = agent.descriptors(), agent.resident_kib()
    for _ in range(2):
        agent.weirctl("verdicts", "clear")  # of the first ones
        peak = Peak(agent)
        with Flood(opening, client, sink, sink.vip):
            if opening.taken:
                agent.wait(lambda: opening.taken(agent) >= opening.connections, 20, "all are decided")
                assert agent.descriptors() > descriptors + opening.connections
        agent.wait(lambda: sink.hang_up() or agent.descriptors() <= BACK * descriptors, 20, "the descriptors are back")
        agent.wait(lambda: agent.resident_kib() <= BACK * resident, 25, f"the memory is back at {resident} KiB")
        print(f"at most {peak.growth_kib()} KiB more, then {agent.resident_kib()} of {resident} KiB")
        assert peak.growth_kib() <= MORE_KIB
    assert agent.log.read_text().count("ended: ") < 20, "the agent's log is the node's disk"


@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS)
def test_another_pod_notices_nothing(agent, bystander, client, echo, sink, opening):
    """Its RPCs at 99 %, beside such connections through weir; beside none, and beside the same past weir, which take the CPUs too."""
    measured = []

    def beside(address) -> int:
        with ThreadPoolExecutor(1) as other:
            took = other.submit(latency, bystander, echo.vip, 80, 3.0)
            with Flood(opening, client, sink, address):
                return took.result()

    for _ in range(ATTEMPTS):
        agent.weirctl("verdicts", "clear")
        quiet, attacked = latency(bystander, echo.vip, 80, 1.0), beside(sink.vip)
        if attacked > max(2 * quiet, NOTICEABLE_US):
            quiet = max(quiet, beside(sink.pod.ip))
        measured.append(f"{attacked} us, {quiet} us without")
        if attacked <= max(2 * quiet, NOTICEABLE_US):
            break
    else:
        pytest.fail(f"the other pod's p99: {measured}")
    print(measured)
