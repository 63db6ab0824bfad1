"""helm uninstall takes everything with it, in the kernel, in pods and in the cluster."""

import json

from kube import timed
from lab import processes
from objects import APP

LABELLED = "configmaps,services,serviceaccounts,daemonsets,pods,clusterroles,clusterrolebindings,roles,rolebindings"


def pinned(node) -> list[str]:
    return node.run("find", "/sys/fs/bpf/weir", "-type", "f", check=False).stdout.split()


def existing(node, kind: str, ids: set[int]) -> set[int]:
    """Those of the ids that the kernel still has; the machine may have other agents."""
    return ids & {entry["id"] for entry in json.loads(node.run("bpftool", "--json", kind, "show").stdout)}


def listening(cluster) -> list[str]:
    """Local addresses that listen in the client's pod."""
    rows = cluster.kubectl("exec", f"--namespace={APP}", "client", "--", "cat", "/proc/net/tcp").splitlines()[1:]
    return [row.split()[1] for row in rows if row.split()[3] == "0A"]


def weir_labels(cluster) -> list[str]:
    found = cluster.get("nodes,namespaces,pods", "--all-namespaces")["items"]
    return [
        f"{item['kind']}/{item['metadata']['name']}: {label}"
        for item in found
        for label in [*item["metadata"].get("labels", {}), *item["metadata"].get("annotations", {})]
        if label.startswith("weir.dev/")
    ]


def test_uninstall_leaves_nothing_behind(cluster, target, weir):
    node = cluster.node
    kinds = {"maps": "map", "links": "link"}
    pins = pinned(node)
    ids = {
        kind: {
            json.loads(node.run("bpftool", "--json", kind, "show", "pinned", path).stdout)["id"]
            for path in pins
            if f"/{folder}/" in path
        }
        for folder, kind in kinds.items()
    }
    assert all(ids.values())
    assert len(listening(cluster)) == 1
    asked_for = f"Namespace/{APP}: weir.dev/dataplane"

    with timed("helm uninstall, and the agent is gone"):
        cluster.helm("uninstall", "weir", "--wait")
        processes.wait_until(lambda: not cluster.agents(), 60, "no agent is left", interval=0.5)
    assert pinned(node) == []
    processes.wait_until(lambda: not any(existing(node, kind, ids[kind]) for kind in ids), 10, "maps and links are gone", 0.5)
    assert listening(cluster) == []
    assert weir_labels(cluster) == [asked_for]
    assert cluster.get(LABELLED, "--all-namespaces", "--selector=app.kubernetes.io/instance=weir")["items"] == []
    assert node.run("sh", "-c", "ls -A /run/weir 2>/dev/null", check=False).stdout.split() == []


def test_the_application_goes_on_without_weir(cluster, target, weir):
    result = cluster.greet(APP, "client", target, "--rpcs", 30)
    assert result["errors"] == []
    assert len(result["backends"]) == 1
