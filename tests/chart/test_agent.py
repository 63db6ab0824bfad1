"""What the chart says to the agent and asks of it exists in the agent's sources: flags, paths, metrics."""

import json
import re

import pytest
from agent_sources import USERSPACE, flags, series
from queries import labels_of, queries
from render import CHART, FULL, one, render


def test_queries_name_metrics_that_exist():
    known = series()
    for query in queries():
        named = set(labels_of(query))
        assert named and named <= known, query


def test_the_dashboard_is_one_that_grafana_takes():
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    panels = dashboard["panels"]
    assert len({p["id"] for p in panels}) == len(panels)
    # No two panels on one place, none beyond the 24 columns.
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells


@pytest.mark.parametrize("options", [{}, {"files": [FULL]}, {"values": {"fullnameOverride": "null", "clusterDomain": "1.5"}}])
def test_environment_names_flags_that_exist(options):
    variables = set(flags().values())
    env = one(render(**options), "DaemonSet")["spec"]["template"]["spec"]["containers"][0]["env"]
    names = [e["name"] for e in env]
    assert set(names) <= variables
    assert len(names) == len(set(names))
    for e in env:
        assert "valueFrom" in e or isinstance(e["value"], str), e


def test_values_reach_the_agent_as_they_are_written():
    env = one(render(files=[FULL]), "DaemonSet")["spec"]["template"]["spec"]["containers"][0]["env"]
    given = {e["name"]: e.get("value") for e in env}
    expected = {
        "WEIR_DAEMONSET": "grpc",
        "WEIR_LOG_LEVEL": "off",
        "WEIR_LOG_FORMAT": "json",
        "WEIR_ACCESS_LOG": "off",
        "WEIR_ACCESS_LOG_FORMAT": "json",
        "WEIR_CLUSTER_DOMAIN": "k8s.example.com",
        "WEIR_WORKERS": "2",
        "WEIR_REDIRECT": "off",
        "WEIR_DETECT": "off",
        "WEIR_LEARN_AFTER": "0",
        "WEIR_VERDICT_LIFETIME": "5m",
        "WEIR_VERDICT_SAMPLE": "16",
        "WEIR_EVENTS": "false",
        "WEIR_DRAIN_TIMEOUT": "1h",
        "WEIR_SEND_TIMEOUT": "10s",
        "WEIR_STREAM_IDLE_TIMEOUT": "5m",
        "WEIR_POD_MAX_CONNECTIONS": "1000000",
        "WEIR_POD_MAX_STREAMS": "2000",
        "WEIR_POD_MAX_MEMORY": "64MiB",
        "WEIR_CGROUP_ROOT": "/sys/fs/cgroup/kubelet/kubepods",
        "WEIR_METRICS_ADDRESS": "[::]:9090",
        "WEIR_LINGER": "50",
    }
    assert {name: given.get(name) for name in expected} == expected


def test_what_is_not_set_is_left_to_the_agent():
    env = one(render(), "DaemonSet")["spec"]["template"]["spec"]["containers"][0]["env"]
    names = {e["name"] for e in env}
    assert not names & {"WEIR_WORKERS", "WEIR_SEND_TIMEOUT", "WEIR_STREAM_IDLE_TIMEOUT", "WEIR_CGROUP_ROOT"}
    assert not {name for name in names if name.startswith(("WEIR_POD_MAX_", "WEIR_LEARN_", "WEIR_VERDICT_"))}


def test_the_agent_knows_its_memory_limit():
    def env(resources):
        container = one(render(values={"resources": resources}), "DaemonSet")["spec"]["template"]["spec"]["containers"][0]
        return {e["name"]: e.get("valueFrom") for e in container["env"]}

    limit = env({"limits": {"memory": "2Gi"}})["WEIR_MEMORY_LIMIT"]
    assert limit == {"resourceFieldRef": {"containerName": "weir-agent", "resource": "limits.memory"}}
    # Without a limit this would be the node's memory.
    assert "WEIR_MEMORY_LIMIT" not in env({"limits": {"memory": None}})


def test_paths_are_those_the_agent_has_by_default():
    """So that weirctl, run in the container, finds them without flags."""
    text = (USERSPACE / "flags.h").read_text() + "\n".join(p.read_text() for p in (USERSPACE / "control").glob("*.h"))
    mounts = {m["mountPath"] for m in one(render(), "DaemonSet")["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]}
    run = re.search(r'run_dir = "([^"]+)"', text)[1]
    pins = re.search(r'bpf_dir = "([^"]+)"', text)[1]
    assert run in mounts
    assert any(pins.startswith(mount + "/") for mount in mounts)
