"""A rolling update: a new agent takes over from the one that runs, which drains. No RPC is lost."""

import json
import os
import signal
import time

import pytest
from h2_peers import Client
from lab import processes

PORTS = (15020, 15021)  # both agents are in the node's network namespace; the pods of a DaemonSet have their own
UPGRADES = 100


@pytest.fixture
def agents(lab, service, client):
    """Two agents of the same node; the first one runs."""
    both = [lab.agent(drain_timeout="20s", metrics_port=port) for port in PORTS]
    both[0].start()
    both[0].wait_enrolled(client)
    both[0].wait_applied()
    yield both
    for agent in both:
        if agent.running:
            agent.stop()


def readiness(agent) -> str:
    """Of the metrics port: the admin socket is the newest agent's."""
    url = f"http://127.0.0.1:{agent.metrics_port}/readyz"
    return processes.run(["curl", "--silent", "--max-time", "5", url], netns=agent.lab.netns).stdout


@pytest.mark.timeout(240)
def test_a_hundred_upgrades_under_load(agents, client, service):
    lasting = client.start_greet(service.target, "--concurrency", 4, "--rate", 300, "--deadline", 10)
    racing = client.start_greet(service.target, "--concurrency", 2, "--reconnect", "--deadline", 10)
    new, old = agents
    bypassed = {name: new.bpf_stat(name) for name in ("bypass_no_listener", "bypass_stale", "bypass_backlog")}
    for _ in range(UPGRADES):
        new, old = old, new
        new.start()
        new.wait_enrolled(client)
        assert old.stop() == 0
    results = [client.finish_greet(process) for process in (lasting, racing)]
    after = {name: new.bpf_stat(name) for name in bypassed}
    assert [r["errors"] for r in results] == [[], []]
    assert results[0]["ok"] > 1000 and results[1]["ok"] > 1000
    assert after == bypassed, "not one connection went the plain way"
    assert all(len(r["backends"]) == 3 for r in results)


def test_running_rpcs_outlive_the_take_over(agents, client, service):
    old, new = agents
    connection = Client(client.connect(service.vip, 50051))
    stream = connection.start("Sleep", b'{"seconds": 2.0}')
    old.wait_rpcs(1)
    new.start()
    assert "another agent has taken over" in readiness(old)
    assert old.running, "it waits for its SIGTERM: who runs it would start it again"
    assert client.greet(service.target, "--rpcs", 30)["errors"] == []
    old.signal_stop()
    assert connection.finish(stream).grpc_status == 0
    connection.wait_closed()
    assert old.wait_ended() == 0
    assert len(new.bpf("pods")) == 1  # the client's


def test_what_was_superseded_does_not_touch_the_rows(agents, lab, client, service):
    old, new = agents
    new.start()
    generations = {row["generation"] for row in new.bpf("pods")}
    assert len(generations) == 1
    new.wait_enrolled(lab.pod("late", dataplane="enabled"))
    time.sleep(1.5)  # a tick of both
    assert [row["generation"] for row in new.bpf("pods")] == [*generations] * 2
    assert old.stop() == 0
    assert [row["generation"] for row in new.bpf("pods")] == [*generations] * 2, "the old one took its own rows only"
    assert client.greet(service.target, "--rpcs", 30)["errors"] == []


def test_a_successor_that_dies_leaves_the_plain_way_and_the_old_one_ends(agents, client, service):
    old, new = agents
    new.start()
    new.kill()
    assert old.wait_ended() == 0, "to be started again, as the kubelet does"
    assert client.greet(service.target, "--rpcs", 5)["errors"] == []
    old.start()
    old.wait_enrolled(client)
    assert len(client.greet(service.target, "--rpcs", 60)["backends"]) == 3


def test_a_hung_predecessor_does_not_hold_the_new_one_up(agents, client, service):
    old, new = agents
    os.kill(old.pid, signal.SIGSTOP)
    started = time.monotonic()
    new.start()
    assert time.monotonic() - started < 6
    assert "it has not answered in time" in new.log_tail(100)
    assert len(client.greet(service.target, "--rpcs", 60)["backends"]) == 3
    os.kill(old.pid, signal.SIGCONT)
    old.wait(lambda: "another agent has taken over" in readiness(old), 5, "it has heard")
    assert len(json.loads(new.admin("/pods")[1])["pods"]) >= 1
    assert len(client.greet(service.target, "--rpcs", 60)["backends"]) == 3
    assert old.stop() == 0
