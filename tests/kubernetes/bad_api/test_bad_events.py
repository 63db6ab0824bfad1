"""An API server that does not take Events, or their lease: nothing else suffers, and what is wrong is told when it does."""

import time

import pytest
from faults import hang_up, html, refusal


@pytest.fixture(scope="module")
def arguments():
    return ["--namespace", "default", "--pod-name", "weir-abcde"]


def wrong(name):
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"hosts": [name], "http": [{"timeout": "soon"}]},
    }


def told(api, name):
    return [e for e in api.items("events", {}) if e["involvedObject"]["name"] == name]


def truncated(exchange):
    exchange.send_response(200)
    exchange.send_header("Content-Length", "1000")
    exchange.end_headers()
    exchange.wfile.write(b'{"kind":')
    exchange.close_connection = True


def endless(exchange):
    exchange.begin_stream()
    for _ in range(1000):
        exchange.chunk(b" " * 65536)
    exchange.chunk(b"")


def silent(exchange):
    exchange.api.hold(exchange.connection)
    time.sleep(7)  # the agent waits for five
    hang_up(exchange)


def dripping(exchange):
    """Never silent, never done."""
    exchange.begin_stream()
    for _ in range(70):
        exchange.chunk(b" ")
        time.sleep(0.1)
    hang_up(exchange)


FAULTS = {
    "401": (refusal(401, "Unauthorized"), "failed"),
    "429": (refusal(429, "TooManyRequests", Retry_After=2), "throttled"),
    "500": (refusal(500, "InternalError"), "failed"),
    "503": (lambda exchange: exchange.reply(503, b""), "failed"),
    **{f.__name__: (f, "failed") for f in (html, truncated, endless, hang_up, silent, dripping)},
}


def lines_about_events(agent) -> int:
    return sum("Events about" in line for line in agent.log_tail(100_000).splitlines())


@pytest.mark.parametrize("resource", ["events", "leases"])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_told_later(impatient, api, agent, client, service, greeters, load, fault, resource):
    answer, result = FAULTS[fault]
    name = f"{fault.replace('_', '-')}-{resource}"
    said = lines_about_events(agent)
    began = time.monotonic()
    with api.fault(answer, resource):
        api.publish("wrong", wrong(name))
        agent.wait(lambda: agent.metric("weir_kubernetes_events_total", result=result) >= 1, 20, f"it counts as {result}")
        service.set_ready(greeters[0], False)
        agent.wait_applied()
        service.set_ready(greeters[0], True)
        agent.wait_applied()
        assert agent.ready()
        assert told(api, name) == []
        assert len(api.asked(resource, began)) <= 4 + 2 * (time.monotonic() - began), "the agent is not patient"
    agent.wait(lambda: told(api, name), 30, "it is told")
    api.withdraw("wrong")
    (event,) = told(api, name)
    assert event["count"] == 1 and event["reportingInstance"] == "weir-abcde"
    assert lines_about_events(agent) - said <= 2, "each kind of trouble is said once a minute at most"


@pytest.mark.parametrize("resource", ["events", "leases"])
def test_forbidden(impatient, api, agent, load, resource):
    """One request, and the next in ten minutes."""
    began = time.monotonic()
    with api.fault(refusal(403, f"{resource} is forbidden"), resource):
        api.publish("wrong", wrong(f"forbidden-{resource}"))
        agent.wait(lambda: agent.metric("weir_kubernetes_events_total", result="forbidden") == 1, 10, "it is counted")
    time.sleep(5)
    assert len(api.asked(resource, began)) == 1
    api.withdraw("wrong")
    assert f"403 {resource} is forbidden" in agent.log_tail(100)


def test_another_agent_has_written_it(impatient, api, agent, load):
    """409 AlreadyExists: its Event is gone on with."""
    api.publish("wrong", wrong("twice"))
    agent.wait(lambda: told(api, "twice"), 10, "it is told")
    agent.stop()
    agent.start(timeout=30)
    agent.wait(lambda: agent.metric("weir_kubernetes_events_total", result="adopted") == 1, 20, "it is taken over")
    (event,) = told(api, "twice")
    assert event["count"] == 1
    api.withdraw("wrong")


def test_each_kind_has_its_events(impatient, api, agent, load):
    """Also those of which the agent keeps nothing but what is wrong with them."""
    mesh = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": "a: ["}}
    deny = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "deny", "namespace": "default"}}
    api.publish("wrong", mesh, {**deny, "spec": {"action": "DENY", "rules": [{}]}})
    for name, kind, version, reason, code in (
        ("istio", "ConfigMap", "v1", "Rejected", "WEIR0004"),
        ("deny", "AuthorizationPolicy", "security.istio.io/v1", "NotEnforced", "WEIR0202"),
    ):
        agent.wait(lambda: told(api, name), 10, f"it is told of {name}")
        (event,) = told(api, name)
        about = event["involvedObject"]
        assert (about["kind"], about["apiVersion"], event["reason"]) == (kind, version, reason)
        assert event["message"].startswith(code + ": ")
    api.withdraw("wrong")


def test_objects_that_are_gone(impatient, api, agent, load):
    """The finding is known, and the object is gone when it is looked at."""
    gone = lambda exchange: exchange.refuse(404, "NotFound", "gone") if exchange.object_name else exchange.behave()  # noqa: E731
    with api.fault(gone, "virtualservices"):
        api.publish("wrong", wrong("gone"))
        agent.wait(lambda: agent.metric("weir_kubernetes_events_total", result="gone") == 1, 20, "it is counted")
    assert told(api, "gone") == []
    api.withdraw("wrong")
