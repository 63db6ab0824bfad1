"""Events on objects that are rejected or in conflict: what one of two agents of a cluster writes, and when the other does."""

import json
import re
import time

import pytest
from lab import processes
from lab.agent import Agent, binary
from lab.api_client import ApiError, path_of
from lab.control_plane import ControlPlane
from rights import EVENT_RULES, RULES

LEASE = path_of("Lease", "coordination.k8s.io/v1", name="weir-events")
LEASE_DURATION = 15
SLACK = 6  # seconds for what comes besides: a look at the lease, the second an Event waits, a busy machine


class NodeAgent(Agent):
    """An agent of a node of its own, which has no pods."""

    def __init__(self, plane: ControlPlane, name: str, port: int, *arguments, account="events"):
        token = plane.folder / f"{name}.token"
        token.write_text(plane.token(account))
        identity = ["--namespace", "default", "--pod-name", f"weir-{name}"]
        kubeconfig = plane.kubeconfig(name, tokenFile=token)
        super().__init__(plane.lab, arguments=[*identity, *arguments], kubeconfig=kubeconfig, metrics_port=port)
        self.name = f"weir-{name}"
        self.run_dir = plane.lab.folder / f"run-{name}"
        self.log = plane.lab.folder / "logs" / f"agent-{name}.log"
        pods = plane.lab.cgroup / f"pods-{name}"
        pods.mkdir(exist_ok=True)
        self._own = {"--node-name": name, "--bpf-dir": f"/sys/fs/bpf/weir-{plane.lab.name}-{name}", "--cgroup-root": str(pods)}

    @property
    def argv(self) -> list[str]:
        argv = super().argv
        for flag, value in self._own.items():
            argv[argv.index(flag) + 1] = value
        return argv

    def end(self) -> None:
        if self.running:
            self.stop()
        processes.run([str(binary("weir-agent")), "uninstall", "--bpf-dir", self._own["--bpf-dir"]])

    def writes(self) -> bool:
        return self.metric("weir_kubernetes_events_writer") == 1

    def counted(self, result: str) -> float:
        return self.metric("weir_kubernetes_events_total", result=result)


@pytest.fixture(scope="module")
def rules(plane):
    plane.service_account("events", RULES + EVENT_RULES)
    plane.apply_crds("virtualservices", "destinationrules")


@pytest.fixture
def agents(plane, rules):
    """Two, of two nodes."""
    both = [NodeAgent(plane, "a", 15021), NodeAgent(plane, "b", 15022)]
    for agent in both:
        agent.start(timeout=30)
    yield both
    for agent in both:
        agent.end()


def virtual_service(name, host, wrong=False, **metadata):
    match = {"uri": {"regex": "("} if wrong else {"prefix": "/"}}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "default", **metadata},
        "spec": {"hosts": [host], "http": [{"match": [match], "route": [{"destination": {"host": host}}]}]},
    }


@pytest.fixture
def apply(plane):
    """Applies objects, which go with the test and take their Events along."""
    applied = {}

    def put(*wanted):
        stored = [plane.client.apply(o) for o in wanted]
        applied.update((o["metadata"]["name"], o) for o in stored)
        return stored

    yield put
    for found in applied.values():
        plane.client.delete(found)
    for event in events(plane):
        plane.client.delete(event)


def events(plane) -> list[dict]:
    found = plane.client.get(path_of("Event"))["items"]
    return [{"apiVersion": "v1", "kind": "Event", **e} for e in found if e["source"].get("component") == "weir"]


def told(plane) -> dict[str, int]:
    """Counts by the names of the objects concerned; each may have one Event only."""
    found = events(plane)
    names = [e["involvedObject"]["name"] for e in found]
    assert len(names) == len(set(names)), found
    return {e["involvedObject"]["name"]: e["count"] for e in found}


def wait_told(plane, expected: dict[str, int], timeout: float) -> float:
    began = time.monotonic()
    try:
        processes.wait_until(lambda: told(plane) == expected, timeout, f"the Events are {expected}")
    except TimeoutError:
        assert told(plane) == expected
    return time.monotonic() - began


def the_writer(plane, agents):
    """The one of the agents that holds the lease, and the others."""
    holder = plane.client.get(LEASE)["spec"]["holderIdentity"]
    writers = [a for a in agents if a.running and a.writes()]
    assert len(writers) == 1 and holder.startswith(writers[0].name + "_"), holder
    return writers[0], [a for a in agents if a is not writers[0]]


