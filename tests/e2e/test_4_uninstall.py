"""helm uninstall takes everything with it, in the kernel, in pods and in the cluster."""

import pins
from kube import timed
from lab import processes
from objects import APP

LABELLED = "configmaps,services,serviceaccounts,daemonsets,pods,clusterroles,clusterrolebindings,roles,rolebindings"


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
    before = pins.ids(node)
    assert all(before.values())
    assert len(cluster.listening(APP, "client")) == 1
    asked_for = f"Namespace/{APP}: weir.dev/dataplane"

    with timed("helm uninstall, and the agent is gone"):
        cluster.helm("uninstall", "weir", "--wait")
        processes.wait_until(lambda: not cluster.agents(), 60, "no agent is left", interval=0.5)
    assert pins.pinned(node) == []
    processes.wait_until(lambda: not pins.existing(before), 10, "maps and links are gone", 0.5)
    assert cluster.listening(APP, "client") == []
    assert weir_labels(cluster) == [asked_for]
    assert cluster.get(LABELLED, "--all-namespaces", "--selector=app.kubernetes.io/instance=weir")["items"] == []
    assert node.run("sh", "-c", "ls -A /run/weir 2>/dev/null", check=False).stdout.split() == []


def test_the_application_goes_on_without_weir(cluster, target, weir):
    result = cluster.greet(APP, "client", target, "--rpcs", 30)
    assert result["errors"] == []
    assert len(result["backends"]) == 1
