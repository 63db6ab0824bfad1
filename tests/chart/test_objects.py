"""Every object that the chart renders: names, labels, references to one another."""

import json
import re

import pytest
import yaml
from render import CHART, FULL, OPERATOR, Refused, one, render

NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
VARIANTS = {
    "default": {},
    "full": {"files": [FULL], "apis": [OPERATOR]},
    "an older cluster": {"kubernetes": "1.25.0"},
    "a long release name": {"values": {"nameOverride": "a" * 52}},
    "names that YAML takes for something else": {
        "release": "1e3",
        "values": {"nameOverride": "123", "fullnameOverride": "null", "priorityClassName": "on", "clusterDomain": "1.5"},
    },
}


@pytest.fixture(params=VARIANTS, scope="module")
def objects(request):
    return render(**VARIANTS[request.param])


@pytest.fixture(scope="module")
def default():
    return render()


def agent_of(objects) -> dict:
    pod = one(objects, "DaemonSet")["spec"]["template"]["spec"]
    assert [c["name"] for c in pod["containers"]] == ["weir-agent"]
    return pod["containers"][0]


def test_every_object_is_well_formed(objects):
    for o in objects:
        metadata, what = o["metadata"], f"{o['kind']} {o['metadata']['name']}"
        longest = 253 if o["kind"].startswith("ClusterRole") else 63
        assert o["apiVersion"] and NAME.fullmatch(metadata["name"]) and len(metadata["name"]) <= longest, what
        assert ("namespace" in metadata) == (o["kind"] not in CLUSTER_WIDE), what
        labels = metadata["labels"]
        for name in ("name", "instance", "component", "version", "part-of", "managed-by"):
            assert labels[f"app.kubernetes.io/{name}"], f"{what}: {name}"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        for value in labels.values():
            assert isinstance(value, str) and LABEL_VALUE.fullmatch(value) and len(value) <= 63, what
        for value in metadata.get("annotations", {}).values():
            assert isinstance(value, str), what
    identities = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects]
    assert len(identities) == len(set(identities))


def test_selectors_find_the_agents_and_nothing_else(objects):
    daemonset = one(objects, "DaemonSet")
    labels = daemonset["spec"]["template"]["metadata"]["labels"]
    test_pod = one(objects, "Pod")["metadata"]["labels"]
    selectors = [o["spec"]["selector"] for o in objects if o["kind"] == "Service"]
    selectors += [o["spec"]["selector"]["matchLabels"] for o in objects if o["kind"] in ("DaemonSet", "PodMonitor")]
    selectors += [o["spec"]["podSelector"]["matchLabels"] for o in objects if o["kind"] == "NetworkPolicy"]
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert not selector.items() <= test_pod.items()


def test_references_hold(objects):
    pod = one(objects, "DaemonSet")["spec"]["template"]["spec"]
    account = one(objects, "ServiceAccount")["metadata"]
    assert pod["serviceAccountName"] == account["name"]
    for binding in [o for o in objects if o["kind"].endswith("RoleBinding")]:
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}]
        role = one(objects, binding["roleRef"]["kind"])
        assert role["metadata"]["name"] == binding["roleRef"]["name"]
    volumes = {v["name"]: v for v in pod["volumes"]}
    used = {m["name"] for c in [*pod["containers"], *pod.get("initContainers", [])] for m in c["volumeMounts"]}
    assert used == set(volumes)
    config_maps = {o["metadata"]["name"] for o in objects if o["kind"] == "ConfigMap"}
    assert {v["configMap"]["name"] for v in volumes.values() if "configMap" in v} <= config_maps


def test_the_profile_is_installed_where_the_kubelet_looks_for_it(objects):
    pod = one(objects, "DaemonSet")["spec"]["template"]["spec"]
    profile = pod["containers"][0]["securityContext"]["seccompProfile"]
    install = next(c for c in pod["initContainers"] if c["name"] == "install-seccomp-profile")
    folder = next(v for v in pod["volumes"] if v["name"] == "seccomp-folder")["hostPath"]["path"]
    name = {e["name"]: e["value"] for e in install["env"]}["NAME"]
    assert profile["type"] == "Localhost"
    assert f"{folder}/{name}".endswith(f"/seccomp/{profile['localhostProfile']}")


def test_privileges_of_the_agent(default):
    pod = one(default, "DaemonSet")["spec"]["template"]["spec"]
    context = agent_of(default)["securityContext"]
    assert pod["hostPID"] is True and "hostNetwork" not in pod and "hostIPC" not in pod
    assert context["privileged"] is False and context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"], "add": ["BPF", "NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE"]}
    assert context["appArmorProfile"] == {"type": "Unconfined"}
    mounts = {m["mountPath"]: m for m in agent_of(default)["volumeMounts"]}
    assert mounts.keys() == {"/run/weir", "/sys/fs/bpf", "/sys/fs/cgroup"}
    assert mounts["/sys/fs/cgroup"]["readOnly"] is True
    assert not any("hostPort" in port for port in agent_of(default)["ports"])


def test_who_is_privileged():
    """Nothing but the container that mounts bpffs; without it nobody."""

    def privileged(**values):
        pod = one(render(values=values), "DaemonSet")["spec"]["template"]["spec"]
        containers = [*pod.get("initContainers", []), *pod["containers"]]
        return [c["name"] for c in containers if c["securityContext"].get("privileged")]

    assert privileged() == ["mount-bpffs"]
    assert privileged(bpffs={"autoMount": False}) == []
    assert privileged(bpffs={"autoMount": False}, seccompProfile={"type": "Unconfined"}) == []


