"""Agents that come and go while RPCs run."""

import json
import time
from contextlib import contextmanager

from kube import SYSTEM, TAGS, timed
from objects import APP


@contextmanager
def load(cluster, target, *arguments):
    """RPCs on one channel for as long as the block takes; yields a function that ends them and returns the result."""
    process = cluster.start_greet(APP, "client", target, "--concurrency", 4, "--rate", 100, *arguments)

    def result() -> dict:
        cluster.kubectl("exec", f"--namespace={APP}", "client", "--", "/bin/bash", "-c", STOP)
        printed = process.communicate(timeout=30)[0].decode()
        return json.loads(printed.splitlines()[-1])

    try:
        time.sleep(2)
        yield result
    finally:
        process.kill()
        process.wait()


LONG = '--request={"seconds": 12}'
# The image has no pkill: bash looks for the client itself.
STOP = """for folder in /proc/[0-9]*; do
  mapfile -d '' -t argv <"$folder/cmdline" 2>/dev/null || continue
  [ "${argv[1]-}" != /apps/greeter_client.py ] || kill "${folder#/proc/}"
done"""


def test_an_update_fails_no_rpc(cluster, target, weir):
    before = cluster.agents()[0]["metadata"]["name"]
    # It begins at the old agent, which waits for it.
    long = cluster.start_greet(APP, "client", target, "--rpcs=1", "--method=Sleep", LONG, "--deadline=60")
    with load(cluster, target) as result:
        with timed("helm upgrade, rolled out"):
            cluster.install(TAGS[1])
        with timed("the old agent has drained"):
            agent = cluster.wait_one_agent(60, before)
        ended = json.loads(long.communicate(timeout=30)[0].splitlines()[-1])
        seen = result()
    assert (ended["ok"], ended["errors"]) == (1, [])
    assert agent["spec"]["containers"][0]["image"].endswith(f":{TAGS[1]}")
    assert seen["errors"] == []
    assert seen["ok"] > 200
    assert len(seen["backends"]) == 3
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
