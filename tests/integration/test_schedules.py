"""Random schedules of connect, send, half-close and reset between two programs, through weir as without it.

SEEDS=1000 plays more of them; SEED=17 plays one, and prints it. With WEIR_REDIRECT=off too: bytes that are not HTTP/2 go by TCP
then as well, but their sockets stand in no sockmap."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
import schedules
from lab.service import Port

SEEDS = [int(os.environ["SEED"])] if "SEED" in os.environ else range(int(os.environ.get("SEEDS", 300)))
# As many play at a time; each has some ports, so that a connection that comes late is not taken for the next one's.
PLAYERS, PORTS_EACH, FIRST_PORT = 8, 4, 7000


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


@pytest.mark.timeout(300)
# Declared ports never learn.
@pytest.mark.parametrize("agent, declared", [("all", "grpc"), ("all", "raw"), ("learned", "raw")], indirect=["agent"])
def test_both_ends_see_what_they_see_without_weir(agent, client, direct, server, listeners, lab, declared):
    def compare(seed: int) -> str:
        # On a port that declares HTTP/2 a silent client is waited for, and one that says nothing at all has no server.
        steps = schedules.schedule(seed, client_first=declared == "grpc")
        port, listener = listeners[seed % PLAYERS * PORTS_EACH + seed // PLAYERS % PORTS_EACH]
        without, through = (play(pod, service.vip, port, listener, steps) for pod in (direct, client))
        told = f"SEED={seed}, port {declared}\n{schedules.text(steps)}\ndirectly: {without}\nweir:     {through}\n"
        if len(SEEDS) == 1:
            print(told)
        return "" if without == through and schedules.whole(without) else told

    def some(player: int) -> list[str]:
        return [compare(seed) for seed in SEEDS if seed % PLAYERS == player]

    ports = [Port(f"{declared}-{port}", port, port) for port, _ in listeners]
    with lab.service(declared, ports, [server]) as service:
        agent.wait_applied()
        with ThreadPoolExecutor(PLAYERS) as threads:
            different = [told for found in threads.map(some, range(PLAYERS)) for told in found if told]
        assert not different, f"{len(different)} of {len(SEEDS)} differ:\n" + "\n".join(different[:5])
        relayed = agent.metric("istio_tcp_connections_opened_total", destination_service_name=declared)
        if not agent.learns:
            assert relayed > 0.8 * len(SEEDS)
        elif len(SEEDS) >= 100:
            assert relayed > 0.2 * len(SEEDS) and agent.bpf_stat("bypass_learned") > 0.1 * len(SEEDS)
