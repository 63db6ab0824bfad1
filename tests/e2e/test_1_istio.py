"""Istio's kinds where there is no Istio: their CRDs come with the chart, and what is wrong with an object is said to its owner."""

import objects
from kube import TAGS
from lab import processes
from objects import APP

MATCH = {"uri": {"prefix": "/weir.lab.Greeter/"}}
NONSENSE = {"uri": {"regex": "("}}


def route(match: dict, **more) -> dict:
    return {"match": [match], "route": [{"destination": {"host": "greeter"}}], **more}


def test_the_chart_brings_istios_kinds(cluster, target, weir):
    cluster.apply_chart(TAGS[0], crds__install=True)
    cluster.wait_rolled_out()
    for plural in ("virtualservices", "destinationrules", "gateways"):
        cluster.kubectl("wait", f"crd/{plural}.networking.istio.io", "--for=condition=Established", "--timeout=30s", timeout=40)
    cluster.wait_enrolled(APP, "client")
    # The agent follows them as soon as they are there: a route that nobody can be on answers nobody.
    nobody = objects.virtual_service("greeter", APP, "greeter", {"match": [MATCH], "directResponse": {"status": 503}})
    cluster.apply(nobody)

    def answered(errors: int) -> bool:
        result = cluster.greet(APP, "client", target, "--rpcs", 6)
        return len(result["errors"]) == errors

    processes.wait_until(lambda: answered(6), 60, "the rule is obeyed", interval=0.5)
    cluster.apply(objects.virtual_service("greeter", APP, "greeter", route(MATCH)))
    processes.wait_until(lambda: answered(0), 60, "the other rule is obeyed", interval=0.5)
    cluster.kubectl("delete", "virtualservice", "greeter", f"--namespace={APP}")


def test_a_rejected_object_has_its_event(cluster, target, weir):
    """With the rights that the chart gives the agent, and nothing else."""
    cluster.apply(objects.virtual_service("rejected", APP, "greeter", route(NONSENSE)))
    about = "involvedObject.kind=VirtualService,involvedObject.name=rejected"

    def told() -> list[dict]:
        return cluster.get("events", f"--namespace={APP}", f"--field-selector={about}")["items"]

    (event,) = processes.wait_until(told, 60, "the object has an Event", interval=0.5)
    assert (event["type"], event["reason"], event["reportingComponent"]) == ("Warning", "Rejected", "weir")
    assert event["message"].startswith("WEIR")
    listed = cluster.kubectl("get", "events", f"--namespace={APP}", f"--field-selector={about}", "--no-headers").splitlines()
    assert len(listed) == 1 and "virtualservice/rejected" in listed[0] and "Rejected" in listed[0]
    assert cluster.greet(APP, "client", target, "--rpcs", 30)["errors"] == []
    cluster.kubectl("delete", "virtualservice", "rejected", f"--namespace={APP}")
