"""values.schema.json: what is wrong is refused, and the message says where and what would be right."""

import re

import pytest
import yaml
from render import CHART, Refused, template

DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
DURATION = "'^[0-9]+(ms|s|m|h)$'"

# what is given, words of the message
WRONG = [
    ({"loglevel": "debug"}, ["additional properties 'loglevel' not allowed"]),
    ({"image": {"repo": "x"}}, ["at '/image'", "'repo' not allowed"]),
    ({"image": {"repository": "Not An Image"}}, ["at '/image/repository'", "'Not An Image' does not match"]),
    ({"image": {"tag": 1.2}}, ["at '/image/tag'", "got number, want string"]),
    ({"image": {"digest": "sha256:12"}}, ["at '/image/digest'", "'sha256:12' does not match"]),
    ({"image": {"pullPolicy": "always"}}, ["at '/image/pullPolicy'", "'Always', 'IfNotPresent', 'Never'"]),
    ({"imagePullSecrets": ["registry"]}, ["at '/imagePullSecrets/0'", "got string, want object"]),
    ({"logLevel": "verbose"}, ["at '/logLevel'", "'trace', 'debug', 'info', 'warn', 'error', 'off'"]),
    ({"logLevel": False}, ["at '/logLevel'", "got boolean, want string"]),
    ({"logAsJson": "yes"}, ["at '/logAsJson'", "got string, want boolean"]),
    ({"accessLog": {"mode": "errors"}}, ["at '/accessLog/mode'", "'failed', 'all', 'off'"]),
    ({"clusterDomain": "cluster.local."}, ["at '/clusterDomain'"]),
    ({"workers": 0}, ["at '/workers'", "minimum: got 0, want 1"]),
    ({"workers": 65}, ["at '/workers'", "maximum: got 65, want 64"]),
    ({"redirect": "maybe"}, ["at '/redirect'", "'auto', 'on', 'off'"]),
    ({"detect": "off"}, ["at '/detect'", "got string, want boolean"]),
    ({"learnAfter": -1}, ["at '/learnAfter'", "minimum: got -1, want 0"]),
    ({"learnAfter": "never"}, ["at '/learnAfter'", "got string, want null or integer"]),
    ({"verdictLifetime": "60"}, ["at '/verdictLifetime'", DURATION]),
    ({"verdictSample": 1.5}, ["at '/verdictSample'", "got number, want null or integer"]),
    ({"events": "no"}, ["at '/events'", "got string, want boolean"]),
    ({"drainTimeout": "10 minutes"}, ["at '/drainTimeout'", DURATION]),
    ({"drainTimeout": 600}, ["at '/drainTimeout'", "got number, want string"]),
    ({"sendTimeout": "-1s"}, ["at '/sendTimeout'", DURATION]),
    ({"terminationGracePeriodSeconds": "10m"}, ["at '/terminationGracePeriodSeconds'", "got string, want null or integer"]),
    ({"podLimits": {"maxMemory": "256Mi"}}, ["at '/podLimits/maxMemory'", "(KiB|MiB|GiB)"]),
    ({"podLimits": {"maxStreams": 0}}, ["at '/podLimits/maxStreams'", "got 0, want 1"]),
    ({"podLimits": {"connections": 5}}, ["at '/podLimits'", "'connections' not allowed"]),
    ({"env": [{"value": "x"}]}, ["at '/env/0'", "missing property 'name'"]),
    ({"env": {"A": "b"}}, ["at '/env'", "got object, want array"]),
    ({"resources": {"limits": {"memory": "1GB"}}}, ["at '/resources/limits/memory'"]),
    ({"resources": {"limit": {}}}, ["at '/resources'", "'limit' not allowed"]),
    ({"nodeSelector": {"gpu": True}}, ["at '/nodeSelector/gpu'", "got boolean, want string"]),
    ({"tolerations": {"operator": "Exists"}}, ["at '/tolerations'", "got object, want array"]),
    ({"updateStrategy": {"type": "Recreate"}}, ["at '/updateStrategy/type'", "'RollingUpdate', 'OnDelete'"]),
    ({"podAnnotations": {"port": 80}}, ["at '/podAnnotations/port'", "got number, want string"]),
    ({"livenessProbe": {"httpGet": {}}}, ["at '/livenessProbe'", "'httpGet' not allowed"]),
    ({"seccompProfile": {"type": "Default"}}, ["at '/seccompProfile/type'", "'Localhost', 'RuntimeDefault', 'Unconfined'"]),
    ({"seccompProfile": {"localhostProfile": "../agent.json"}}, ["at '/seccompProfile/localhostProfile'"]),
    ({"seccompProfile": {"localhostProfile": "agent.json"}}, ["at '/seccompProfile/localhostProfile'"]),
    ({"kubeletRootDir": "var/lib/kubelet"}, ["at '/kubeletRootDir'"]),
    ({"runDir": "/run/weir/"}, ["at '/runDir'"]),
    ({"seLinuxOptions": {"kind": "spc_t"}}, ["at '/seLinuxOptions'", "'kind' not allowed"]),
    ({"metrics": {"port": 70000}}, ["at '/metrics/port'", "maximum: got 70,000, want 65,535"]),
    ({"metrics": {"address": "::"}}, ["at '/metrics/address'"]),
    ({"podMonitor": {"interval": "15"}}, ["at '/podMonitor/interval'", DURATION]),
    ({"networkPolicy": {"ingressFrom": "monitoring"}}, ["at '/networkPolicy/ingressFrom'", "got string, want array"]),
    ({"crds": True}, ["at '/crds'", "got boolean, want object"]),
    ({"fullnameOverride": "Weir"}, ["at '/fullnameOverride'"]),
]


@pytest.mark.parametrize("values,words", WRONG, ids=[str(v) for v, _ in WRONG])
def test_wrong_values_are_refused(values, words):
    with pytest.raises(Refused) as refused:
        template(values=values)
    for word in words:
        assert word in str(refused.value)


RIGHT = [
    {"global": {"imageRegistry": "x"}},  # of a chart that contains this one
    {"resources": {"requests": {"cpu": 1, "memory": "128Mi"}, "limits": {"memory": "1.5Gi"}}},
    {"drainTimeout": "0s", "workers": 64, "podLimits": {"maxMemory": "1GiB"}},
    {"updateStrategy": {"type": "OnDelete"}},
    {"learnAfter": 0, "verdictLifetime": "500ms", "verdictSample": 0},
    {"metrics": {"address": "[fd00::1]"}},
]


@pytest.mark.parametrize("values", RIGHT, ids=str)
def test_right_values_are_not(values):
    assert template(values=values)


def leaves(values: dict, path=()):
    for name, value in values.items():
        if isinstance(value, dict) and value and name not in ("nodeSelector",):
            yield from leaves(value, (*path, name))
        else:
            yield ".".join((*path, name))


def test_every_value_stands_in_the_readme_and_nothing_else():
    cells = re.findall(r"^\| (`[^|]+`) \|", (CHART / "README.md").read_text(), re.M)
    documented = [name for cell in cells for name in re.findall("`([^`]+)`", cell)]
    expected = set(leaves(DEFAULTS))
    # A row may stand for a whole map.
    missing = {leaf for leaf in expected if not any(leaf == d or leaf.startswith(d + ".") for d in documented)}
    unknown = {d for d in documented if not any(leaf == d or leaf.startswith(d + ".") for leaf in expected)}
    assert (missing, unknown) == (set(), set())
    assert len(documented) == len(set(documented))
