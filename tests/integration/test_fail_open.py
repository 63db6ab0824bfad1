"""Without an agent, connections go the plain kube-proxy way, at once."""

import json
import time

import pytest
from lab import processes


@pytest.fixture(autouse=True)
def alive(agent, client):
    """Every test begins with an agent that has enrolled the client."""
    if not agent.running:
        agent.start()
        agent.wait_enrolled(client)


def test_new_connections_after_a_kill(agent, client, service):
    assert len(client.greet(service.target, "--rpcs", 100)["backends"]) == 3
    agent.kill()
    result = client.greet(service.target, "--rpcs", 100)
    assert result["errors"] == [] and len(result["backends"]) == 1
    assert client.greet(service.target, "--rpcs", 50, "--reconnect")["errors"] == []
    agent.start()
    agent.wait_enrolled(client)
    assert len(client.greet(service.target, "--rpcs", 100)["backends"]) == 3


def test_a_channel_survives_a_kill(agent, client, service):
    running = client.start_greet(service.target, "--rate", 200)
    agent.wait_served(50)
    agent.kill()
    time.sleep(0.6)
    result = client.finish_greet(running)
    assert {e["code"] for e in result["errors"]} <= {"UNAVAILABLE"}
    assert len(result["errors"]) <= 5 and result["ok"] > 100


def test_rpcs_in_flight_fail_at_once(agent, client, service):
    running = client.start_greet(
        service.target, "--rpcs", 4, "--concurrency", 4, "--method", "Sleep", "--request", '{"seconds": 10}', "--deadline", 20
    )
    agent.wait_rpcs(4)
    agent.kill()
    killed = time.monotonic()
    errors = client.finish_greet(running, stop=False)["errors"]
    assert [e["code"] for e in errors] == ["UNAVAILABLE"] * 4
    assert max(e["ended"] for e in errors) - killed < 0.1


def test_uninstall_leaves_nothing(lab, agent, client, service):
    agent.stop()
    agent.uninstall()
    assert not lab.bpf_dir.exists()
    attached = processes.run(["bpftool", "--json", "cgroup", "tree", str(lab.cgroup)]).stdout
    assert json.loads(attached or "[]") == []
    assert len(client.greet(service.target, "--rpcs", 50)["backends"]) == 1


def test_pods_that_do_not_ask_are_left_alone(lab, agent, service):
    plain = lab.pod("plain")
    assert len(plain.greet(service.target, "--rpcs", 100)["backends"]) == 1
    plain.remove()


def test_undeclared_and_unknown_destinations_go_plain(lab, agent, client, greeters):
    diverted = agent.bpf_stat("diverted")
    # A pod's own address is no VIP.
    assert client.greet(f"{greeters[0].ip}:50051", "--rpcs", 5)["backends"] == {greeters[0].uid: 5}
    assert agent.bpf_stat("diverted") == diverted
