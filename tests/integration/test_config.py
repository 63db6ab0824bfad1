"""Manifests change while RPCs run: what is good is applied, what is bad is reported and leaves the last
good version in force, and no RPC fails."""

import json
import os
import time

import pytest
import yaml
from lab import manifests
from lab.service import Port


@pytest.fixture
def load(agent, client, service):
    """RPCs on one connection for the length of the test; none may fail."""
    process = client.start_greet(service.target, "--concurrency", 2, "--rate", 200)
    agent.wait_served(20)
    yield process
    result = client.finish_greet(process)
    assert result["errors"] == []
    assert result["ok"] >= 20


def findings(agent):
    return json.loads(agent.admin("/config_dump")[1])["findings"]


def wait_finding(agent, file, words):
    """The finding on that file, once there is one whose text has all the words."""

    def found():
        for finding in findings(agent):
            text = " ".join(str(v) for v in finding.values()).lower()
            if finding["file"].endswith(file) and all(w.lower() in text for w in words):
                return finding
        return None

    return agent.wait(found, 5, f"a finding on {file} that says {words}; there are {findings(agent)}")


def port_mode(agent, service, port):
    """What the BPF map says of a service port."""
    services = json.loads(agent.admin("/services")[1])["services"]
    return next(p["diverted_mode"] for s in services if s["name"] == service for p in s["ports"] if p["port"] == port)


def revision(agent):
    return json.loads(agent.admin("/config_dump")[1])["revision"]


def test_a_service_appears_changes_and_goes(lab, agent, client, greeters, load):
    with lab.service("late", ports=[Port("grpc", 6000, 50051)], pods=greeters) as late:
        appears_and_changes(agent, client, late)
    agent.wait_applied()


def appears_and_changes(agent, client, late):
    agent.wait_applied()
    client.wait_backends(late.target, 3)
    late.ports = [Port("grpc", 6001, 50051)]
    late.publish()
    agent.wait_applied()
    client.wait_backends(f"{late.vip}:6001", 3)
    # Not declared any more: not diverted as HTTP/2 on one connection.
    late.ports = [Port("tcp-late", 6001, 50051)]
    late.publish()
    agent.wait(lambda: port_mode(agent, "late", 6001) == "none", 5, "the port is not diverted")
    assert len(client.greet(f"{late.vip}:6001", "--rpcs", 60)["backends"]) == 1


PROTOCOLS = [
    (Port("grpc", 6100, 50051), True),
    (Port("grpc-api", 6100, 50051), True),
    (Port("http2", 6100, 50051), True),
    (Port("GRPC-x", 6100, 50051), True),
    (Port("web", 6100, 50051, app_protocol="grpc"), True),
    (Port("web", 6100, 50051, app_protocol="kubernetes.io/h2c"), True),
    (Port("web", 6100, 50051, app_protocol="h2"), True),
    (Port("api-port", 6100, 50051), True),  # nothing declared: detected
    (Port("http", 6100, 50051), True),  # HTTP/2 by prior knowledge
    (Port("tcp-x", 6100, 50051), False),
    (Port("grpc", 6100, 50051, app_protocol="tcp"), False),
    (Port("https", 6100, 50051), False),
]


@pytest.mark.parametrize("port,balanced", PROTOCOLS, ids=[f"{p.name}-{p.app_protocol}" for p, _ in PROTOCOLS])
def test_what_a_port_declares(lab, agent, client, greeters, port, balanced):
    with lab.service("declared", ports=[port], pods=greeters) as service:
        agent.wait_applied()
        result = client.greet(service.target, "--rpcs", 60)
    assert result["errors"] == []
    assert len(result["backends"]) == (3 if balanced else 1)


