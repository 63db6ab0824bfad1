"""The main job: RPCs of one connection reach every backend."""

import pytest


@pytest.mark.parametrize("target", ["target", "target6", "mapped_target"])
def test_three_backends(agent, client, service, greeters, target):
    result = client.greet(getattr(service, target), "--rpcs", 900)
    assert result["errors"] == []
    assert set(result["backends"]) == {pod.uid for pod in greeters}
    assert result["texts"] == {"service-mesh-lab": 900}
    assert min(result["backends"].values()) >= 900 * 0.2


def test_three_backends_with_concurrency(agent, client, service, greeters):
    result = client.greet(service.target, "--rpcs", 1500, "--concurrency", 8)
    assert result["errors"] == []
    assert min(result["backends"].get(pod.uid, 0) for pod in greeters) >= 1500 * 0.2


def test_thirty_backends(lab, agent, client):
    pods = lab.greeters(30, "many")
    with lab.service("many", pods=pods) as service:
        agent.wait_applied()
        result = client.greet(service.target, "--rpcs", 3000, "--concurrency", 4)
    assert result["errors"] == []
    # Each expects 100; two random choices by load spread no worse than random ones (standard deviation 10).
    counts = [result["backends"].get(pod.uid, 0) for pod in pods]
    assert min(counts) >= 50 and max(counts) <= 160, counts


def test_all_kinds_of_rpc(agent, client, service, greeters):
    answers = {
        "Stream": client.run(_call("Stream", '{"count": 50, "size": 2000}', service.target)).stdout,
        "Upload": client.run(_call("Upload", "x" * 1000, service.target)).stdout,
        "Echo": client.run(_call("Echo", "y" * 1000, service.target)).stdout,
    }
    assert answers == {"Stream": "50\n", "Upload": "1\n", "Echo": "20\n"}


def test_a_large_message_each_way(agent, client, service):
    # 3 MiB: many times every window and every frame, checked byte by byte.
    assert client.run(_call("Echo-large", "", service.target)).stdout == "ok\n"


def _call(kind, message, target):
    return ["/usr/bin/python3", "-c", _CALLS, kind, message, target]


_CALLS = """
import sys, random, grpc
kind, message, target = sys.argv[1:]
message = message.encode()
with grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)]) as channel:
    name = "/weir.lab.Greeter/" + kind.split("-")[0]
    if kind == "Stream":
        print(len(list(channel.unary_stream(name)(message, timeout=10))))
    elif kind == "Upload":
        import json
        print(json.loads(channel.stream_unary(name)(iter([message]), timeout=10))["messages"])
    elif kind == "Echo":
        answers = list(channel.stream_stream(name)(iter([message] * 20), timeout=10))
        assert answers == [message] * 20
        print(len(answers))
    else:
        large = random.Random(1).randbytes(3 << 20)
        assert list(channel.stream_stream(name)(iter([large]), timeout=20)) == [large]
        print("ok")
"""


def test_the_agent_counts_what_it_did(agent, client, service):
    before = agent.metric("istio_requests_total", grpc_response_status="0")
    client.greet(service.target, "--rpcs", 100)
    assert agent.metric("istio_requests_total", grpc_response_status="0") - before == 100
