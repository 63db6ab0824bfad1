"""SIGTERM: GOAWAY, running RPCs finish within the limit, new connections are not diverted."""

import time

import pytest
from h2_peers import Client


@pytest.fixture
def agent(lab, service, client):
    """An agent of its own for each test, with a drain limit of two seconds."""
    started = lab.agent(drain_timeout="2s")
    started.start()
    started.wait_enrolled(client)
    started.wait_applied()
    yield started
    if started.running:
        started.stop()


def test_an_idle_agent_ends_at_once(agent):
    started = time.monotonic()
    assert agent.stop() == 0
    assert time.monotonic() - started < 0.8


def test_running_rpcs_finish(agent, client, service):
    connection = Client(client.connect(service.vip, 50051))
    stream = connection.start("Sleep", b'{"seconds": 1.0}')
    agent.wait_rpcs(1)
    assert agent.stop() == 0
    response = connection.finish(stream)
    assert response.grpc_status == 0
    connection.wait_closed()
    assert connection.goaway_code == 0
    connection.close()


def test_streams_finish(agent, client, service):
    connection = Client(client.connect(service.vip, 50051))
    stream = connection.start("Stream", b'{"count": 50, "interval": 0.02, "size": 1000}')
    agent.wait_rpcs(1)
    assert agent.stop() == 0
    response = connection.finish(stream)
    assert response.grpc_status == 0 and len(response.body) > 50_000
    connection.close()


def test_the_limit_ends_what_is_longer(agent, client, service):
    connection = Client(client.connect(service.vip, 50051))
    stream = connection.start("Sleep", b'{"seconds": 30}')
    agent.wait_rpcs(1)
    started = time.monotonic()
    assert agent.stop() == 0
    took = time.monotonic() - started
    response = connection.finish(stream)
    assert response.grpc_status == 14 and response.grpc_text
    assert 1.9 <= took < 5
    connection.close()


def test_new_connections_during_the_drain_go_plain(agent, client, service):
    connection = Client(client.connect(service.vip, 50051))
    stream = connection.start("Sleep", b'{"seconds": 1.2}')
    agent.wait_rpcs(1)
    agent.signal_stop()
    agent.wait_withdrawn(client)
    result = client.greet(service.target, "--rpcs", 50)
    assert result["errors"] == [] and len(result["backends"]) == 1
    assert connection.finish(stream).grpc_status == 0
    assert agent.stop() == 0
    connection.close()


def test_readiness_ends_with_the_drain(agent, client, service):
    connection = Client(client.connect(service.vip, 50051))
    connection.start("Sleep", b'{"seconds": 1.5}')
    agent.wait_rpcs(1)
    agent.signal_stop()
    agent.wait(lambda: agent.admin("/readyz")[0] == 503, 1, "not ready any more")
    assert agent.admin("/healthz")[0] == 200
    assert agent.stop() == 0
    connection.close()


def test_a_second_signal_ends_it_now(agent, client, service):
    connection = Client(client.connect(service.vip, 50051))
    connection.start("Sleep", b'{"seconds": 30}')
    agent.wait_rpcs(1)
    started = time.monotonic()
    agent.signal_stop()
    time.sleep(0.2)
    assert agent.stop() == 0
    assert time.monotonic() - started < 1.9
    connection.close()


def test_pods_that_go_during_the_drain_are_released(lab, client, service):
    """A pod's network namespace is not kept for as long as another pod's RPCs run."""
    agent = lab.agent(drain_timeout="30s")
    agent.start()
    agent.wait_enrolled(client)
    agent.wait_applied()
    gone = lab.pod("gone", dataplane="enabled")
    agent.wait_enrolled(gone)
    connection = Client(client.connect(service.vip, 50051, timeout=30))
    stream = connection.start("Sleep", b'{"seconds": 6}')
    agent.wait_rpcs(1)
    agent.signal_stop()
    agent.wait_withdrawn(client, gone)
    namespaces = agent.namespaces()
    gone.remove()
    agent.wait(lambda: agent.namespaces() == namespaces - 1, 3, "the pod's network namespace is given back")
    assert connection.finish(stream, timeout=20).grpc_status == 0
    assert agent.wait_ended() == 0
    connection.close()
