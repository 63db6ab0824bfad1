"""Objects that are malformed, missing, not enforced or not to be read."""

import json
import time

import pytest
from faults import FAULTS, follows, refusal

BAD_OBJECTS = {
    "an address that is none": lambda s: s["endpoints"][0].update(addresses=["10.244.0.999"]),
    "endpoints that are no list": lambda s: s.update(endpoints="none"),
    "a port that is a word": lambda s: s["ports"][0].update(port="http"),
    "a port out of range": lambda s: s["ports"][0].update(port=70000),
    "conditions that are numbers": lambda s: s["endpoints"][0].update(conditions={"ready": 7}),
    "labels that are a list": lambda s: s["metadata"].update(labels=["x"]),
    "ports that are null": lambda s: s.update(ports=[None]),
}


@pytest.mark.parametrize("damage", BAD_OBJECTS)
def test_a_malformed_object(api, agent, client, service, greeters, load, damage):
    """It alone is refused, with a finding, and its last good version stays; its neighbours count."""
    published = json.loads(json.dumps(service.slices()))
    BAD_OBJECTS[damage](published[0])
    api.publish(service.slices_key, *published)
    agent.wait(lambda: finding_on(agent, published[0]["metadata"]["name"]), 5, "there is a finding")
    client.wait_backends(service.target, 3)
    service.publish()
    agent.wait(lambda: not finding_on(agent, published[0]["metadata"]["name"]), 5, "the finding is gone")
    follows(agent, client, service, greeters)


def finding_on(agent, name):
    findings = json.loads(agent.admin("/config_dump")[1])["findings"]
    return [finding for finding in findings if name in finding["object"]]


@pytest.mark.timeout(240)
def test_missing_crds_are_asked_for_again(impatient, api, agent, client, service, greeters, load):
    """404: there are no such objects, and that is no fault; they count from when they can be had."""
    group = "networking.istio.io"
    missing = ("virtualservices", "destinationrules", "gateways")
    # What was never there is believed missing at once.
    agent.wait(lambda: all(agent.metric("weir_kubernetes_synced", resource=r) == 1 for r in missing), 10, "they are there")
    began = time.monotonic()
    with api.fault(FAULTS["404"], *missing, group):
        agent.wait(lambda: len(api.asked(group, began)) >= 2, 100, "their group was asked for twice")
        for resource in missing:
            versions = len(api.asked(resource, began))
            assert versions == 5 * 3, f"{resource}: each version is asked for five times over some seconds, and then the group"
        assert agent.ready()
        assert agent.metric("weir_kubernetes_last_contact_seconds", resource="virtualservices") < 1 + time.monotonic() - began
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "rule", "namespace": "default"},
        "spec": {"hosts": ["ruled"], "http": [{"directResponse": {"status": 418}}]},
    }
    with service.lab.service("ruled", pods=greeters) as ruled:
        api.publish("rule", rule)
        agent.wait(lambda: client.greet(ruled.target, "--rpcs", 1)["errors"], 60, "the rule is obeyed")
        api.withdraw("rule")
        agent.wait(lambda: not client.greet(ruled.target, "--rpcs", 1)["errors"], 5, "the rule is gone")


def policy(kind, **spec):
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": kind,
        "metadata": {"name": kind.lower(), "namespace": "default"},
        "spec": spec,
    }


def test_security_policies_are_loud(impatient, api, agent, load):
    """weir enforces none of them; each is a finding and an error in the log, as those in files are. They may be listed or
    come while they are watched."""
    deny = policy("AuthorizationPolicy", action="DENY", rules=[{}])
    strict = policy("PeerAuthentication", mtls={"mode": "STRICT"})
    token = policy("RequestAuthentication", jwtRules=[{"issuer": "x"}])
    gateway = {**policy("Gateway", servers=[]), "apiVersion": "networking.istio.io/v1"}
    names = ("authorizationpolicy", "peerauthentication", "requestauthentication")
    expected = dict.fromkeys(names, "WEIR0202") | {"gateway": "WEIR0201"}

    def told():
        return {name: found[0]["code"] for name in expected if (found := finding_on(agent, f"/{name}"))}

    def followed():
        """Kinds that were missing a moment ago (an earlier test) are asked for again one after the other."""
        kinds = ("authorizationpolicies", "peerauthentications", "requestauthentications", "gateways")
        agent.wait(lambda: all(agent.metric("weir_kubernetes_followed", resource=kind) for kind in kinds), 60, "all are followed")

    followed()
    api.publish("policies", deny, strict, token, gateway)
    agent.wait(lambda: told() == expected, 5, "each is told")
    line = "WEIR0202 AuthorizationPolicy default/authorizationpolicy: AuthorizationPolicy is NOT enforced"
    agent.wait(lambda: line in agent.log_tail(100), 5, "it is in the log")
    agent.stop()
    agent.start(timeout=30)
    followed()
    agent.wait(lambda: told() == expected, 5, "each is told from the start")
    api.publish("policies", policy("PeerAuthentication", mtls={"mode": "PERMISSIVE"}), deny)
    agent.wait(lambda: told() == {"authorizationpolicy": "WEIR0202", "peerauthentication": "WEIR0203"}, 5, "what has gone is not told")
    api.withdraw("policies")
    agent.wait(lambda: not told(), 5, "nothing is told")


def test_policies_that_may_not_be_read(api, agent, client, service, greeters):
    """As with the rights of an older chart: it is said, and nothing waits for it."""
    agent.stop()
    with api.fault(refusal(403, "Forbidden", "peerauthentications is forbidden"), "peerauthentications"):
        agent.start(timeout=30)
        agent.wait(lambda: "peerauthentications is forbidden" in agent.log_tail(100), 10, "it is in the log")
        assert agent.metric("weir_kubernetes_followed", resource="peerauthentications") == 0
        agent.wait_enrolled(client)
        agent.wait_applied()
        follows(agent, client, service, greeters)


def test_the_meshs_configuration(api, agent, client, greeters, service):
    """The ConfigMap istio of istio-system, and no other one: here it says whom rules without exportTo are for."""
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "rule", "namespace": "another"},
        "spec": {"hosts": ["meshed.default.svc.cluster.local"], "http": [{"directResponse": {"status": 418}}]},
    }

    def mesh(text, name="istio"):
        metadata = {"name": name, "namespace": "istio-system"}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"mesh": text}}

    def obeyed():
        return bool(client.greet(meshed.target, "--rpcs", 1)["errors"])

    own = 'defaultVirtualServiceExportTo: ["."]\n'
    with service.lab.service("meshed", pods=greeters) as meshed:
        api.publish("rule", rule)
        agent.wait(obeyed, 10, "the rule is obeyed")
        api.publish("mesh", mesh(own, "another"))
        time.sleep(0.5)
        assert obeyed()
        api.publish("mesh", mesh(own))
        agent.wait(lambda: not obeyed(), 10, "the rule is for its own namespace")
        api.publish("mesh", mesh("defaultVirtualServiceExportTo: ["))
        agent.wait(lambda: finding_on(agent, "istio-system/istio"), 5, "there is a finding")
        assert not obeyed(), "the last good one stays"
        api.withdraw("mesh")
        agent.wait(obeyed, 10, "without it rules are for all")
        api.withdraw("rule")
