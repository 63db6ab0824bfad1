"""A real API server without WatchList: lists come in pages."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from lab import manifests
from lab.control_plane import ControlPlane
from lab.service import Port
from rights import RULES

SERVICES = 1100
PAGE = 500  # kubernetes/reflector.h


@pytest.fixture(scope="module")
def plane(lab):
    with ControlPlane(lab, arguments=["--feature-gates=WatchList=false"]) as started:
        lab.objects = started.objects()
        lab.namespace("default")
        started.service_account("weir", RULES)
        yield started


def test_lists_come_in_pages(lab, plane, greeters, client):
    """What the last page has counts, and what changes behind it."""
    port = Port("grpc", 50051, 50051)
    names = [f"other-{number:04}" for number in range(SERVICES)]
    objects = [
        manifests.service(name, "default", [f"10.96.{100 + number // 250}.{number % 250}"], [port], {})
        for number, name in enumerate(names)
    ]
    for made in objects:
        made["spec"]["ipFamilyPolicy"] = "SingleStack"
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(plane.client.create, objects))
    last = lab.service("zzz-last", pods=greeters)  # lists are in the order of names
    agent = lab.agent(kubeconfig=plane.kubeconfig("weir", token=plane.token("weir")))
    agent.start(timeout=60)
    agent.wait_enrolled(client)
    asked = agent.metric("weir_kubernetes_requests_total", resource="services", code="200")
    assert asked >= 1 + SERVICES // PAGE
    assert agent.metric("weir_kubernetes_requests_total", resource="services", code="422") == 1
    assert len(client.greet(last.target, "--rpcs", 30)["backends"]) == 3
    last.set_ready(greeters[0], False)
    agent.wait(lambda: len(client.greet(last.target, "--rpcs", 30)["backends"]) == 2, 20, "a change is applied")
    assert agent.metric("weir_kubernetes_requests_total", resource="services", code="200") <= asked + 1, "no list was asked for again"
    agent.stop()
