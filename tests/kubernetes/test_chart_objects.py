"""A real API server takes every object of the chart as Helm renders it, and takes no field for what it is not."""

import pytest
import yaml
from render import FULL, OPERATOR, one, render

VARIANTS = {
    "default": {},
    "full": {"files": [FULL], "apis": [OPERATOR]},
}


@pytest.fixture(scope="module")
def cluster(plane):
    """With the namespaces that the objects are for, and with the Prometheus operator's kinds."""
    for namespace in ("weir-system", "monitoring"):
        plane.kubectl("create", "namespace", namespace)
    plane.apply_crds(tool="prometheus-crds")
    return plane


def dry_run(cluster, objects, check=True):
    text = yaml.safe_dump_all(objects)
    return cluster.kubectl(
        *("apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename=-"), input=text, check=check
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_api_server_accepts_every_object(cluster, variant):
    objects = render(**VARIANTS[variant])
    taken = dry_run(cluster, objects).stdout.splitlines()
    assert len(taken) == len(objects)
    assert all(line.endswith("serverside-applied (server dry run)") for line in taken)


@pytest.mark.parametrize("kind", ["DaemonSet", "PodMonitor", "PrometheusRule", "ClusterRole"])
def test_it_would_not_accept_a_field_that_the_kind_does_not_have(cluster, kind):
    wrong = one(render(**VARIANTS["full"]), kind)
    wrong.setdefault("spec" if "spec" in wrong else "metadata", {})["noSuchField"] = 1
    refused = dry_run(cluster, [wrong], check=False)
    assert refused.returncode != 0
    assert "noSuchField" in refused.stderr
