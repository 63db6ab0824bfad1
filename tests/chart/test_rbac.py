"""RBAC is exactly this set."""

from render import FULL, OPERATOR, one, render

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
    ("", "events", None, ("create", "patch")),
    ("events.k8s.io", "events", None, ("create", "patch")),
}


def own_namespace(name: str) -> set:
    return {
        ("coordination.k8s.io", "leases", None, ("create",)),
        ("coordination.k8s.io", "leases", "weir-events", ("get", "update")),
        ("apps", "daemonsets", name, READ),
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
    for options in ({}, {"files": [FULL], "apis": [OPERATOR]}):
        objects = render(**options)
        assert granted(one(objects, "ClusterRole")) == EVERYWHERE
        assert granted(one(objects, "Role")) == own_namespace(one(objects, "DaemonSet")["metadata"]["name"])
        assert {o["kind"] for o in objects if "Role" in o["kind"]} == {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
        assert len([o for o in objects if "Role" in o["kind"]]) == 4


def test_none_if_not_wanted():
    objects = render(values={"rbac": {"create": False}, "serviceAccount": {"create": False, "name": "given"}})
    assert not {o["kind"] for o in objects} & {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "ServiceAccount"}
    assert one(objects, "DaemonSet")["spec"]["template"]["spec"]["serviceAccountName"] == "given"
