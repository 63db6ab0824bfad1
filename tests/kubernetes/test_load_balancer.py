"""API servers behind a load balancer, by HTTP/2: when the one that the agent's connection leads to hangs, another one is
asked."""

import time

import pytest
from balancer import Balancer, http2_front
from fake_api import FakeApi
from lab import processes
from lab.certificates import Authority
from lab.control_plane import write_kubeconfig

WATCH_SILENCE = 5  # seconds; the server's bookmarks come every second
FRONT_PORT = 6444


@pytest.fixture(scope="module")
def api(lab):
    """A scripted API server that holds the lab's objects."""
    with FakeApi(lab.netns) as started:
        lab.objects = started
        lab.namespace("default")
        yield started


@pytest.fixture(scope="module")
def balancer(lab, api):
    (lab.folder / "authority").mkdir()
    authority = Authority(lab.folder / "authority")
    certificate = authority.sign("server", "/CN=front", "IP:127.0.0.1")
    front = http2_front(lab, FRONT_PORT, certificate, api.port)
    try:
        with Balancer(lab.netns, FRONT_PORT) as started:
            started.authority = authority.certificate
            yield started
    finally:
        processes.stop(front)


@pytest.fixture(scope="module")
def agent(lab, balancer, service, client):
    cluster = {"server": f"https://127.0.0.1:{balancer.port}", "certificate_authority": balancer.authority}
    kubeconfig = write_kubeconfig(lab.folder / "balanced.kubeconfig", cluster, {"token": "secret"})
    started = lab.agent(kubeconfig=kubeconfig, arguments=["--watch-silence", f"{WATCH_SILENCE}s"])
    started.start(timeout=30)
    started.wait_enrolled(client)
    started.wait_applied()
    return started


def test_all_watches_share_a_connection(balancer, agent):
    assert len(balancer.open()) == 1


def test_a_server_that_hangs(balancer, agent, client, service, greeters, load):
    """Its connection stays open, and says nothing. The agent leaves it, with all that runs there, and asks by another one."""
    taken, left = balancer.taken, balancer.left_by_client
    hung = balancer.hang()
    began = time.monotonic()
    service.set_ready(greeters[0], False)
    agent.wait_applied(timeout=4 * WATCH_SILENCE)
    print(f"followed again after {time.monotonic() - began:.1f} s")
    assert agent.ready()
    assert balancer.taken > taken
    agent.wait(lambda: balancer.left_by_client >= left + hung, 5, "the hung connection is closed")
    for resource in ("services", "endpointslices", "local pods"):
        agent.wait(lambda: agent.metric("weir_kubernetes_followed", resource=resource) == 1, 2 * WATCH_SILENCE, "all is followed")
    service.set_ready(greeters[0], True)
    agent.wait_applied()
    client.wait_backends(service.target, 3)


def test_a_server_that_hangs_again_and_again(balancer, agent, client, service, greeters, load):
    """Each of these connections leads to a server that is stuck. The one after them does not."""
    ends = time.monotonic() + 3 * WATCH_SILENCE
    while time.monotonic() < ends:
        balancer.hang()
        time.sleep(0.2)
    assert agent.ready()
    service.set_ready(greeters[1], False)
    agent.wait_applied(timeout=60)
    service.set_ready(greeters[1], True)
    agent.wait_applied()
