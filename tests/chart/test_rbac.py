"""RBAC is exactly this set, and the agent makes use of all of it."""

import re

from render import FULL, OPERATOR, REPOSITORY, one, render

READ = ("get", "list", "watch")
EVERYWHERE = {
    ("", "pods", None, READ),
    ("", "namespaces", None, READ),
    ("", "nodes", None, READ),
    ("", "services", None, READ),
    ("", "configmaps", "istio", READ),
    ("discovery.k8s.io", "endpointslices", None, READ),
    ("networking.istio.io", "virtualservices", None, READ),
    ("networking.istio.io", "destinationrules", None, READ),
    ("networking.istio.io", "gateways", None, READ),
    ("security.istio.io", "authorizationpolicies", None, READ),
    ("security.istio.io", "requestauthentications", None, READ),
    ("security.istio.io", "peerauthentications", None, READ),
}
EVENTS = {("", "events", None, ("create", "patch"))}
LEASE = {
    ("coordination.k8s.io", "leases", None, ("create",)),
    ("coordination.k8s.io", "leases", "weir-events", ("get", "update")),
}


def granted(role: dict) -> set:
    rules = [
        (group, resource, name, tuple(rule["verbs"]))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [None])
    ]
    assert len(rules) == len(set(rules))
    return set(rules)


def test_rbac_is_exactly_this():
    full = {"files": [FULL], "apis": [OPERATOR]}  # without Events
    for options, events, lease in (({}, EVENTS, LEASE), (full, set(), set())):
        objects = render(**options)
        assert granted(one(objects, "ClusterRole")) == EVERYWHERE | events
        own = ("apps", "daemonsets", one(objects, "DaemonSet")["metadata"]["name"], READ)
        assert granted(one(objects, "Role")) == {own} | lease
        assert {o["kind"] for o in objects if "Role" in o["kind"]} == {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
        assert len([o for o in objects if "Role" in o["kind"]]) == 4


METHODS = {"create": "POST", "patch": "PATCH", "update": "PUT"}


def test_every_right_is_used():
    """Of what the rendered roles grant, every resource stands in the agent's sources, and where it is written to, so does the way."""
    sources = {path.name: path.read_text() for path in (REPOSITORY / "userspace/kubernetes").glob("*.cpp")}
    objects = render()
    for group, resource, _, verbs in granted(one(objects, "ClusterRole")) | granted(one(objects, "Role")):
        naming = [text for text in sources.values() if re.search(rf'["/]{resource}"', text) and group in text]
        assert naming, f"nothing asks for {resource} of '{group}'"
        for verb in set(verbs) & set(METHODS):
            assert any(f'"{METHODS[verb]}"' in text for text in naming), f"{verb} {resource}"


def test_none_if_not_wanted():
    objects = render(values={"rbac": {"create": False}, "serviceAccount": {"create": False, "name": "given"}})
    assert not {o["kind"] for o in objects} & {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "ServiceAccount"}
    assert one(objects, "DaemonSet")["spec"]["template"]["spec"]["serviceAccountName"] == "given"
