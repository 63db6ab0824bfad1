"""The agent is restarted and killed under load: what fails is only what was in flight, and nothing hangs."""

import time

import pytest

IN_FLIGHT_LIMIT = 0.1  # seconds from the kill to UNAVAILABLE


def test_restart_under_load(agent, client, service):
    processes = [client.start_greet(service.target, "--concurrency", 4, "--rate", 300) for _ in range(2)]
    processes.append(client.start_greet(service.target, "--concurrency", 2, "--rate", 50, "--reconnect"))
    agent.wait_served(100)
    for _ in range(5):
        assert agent.stop() == 0
        time.sleep(0.1)
        agent.start()
        agent.wait_enrolled(client)
        time.sleep(0.4)
    results = [client.finish_greet(process) for process in processes]
    assert [r["errors"] for r in results] == [[], [], []]
    assert all(r["ok"] > 100 for r in results)


@pytest.mark.timeout(240)
def test_a_hundred_kills_with_connects_racing(agent, client, service):
    racing = client.start_greet(service.target, "--concurrency", 4, "--reconnect", "--deadline", 5)
    lasting = client.start_greet(service.target, "--concurrency", 4, "--rate", 400, "--deadline", 5)
    kills = []
    for i in range(100):
        agent.wait_enrolled(client)
        # At another point of the agent's life each time.
        time.sleep(0.01 * (i % 10))
        before = time.monotonic()
        agent.kill()
        kills.append((before, time.monotonic()))
        # New connects succeed at once, with the agent dead.
        if i % 10 == 0:
            assert client.greet(service.target, "--rpcs", 5)["errors"] == []
        agent.start()
    results = [client.finish_greet(racing), client.finish_greet(lasting)]
    told_after = []
    for result in results:
        assert result["ok"] > 500
        assert result["latency_ms"]["max"] < 4000, "an RPC waited for its deadline or nearly"
        for error in result["errors"]:
            assert error["code"] == "UNAVAILABLE", error
            killed = [k for k in kills if error["started"] <= k[1] and error["ended"] >= k[0]]
            assert killed, f"an RPC failed that no kill met: {error}"
            told_after.append(error["ended"] - killed[-1][1])
    # The kernel closes the sockets from a work queue (ARCHITECTURE.md), which shares two cores with the clients' threads
    # and the agent that starts: one in a hundred may be told late.
    told_after.sort()
    assert told_after[int(len(told_after) * 0.99) - 1] <= IN_FLIGHT_LIMIT, told_after[-20:]
    assert told_after[-1] <= 5 * IN_FLIGHT_LIMIT, told_after[-20:]
    assert len(client.greet(service.target, "--rpcs", 300)["backends"]) == 3


def test_nothing_is_left_in_the_maps_after_the_kills(agent, client, service):
    assert client.greet(service.target, "--rpcs", 10)["errors"] == []
    time.sleep(0.2)
    assert agent.bpf("flows") == []
    assert len(agent.bpf("pods")) == 1
