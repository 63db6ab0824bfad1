"""Random schedules of connect, send, half-close and reset between two programs, and of calls, through weir as without it.

SEEDS=1000 plays more of them; SEED=17 plays one, and prints it (where ports learn, through the agent and past it). With
WEIR_REDIRECT=off too: bytes that are not HTTP/2 go by TCP then as well, but their sockets stand in no sockmap."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor

import h2_schedules
import pytest
import schedules
from lab.service import Port
from lab.tcp_server import TcpServer

SEEDS = [int(os.environ["SEED"])] if "SEED" in os.environ else range(int(os.environ.get("SEEDS", 300)))
# As many play at a time; each has some ports, so that a connection that comes late is not taken for the next one's.
PLAYERS, PORTS_EACH, FIRST_PORT = 8, 4, 7000
H2_PORT = 7100


# A verdict learned would take the rest past the agent; or, where that is what is played, every second connection.
LEARNING = {"all": ["--learn-after", "0"], "learned": ["--learn-after", "1", "--verdict-sample", "2"]}


@pytest.fixture(scope="module")
def agent(lab, client, request):
    started = lab.agent(arguments=LEARNING[request.param])
    started.learns = request.param == "learned"
    started.start()
    started.wait_enrolled(client)
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="module")
def server(lab):
    return lab.pod("server")


@pytest.fixture(scope="module")
def listeners(server):
    made = [(port, server.listen(port)) for port in range(FIRST_PORT, FIRST_PORT + PLAYERS * PORTS_EACH)]
    for _, listener in made:
        listener.setblocking(False)
    yield made
    for _, listener in made:
        listener.close()


@pytest.fixture(scope="module")
def direct(lab):
    return lab.pod("direct")


def play(pod, vip: str, port: int, listener: socket.socket, steps) -> list:
    client = pod.connect(vip, port, timeout=schedules.LIMIT)
    client.setblocking(False)
    peer = client.getpeername()
    playing = schedules.Play(client, listener)
    try:
        assert peer == (vip, port)
        return playing.run(steps)
    finally:
        playing.close()
        forget(listener)


def forget(listener: socket.socket) -> None:
    """Connections that nobody waits for."""
    try:
        while True:
            listener.accept()[0].close()
    except BlockingIOError:
        return


def report(seed: int, port: str, steps, without: list, through: list, same: bool) -> str:
    """What differs, if anything does."""
    told = f"SEED={seed}, port {port}\n{schedules.text(steps)}\ndirectly: {without}\nweir:     {through}\n"
    if len(SEEDS) == 1:
        print(told)
    return "" if same else told


def play_all(compare) -> None:
    """Plays every seed; `compare` returns a report() of it."""

    def some(player: int) -> list[str]:
        return [compare(seed) for seed in SEEDS if seed % PLAYERS == player]

    with ThreadPoolExecutor(PLAYERS) as threads:
        different = [told for found in threads.map(some, range(PLAYERS)) for told in found if told]
    assert not different, f"{len(different)} of {len(SEEDS)} differ:\n" + "\n".join(different[:5])


def teach(agent, client, vip: str, port: int, listener: socket.socket) -> None:
    """That the port is not HTTP/2. From then on every second connection passes by the agent."""
    with client.connect(vip, port) as connection:
        connection.sendall(b"not HTTP/2 at all")
        agent.wait(lambda: f"{vip}:{port}" in agent.weirctl("verdicts", "list"), 5, "a verdict")
    forget(listener)


@pytest.mark.timeout(300)
# Declared ports never learn.
@pytest.mark.parametrize("agent, declared", [("all", "grpc"), ("all", "raw"), ("learned", "raw")], indirect=["agent"])
def test_both_ends_see_what_they_see_without_weir(agent, client, direct, server, listeners, lab, declared):
    def compare(seed: int) -> str:
        # On a port that declares HTTP/2 a silent client is waited for, and one that says nothing at all has no server.
        steps = schedules.schedule(seed, client_first=declared == "grpc")
        port, listener = listeners[seed % PLAYERS * PORTS_EACH + seed // PLAYERS % PORTS_EACH]
        both_ways = agent.learns and len(SEEDS) == 1
        if both_ways:
            teach(agent, client, service.vip, port, listener)
        without = play(direct, service.vip, port, listener, steps)
        told = ""
        for _ in range(1 + both_ways):
            bypassed = both_ways and agent.bpf_stat("bypass_learned")
            through = play(client, service.vip, port, listener, steps)
            way = ", past the agent" if both_ways and agent.bpf_stat("bypass_learned") > bypassed else ""
            told += report(seed, declared + way, steps, without, through, without == through and schedules.whole(without))
        return told

    ports = [Port(f"{declared}-{port}", port, port) for port, _ in listeners]
    with lab.service(declared, ports, [server]) as service:
        agent.wait_applied()
        play_all(compare)
        if len(SEEDS) < 100:
            return  # a few may all be such as end before they are relayed
        relayed = agent.metric("istio_tcp_connections_opened_total", destination_service_name=declared)
        assert relayed > (0.2 if agent.learns else 0.8) * len(SEEDS)
        assert not agent.learns or agent.bpf_stat("bypass_learned") > 0.1 * len(SEEDS)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("agent", ["all"], indirect=True)
def test_calls_are_what_they_are_without_weir(agent, client, direct, server, lab):
    """Of HTTP/2 connections, which weir ends itself. Those whose preface comes in one piece are redirected past TCP."""
    noted = {}

    def serve(accepted):
        h2_schedules.ServerConnection(accepted, noted).run()

    def compare(seed: int) -> str:
        steps = h2_schedules.schedule(seed)
        seen = []
        for pod, name in ((direct, "direct"), (client, "weir")):
            connection = pod.connect(service.vip, H2_PORT, timeout=schedules.LIMIT)
            connection.setblocking(False)
            with connection:
                seen.append(h2_schedules.Play(connection, noted, f"{seed}-{name}").run(steps))
        without, through = seen
        return report(seed, "HTTP/2", steps, without, through, without == through and h2_schedules.whole(without))

    redirected = agent.bpf_stat("redirected")
    with TcpServer(server.listen(H2_PORT), serve), lab.service("calls", [Port("grpc", H2_PORT, H2_PORT)], [server]) as service:
        agent.wait_applied()
        play_all(compare)
    redirected = agent.bpf_stat("redirected") - redirected
    whole = sum(h2_schedules.comes_whole(h2_schedules.schedule(seed)) for seed in SEEDS)
    expected = whole if agent.metric("weir_redirect_enabled") else 0
    assert 0.9 * expected <= redirected <= expected