@pytest.mark.parametrize(
    "values,profile,installs",
    [
        ({}, {"type": "Localhost", "localhostProfile": "weir/agent.json"}, True),
        ({"install": False}, {"type": "Localhost", "localhostProfile": "weir/agent.json"}, False),
        ({"type": "RuntimeDefault"}, {"type": "RuntimeDefault"}, False),
        ({"type": "Unconfined"}, {"type": "Unconfined"}, False),
    ],
)
def test_seccomp(values, profile, installs):
    objects = render(values={"seccompProfile": values})
    pod = one(objects, "DaemonSet")["spec"]["template"]
    assert agent_of(objects)["securityContext"]["seccompProfile"] == profile
    assert ("install-seccomp-profile" in [c["name"] for c in pod["spec"]["initContainers"]]) == installs
    assert ("checksum/seccomp" in pod["metadata"]["annotations"]) == installs
    assert any(o["metadata"]["name"].endswith("-seccomp") for o in objects) == installs


def test_apparmor_is_an_annotation_before_1_30():
    annotation = "container.apparmor.security.beta.kubernetes.io/weir-agent"
    for kubernetes, field in (("1.29.9", False), ("1.30.0", True), ("1.30.1-eks-123", True)):
        objects = render(kubernetes=kubernetes)
        assert ("appArmorProfile" in agent_of(objects)["securityContext"]) == field, kubernetes
        annotations = one(objects, "DaemonSet")["spec"]["template"]["metadata"]["annotations"]
        assert annotations.get(annotation) == (None if field else "unconfined"), kubernetes


@pytest.mark.parametrize(
    "drain,grace,seconds",
    [("10m", None, 630), ("90s", None, 120), ("1h", None, 3630), ("1500ms", None, 32), ("0s", None, 30), ("10m", 601, 601)],
)
def test_grace_period(drain, grace, seconds):
    objects = render(values={"drainTimeout": drain, "terminationGracePeriodSeconds": grace})
    assert one(objects, "DaemonSet")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == seconds


def test_a_grace_period_that_cuts_the_drain_short_is_refused():
    with pytest.raises(Refused, match=r"terminationGracePeriodSeconds \(600\) must exceed drainTimeout \(10m\)"):
        render(values={"terminationGracePeriodSeconds": 600})


def test_the_image():
    def image(**values):
        return agent_of(render(values={"image": {"repository": "r.example/w", **values}}))["image"]

    digest = "sha256:" + "0a" * 32
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert image() == f"r.example/w:{version}"
    assert image(tag="v9") == "r.example/w:v9"
    assert image(tag="v9", digest=digest) == f"r.example/w@{digest}"


def test_monitoring_needs_the_operator():
    asked = {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}
    kinds = {"PodMonitor", "PrometheusRule"}
    assert not kinds & {o["kind"] for o in render(values=asked)}
    assert kinds <= {o["kind"] for o in render(values=asked, apis=[OPERATOR])}
    assert not kinds & {o["kind"] for o in render(apis=[OPERATOR])}


def test_custom_resource_definitions():
    crds = [o for o in render(values={"crds": {"install": True}}) if o["kind"] == "CustomResourceDefinition"]
    assert {c["spec"]["names"]["kind"] for c in crds} == {"VirtualService", "DestinationRule", "Gateway"}
    for crd in crds:
        names = crd["spec"]["names"]
        assert crd["metadata"]["name"] == f"{names['plural']}.networking.istio.io"
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert [(v["name"], v["storage"]) for v in crd["spec"]["versions"]] == [("v1", True), ("v1beta1", False), ("v1alpha3", False)]
    assert not [o for o in render() if o["kind"] == "CustomResourceDefinition"]


def test_a_name_that_no_service_may_have_is_refused():
    for options in ({"values": {"fullnameOverride": "123"}}, {"release": "1weir"}):
        with pytest.raises(Refused, match="a Service's name has to begin with a letter: set fullnameOverride"):
            render(**options)


def test_nothing_of_the_helm_test_stays():
    """Hooks are no part of the release: what is left of one after its end nobody uninstalls."""
    annotations = one(render(), "Pod")["metadata"]["annotations"]
    assert set(annotations["helm.sh/hook-delete-policy"].split(",")) == {"before-hook-creation", "hook-succeeded", "hook-failed"}
    assert annotations["helm.sh/hook-output-log-policy"] == "hook-failed"


def test_two_releases_share_no_name():
    def names(release):
        objects = render(release=release)
        return {(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects}

    assert not names("one") & names("other")


# What a node agent never does and an attacker in it would like to.
NEVER = """add_key create_module delete_module finit_module fsopen init_module kexec_file_load kexec_load keyctl mount
mount_setattr move_mount name_to_handle_at open_by_handle_at perf_event_open pivot_root process_vm_readv process_vm_writev
ptrace quotactl reboot request_key sethostname settimeofday swapon umount2 unshare userfaultfd""".split()


def test_the_seccomp_profile():
    text = one(render(), "ConfigMap", "-seccomp")["data"]["seccomp.json"]
    profile = json.loads(text)
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    names = [name for rule in profile["syscalls"] for name in rule["names"]]
    assert len(names) == len(set(names))
    assert {"io_uring_setup", "io_uring_enter", "io_uring_register", "bpf", "setns", "clone3"} <= set(names)
    assert not set(NEVER) & set(names)