def test_one_event_each(plane, agents, apply):
    """A rejected VirtualService and two that claim one host: an Event for the first and for the younger of the others,
    by one agent. Nobody touches the lease before there is something to tell."""
    time.sleep(3)
    with pytest.raises(ApiError, match="404"):
        plane.client.get(LEASE)
    rejected, older = apply(virtual_service("rejected", "one", wrong=True), virtual_service("older", "shared"))
    time.sleep(1.1)  # age is in whole seconds
    (younger,) = apply(virtual_service("younger", "shared"))
    wait_told(plane, {"rejected": 1, "younger": 1}, 10)
    found = {e["involvedObject"]["name"]: e for e in events(plane)}
    writer, (other,) = the_writer(plane, agents)
    for about, reason, code in ((rejected, "Rejected", "WEIR0103: "), (younger, "Conflict", "WEIR0506: ")):
        event = found[about["metadata"]["name"]]
        wanted = {
            **{key: about[key] for key in ("apiVersion", "kind")},
            **{key: about["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")},
        }
        assert event["involvedObject"] == wanted
        assert (event["type"], event["reason"]) == ("Warning", reason)
        assert event["message"].startswith(code)
        assert (event["reportingComponent"], event["reportingInstance"]) == ("weir", writer.name)
        assert event["source"] == {"component": "weir", "host": writer.name.removeprefix("weir-")}
        assert event["firstTimestamp"] == event["lastTimestamp"]
    assert "belongs to VirtualService default/older" in found["younger"]["message"]
    # What people see.
    described = plane.kubectl("describe", "virtualservice", "rejected").stdout
    assert re.search(r"Warning +Rejected .* weir +WEIR0103: .*regex", described), described
    listed = plane.kubectl("get", "events").stdout
    assert re.search(r"Warning +Conflict +virtualservice/younger +WEIR0506", listed), listed
    time.sleep(10)
    assert told(plane) == {"rejected": 1, "younger": 1}
    assert writer.counted("created") == 2 and writer.counted("repeated") == 0
    assert other.counted("created") == other.counted("adopted") == 0 and not other.writes()
    assert "WEIR0103" in other.log_tail(200), "it knows as well"


def test_repetitions_raise_the_count(plane, agents, apply):
    wrong = virtual_service("rejected", "one", wrong=True)
    apply(virtual_service("rejected", "one"))  # each time it is its last good version that stays in use
    apply(wrong)
    wait_told(plane, {"rejected": 1}, 10)
    apply(virtual_service("rejected", "one"))
    for agent in agents:
        agent.wait(lambda: not findings(agent, "rejected"), 5, "all is well")
    apply(wrong)
    wait_told(plane, {"rejected": 2}, 10)
    # Another version that is as wrong as the one before.
    (changed,) = apply(virtual_service("rejected", "another", wrong=True))
    wait_told(plane, {"rejected": 3}, 10)
    (event,) = events(plane)
    assert event["involvedObject"]["resourceVersion"] == changed["metadata"]["resourceVersion"]
    assert event["lastTimestamp"] > event["firstTimestamp"]
    # Another object of the same name.
    plane.client.delete(changed)
    for agent in agents:
        agent.wait(lambda: not findings(agent, "rejected"), 5, "it is gone")
    apply(wrong)
    processes.wait_until(lambda: len(events(plane)) == 2, 10, "the new object has an Event of its own")
    uids = [e["involvedObject"]["uid"] for e in events(plane)]
    assert len(set(uids)) == 2


def findings(agent, name):
    found = json.loads(agent.admin("/config_dump")[1])["findings"]
    return [f for f in found if name in f["object"] and f["severity"] == "error"]