SLICE = {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1"}
# file name, content, words that the finding must have
BAD = [
    ("malformed.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: x\n", ["malformed.yaml"]),
    ("tabs.yaml", "apiVersion: v1\nkind:\tService\n\tmetadata: x\n", ["tabs.yaml"]),
    ("type.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: badtype}\nspec: {ports: [{port: fifty}]}\n", ["badtype", "port"]),
    ("noports.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: noports}\nspec: {clusterIP: 10.96.9.9}\n", ["noports", "ports"]),
    (
        "address.yaml",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: badaddress\n"
        "  labels: {kubernetes.io/service-name: greeter}\naddressType: IPv4\nports: [{name: grpc, port: 50051}]\n"
        "endpoints: [{addresses: [10.244.0.999]}]\n",
        ["badaddress", "10.244.0.999"],
    ),
    ("broken.json", '{"apiVersion": "v1", "kind": "Service", ', ["broken.json"]),
    ("list.yaml", "- just\n- a list\n", ["list.yaml"]),
    ("binary.yaml", "\0\1\2\xff\n", ["binary.yaml"]),
]


@pytest.mark.parametrize("file,content,words", BAD, ids=[b[0] for b in BAD])
def test_bad_files(lab, agent, client, service, load, file, content, words):
    path = lab.manifests / file
    path.write_text(content)
    finding = wait_finding(agent, file, words)
    assert finding["line"] >= 1 or file == "binary.yaml"
    client.wait_backends(service.target, 3)
    path.unlink()
    agent.wait(lambda: not any(f["file"].endswith(file) for f in findings(agent)), 5, "the finding is gone")


def test_the_last_good_version_stays(lab, agent, client, service, greeters, load):
    good = service.slices_manifest.read_text()
    service.slices_manifest.write_text(good.replace(f'"{greeters[0].ip}"', '"10.244.0.x"'))
    wait_finding(agent, service.slices_manifest.name, ["10.244.0.x"])
    client.wait_backends(service.target, 3)
    service.slices_manifest.write_text("{{{{")
    wait_finding(agent, service.slices_manifest.name, [])
    client.wait_backends(service.target, 3)
    service.publish()
    agent.wait(lambda: not any("greeter" in f["object"] for f in findings(agent)), 5, "the finding is gone")


def test_good_objects_beside_a_bad_one_are_applied(lab, agent, client, greeters, load):
    path = lab.manifests / "mixed.yaml"
    with lab.service("mixed", ports=[Port("grpc", 6200, 50051)]) as mixed:
        write_good_beside_bad(lab, path, mixed, greeters)
        wait_finding(agent, "mixed.yaml", ["bad"])
        agent.wait(lambda: len(client.greet(mixed.target, "--rpcs", 60)["backends"]) == 3, 10, "the slice is applied")
        path.unlink()


def write_good_beside_bad(lab, path, mixed, greeters):
    slices = manifests.endpoint_slice("mixed", "default", "IPv4", mixed.ports, [], lab.node_name)
    slices["metadata"]["name"] = "mixed-more"
    slices["endpoints"] = [{"addresses": [g.ip], "conditions": {"ready": True}} for g in greeters]
    bad = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bad"}, "spec": {"ports": "none"}}
    manifests.write(path, bad, slices)


def test_json_files(lab, agent, client, greeters, load):
    with lab.service("json", ports=[Port("grpc", 6300, 50051)], pods=greeters) as service:
        files = (service.manifest, service.slices_manifest)
        objects = [found for file in files for found in yaml.safe_load_all(file.read_text())]
        for file in files:
            file.unlink()
        path = lab.manifests / "all.json"
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        agent.wait_applied()
        client.wait_backends(service.target, 3)
        path.unlink()


def test_a_ten_megabyte_file(lab, agent, client, service, load):
    path = lab.manifests / "huge.yaml"
    path.write_text("# filler\n" * (10 * (1 << 20) // 9) + "apiVersion: v1\nkind: Namespace\nmetadata: {name: huge}\n")
    finding = wait_finding(agent, "huge.yaml", [])
    assert finding["code"] == "WEIR0003" and "split" in finding["fix"]
    path.unlink()
    agent.wait(lambda: not any(f["file"].endswith("huge.yaml") for f in findings(agent)), 5, "the finding is gone")


def test_a_directory_that_vanishes(lab, agent, client, service, greeters, load):
    away = lab.manifests.with_name("away")
    os.rename(lab.manifests, away)
    time.sleep(1.5)
    client.wait_backends(service.target, 3)
    os.rename(away, lab.manifests)
    service.set_ready(greeters[0], False)
    agent.wait_applied(timeout=10)
    service.set_ready(greeters[0], True)
    agent.wait_applied()
    client.wait_backends(service.target, 3)


def test_an_emptied_and_refilled_directory(lab, agent, client, service, load):
    """As a ConfigMap volume is swapped: the running connection keeps its service's last snapshot meanwhile."""
    kept = {path.name: path.read_text() for path in lab.manifests.iterdir()}
    staged = lab.manifests.with_name("staged")
    staged.mkdir()
    for name, text in kept.items():
        (staged / name).write_text(text)
    old = lab.manifests.with_name("old")
    os.rename(lab.manifests, old)
    os.rename(staged, lab.manifests)
    time.sleep(1.5)
    client.wait_backends(service.target, 3)


def test_many_changes_in_a_row(lab, agent, service, greeters, load):
    before = revision(agent)
    for i in range(100):
        service.set_ready(greeters[i % 3], i % 2 == 0)
    for greeter in greeters:
        service.set_ready(greeter, True)
    agent.wait_applied()
    assert revision(agent) > before


STORM = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: storm}}
spec:
  hosts: [greeter]
  http:
  - timeout: {timeout}s
    route:
    - {{destination: {{host: greeter, subset: one}}, weight: {weight}}}
    - {{destination: {{host: greeter, subset: two}}, weight: {rest}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: storm}}
spec:
  host: greeter
  subsets:
  - {{name: one, labels: {{}}, trafficPolicy: {{loadBalancer: {{simple: {balancing}}}}}}}
  - {{name: two, labels: {{}}}}
"""


def test_a_hundred_changes_a_second(lab, agent, client, service, greeters, load):
    """For a minute, under load: routes, rules and endpoints in turn. What counts in the end is the last version."""
    path, staged = lab.manifests / "storm.yaml", lab.manifests / "staged"

    def write(target, text):
        staged.write_text(text)
        os.rename(staged, target)

    slices = []
    for greeter in greeters:
        service.set_ready(greeter, False)
        slices.append(service.slices_manifest.read_text())
        service.set_ready(greeter, True)
    slices.append(service.slices_manifest.read_text())
    before, begin = revision(agent), time.monotonic()
    for number in range(6000):
        if number % 2:
            write(service.slices_manifest, slices[number // 2 % 4])
        else:
            balancing = "RANDOM" if number % 4 else "ROUND_ROBIN"
            weight = number // 2 % 101
            write(path, STORM.format(timeout=5 + number % 3, weight=weight, rest=100 - weight, balancing=balancing))
        time.sleep(max(0, begin + (number + 1) / 100 - time.monotonic()))
    assert time.monotonic() - begin < 66, "the machine was too slow for a hundred changes a second"
    write(service.slices_manifest, slices[-1])
    agent.wait_applied()
    assert revision(agent) - before > 200, "changes are applied together, but not more than 200 ms late"
    client.wait_backends(service.target, 3)
    path.unlink()
    agent.wait_applied()


def test_kinds_that_are_not_applied_are_said(lab, agent, load):
    path = lab.manifests / "policy.yaml"
    path.write_text(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: deny, namespace: default}\nspec: {}\n"
    )
    assert wait_finding(agent, "policy.yaml", ["AuthorizationPolicy"])["severity"] == "error"
    path.unlink()
