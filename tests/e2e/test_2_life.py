"""Agents that come and go while RPCs run."""

import time

from kube import SYSTEM, TAGS, load, timed
from objects import APP

LONG = '--request={"seconds": 12}'


def test_an_update_fails_no_rpc(cluster, target, weir):
    before = cluster.agents()[0]["metadata"]["name"]
    # It begins at the old agent, which waits for it.
    long = cluster.start_greet(APP, "client", target, "--rpcs=1", "--method=Sleep", LONG, "--deadline=60")
    with load(cluster, target) as result, load(cluster, target, "--reconnect") as dialling:
        with timed("helm upgrade, rolled out"):
            cluster.install(TAGS[1])
        with timed("the old agent has drained"):
            agent = cluster.wait_one_agent(60, before)
        ended = long.result()
        seen, dialled = result(), dialling()
    assert (ended["ok"], ended["errors"]) == (1, [])
    assert agent["spec"]["containers"][0]["image"].endswith(f":{TAGS[1]}")
    assert seen["errors"] == []
    assert seen["ok"] > 200
    assert len(seen["backends"]) == 3
    assert dialled["errors"] == []
    assert dialled["ok"] > 100
    assert f"{APP}/client" in cluster.enrolled()


def test_rpcs_go_on_when_the_agents_pod_is_deleted(cluster, target, weir):
    before = cluster.agents()[0]["metadata"]["name"]
    with load(cluster, target) as result:
        with timed("kubectl delete pod, and its successor is ready"):
            cluster.kubectl("delete", "pod", before, f"--namespace={SYSTEM}", "--wait=false")
            agent = cluster.wait_one_agent(60, before)
            ready = ["wait", f"--namespace={SYSTEM}", f"pod/{agent['metadata']['name']}", "--for=condition=Ready"]
            cluster.kubectl(*ready, "--timeout=60s", timeout=70)
        time.sleep(2)
        seen = result()
    assert seen["errors"] == []
    # New connections are balanced again.
    assert len(cluster.greet(APP, "client", target, "--rpcs", 60)["backends"]) == 3
