"""The lab's YAML: what it writes is what any YAML reader reads."""

import pytest
import yaml
from lab import manifests

VALUES = [
    {},
    {"a": {}},
    {"a": []},
    {"list": [{"name": "x", "deep": [{"y": 1}, {"z": [1, 2]}]}, {"name": "w"}]},
    {"scalars": ["true", "no", "null", "1", "1.5", "0x10", "", " ", "a: b", "#x", "- x", "2001:db8::1", "10.0.0.1", "~", "*a"]},
    {"numbers": [0, -1, 1.5], "truth": [True, False, None]},
    {"kubernetes.io/service-name": "greeter", "weir.dev/dataplane": "enabled"},
    {"text": 'quotes " and \\ and\nlines, ünïcode'},
]


@pytest.mark.parametrize("value", VALUES)
def test_round_trip(value):
    assert yaml.safe_load(manifests.to_yaml(value)) == value


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "x.yaml"
    manifests.write(path, {"a": 1}, {"b": 2})
    manifests.write(path, {"a": 3}, {"b": 4})
    assert list(yaml.safe_load_all(path.read_text())) == [{"a": 3}, {"b": 4}]
    assert [p.name for p in tmp_path.iterdir()] == ["x.yaml"]
