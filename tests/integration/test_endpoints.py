"""Endpoints come, go and become unready under load, and no RPC fails."""

import time

import pytest
from h2_peers import Backend, Client


@pytest.fixture
def load(agent, client, service):
    """RPCs over one connection, eight at a time, while the test changes things; result() ends them."""
    process = client.start_greet(service.target, "--concurrency", 8, "--rate", 800)
    agent.wait_served(100)

    class Load:
        result = staticmethod(lambda: client.finish_greet(process))

    yield Load
    if process.poll() is None:
        process.kill()


def test_removal_and_addition(lab, agent, load, service, greeters):
    first, second, third = greeters
    for _ in range(5):
        service.remove(second)
        agent.wait_applied()
        agent.wait_served(100)
        service.add(second)
        service.remove(first, third)
        agent.wait_applied()
        agent.wait_served(100)
        service.add(first, third)
        agent.wait_applied()
        agent.wait_served(100)
    result = load.result()
    assert result["errors"] == []
    assert set(result["backends"]) == {pod.uid for pod in greeters}


def test_a_server_that_leaves_as_kubernetes_ends_pods(lab, agent, load, service):
    # Unready and terminating first, then SIGTERM, and the server finishes what it has (GOAWAY).
    leaving = lab.pod("leaving")
    server = leaving.serve_greeter()
    service.add(leaving)
    agent.wait_applied()
    agent.wait_served(200)
    service.set_ready(leaving, False, terminating=True)
    agent.wait_applied()
    server.terminate()
    assert server.wait(10) == 0
    service.remove(leaving)
    leaving.remove()
    time.sleep(0.3)
    result = load.result()
    assert result["errors"] == []
    assert leaving.uid in result["backends"]


def test_goaway_of_a_server_that_is_still_listed(lab, agent, client, greeters):
    """The server leaves before the control plane knows: streams beyond the last that it vouches for go elsewhere."""
    left = []

    def respond(request):
        with request.connection.lock:
            if request.connection.backend not in left and request.stream >= 9:
                left.append(request.connection.backend)
                request.connection.goaway(request.stream)
        time.sleep(0.05)
        request.answer()

    pods = [lab.pod(f"leaver-{i}") for i in range(2)]
    with (
        Backend(pods[0], respond) as one,
        Backend(pods[1], respond) as other,
        lab.service("leavers", pods=pods) as service,
    ):
        agent.wait_applied()
        with Client(client.connect(service.vip, 50051)) as connection:
            streams = [connection.start() for _ in range(60)]
            responses = [connection.finish(stream) for stream in streams]
        failed = [(r.grpc_status, r.grpc_text) for r in responses if r.grpc_status != 0]
        assert failed == []
        assert len(left) == 2 and len(one.requests) + len(other.requests) == 60


def test_an_unready_endpoint_gets_no_new_rpc(agent, client, service, greeters):
    service.set_ready(greeters[0], False)
    agent.wait_applied()
    result = client.greet(service.target, "--rpcs", 200)
    assert result["errors"] == []
    assert set(result["backends"]) == {greeters[1].uid, greeters[2].uid}
    service.set_ready(greeters[0], True)
    agent.wait_applied()
    assert len(client.greet(service.target, "--rpcs", 200)["backends"]) == 3


def test_running_rpcs_of_a_removed_endpoint_finish(lab, agent, client):
    pod = lab.pod("slow")
    pod.serve_greeter()
    with lab.service("slow", pods=[pod]) as service:
        agent.wait_applied()
        running = client.start_greet(service.target, "--rpcs", 1, "--method", "Sleep", "--request", '{"seconds": 1.5}')
        agent.wait_rpcs(1)
        service.remove(pod)
        agent.wait_applied()
        result = client.finish_greet(running, stop=False)
    assert result["errors"] == [] and result["ok"] == 1


def test_no_endpoint_is_a_clear_status(lab, agent, client):
    before = agent.metric("istio_requests_total", response_flags="UH")
    with lab.service("nobody") as service:
        agent.wait_applied()
        result = client.greet(service.target, "--rpcs", 3)
    assert {e["code"] for e in result["errors"]} == {"UNAVAILABLE"}
    assert "no healthy endpoint" in result["errors"][0]["details"]
    assert agent.metric("istio_requests_total", response_flags="UH") - before == 3


def test_one_dead_endpoint_of_three_costs_nothing(lab, agent, client, greeters):
    # Its address refuses connections: every RPC goes to another endpoint, none fails.
    with lab.pod("dead") as dead, lab.service("partly-dead", pods=[*greeters, dead]) as service:
        agent.wait_applied()
        result = client.greet(service.target, "--rpcs", 300, "--concurrency", 4)
    assert result["errors"] == []
    assert set(result["backends"]) == {pod.uid for pod in greeters}