@pytest.mark.timeout(180)
def test_the_writer_dies(plane, agents, apply):
    """SIGKILL: the other one writes once the lease has run out. What was told already is not told again."""
    apply(virtual_service("before", "one", wrong=True))
    wait_told(plane, {"before": 1}, 20)
    writer, (other,) = the_writer(plane, agents)
    transitions = plane.client.get(LEASE)["spec"]["leaseTransitions"]
    writer.kill()
    began = time.monotonic()
    apply(virtual_service("after", "two", wrong=True))
    wait_told(plane, {"before": 1, "after": 1}, LEASE_DURATION + SLACK)
    print(f"SIGKILL to Event: {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began > LEASE_DURATION / 2, "the lease was not waited for"
    assert other.writes()
    spec = plane.client.get(LEASE)["spec"]
    assert spec["holderIdentity"].startswith(other.name + "_") and spec["leaseTransitions"] == transitions + 1
    other.wait(lambda: other.counted("adopted") == 1, 10, "the first one's Event is taken over")
    # It comes back, and is the second one.
    writer.start(timeout=30)
    time.sleep(5)
    assert the_writer(plane, agents)[0] is other
    assert told(plane) == {"before": 1, "after": 1}


@pytest.mark.timeout(180)
def test_the_writer_ends(plane, agents, apply):
    """SIGTERM: the lease is given back, also by an agent that has long to drain."""
    apply(virtual_service("before", "one", wrong=True))
    wait_told(plane, {"before": 1}, 20)
    writer, (other,) = the_writer(plane, agents)
    began = time.monotonic()
    assert writer.stop() == 0
    spec = plane.client.get(LEASE)["spec"]
    assert spec["holderIdentity"] == "" or spec["holderIdentity"].startswith(other.name)
    apply(virtual_service("after", "two", wrong=True))
    wait_told(plane, {"before": 1, "after": 1}, SLACK)
    print(f"SIGTERM to Event: {time.monotonic() - began:.1f} s")
    assert other.writes()


def test_policies_that_nobody_enforces(plane, agents, apply):
    """Their CRDs come while the agents run; each policy gets an Event, and kubectl shows it."""
    plane.apply_crds("authorizationpolicies", "peerauthentications")
    policy = {"apiVersion": "security.istio.io/v1", "metadata": {"namespace": "default"}}
    deny = {**policy, "kind": "AuthorizationPolicy", "metadata": {"name": "deny", "namespace": "default"}, "spec": {"action": "DENY"}}
    strict = {**policy, "kind": "PeerAuthentication", "metadata": {"name": "strict", "namespace": "default"}}
    apply(deny, {**strict, "spec": {"mtls": {"mode": "STRICT"}}})
    wait_told(plane, {"deny": 1, "strict": 1}, 75)
    assert {e["reason"] for e in events(plane)} == {"NotEnforced"}
    described = plane.kubectl("describe", "authorizationpolicy", "deny").stdout
    assert re.search(r"Warning +NotEnforced .* weir +WEIR0202: .*NOT enforced", described), described
    for agent in agents:  # each looks for the new kinds in its own time
        agent.wait(lambda agent=agent: [f["code"] for f in findings(agent, "deny")] == ["WEIR0202"], 75, "it is told of")


def test_without_the_rights(plane, rules, apply):
    """It is said once, clearly, counted, and not asked again soon; the configuration is read all the same."""
    plane.service_account("mute", RULES)
    agent = NodeAgent(plane, "c", 15023, account="mute")
    agent.start(timeout=30)
    try:
        apply(virtual_service("rejected", "one", wrong=True))
        agent.wait(lambda: agent.counted("forbidden") == 1, 10, "the refusal is counted")
        apply(virtual_service("rejected", "one"))
        agent.wait(lambda: not findings(agent, "rejected"), 5, "the correction counts")
        apply(virtual_service("rejected", "one", wrong=True))
        time.sleep(5)
        assert agent.counted("forbidden") == 1
        said = [line for line in agent.log_tail(300).splitlines() if "Events about" in line]
        assert len(said) == 1
        assert 'lease default/weir-events: 403 leases.coordination.k8s.io "weir-events" is forbidden' in said[0]
        assert "system:serviceaccount:default:mute" in said[0]
        assert events(plane) == []
    finally:
        agent.end()


def test_switched_off(plane, rules, apply):
    agent = NodeAgent(plane, "d", 15024, "--events=false")
    agent.start(timeout=30)
    try:
        apply(virtual_service("rejected", "one", wrong=True))
        agent.wait(lambda: findings(agent, "rejected"), 5, "it is known")
        time.sleep(4)
        assert events(plane) == []
        assert "weir_kubernetes_events" not in agent.metrics()
    finally:
        agent.end()
