"""Kubernetes objects of the lab, and their store of every day: YAML files, replaced atomically when they change."""

import json
import os
import re
from pathlib import Path

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_RESERVED = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def to_yaml(value, indent=0) -> str:
    """Block YAML of dicts, lists and scalars; text that could be read as anything else is quoted."""
    pad = "  " * indent
    if isinstance(value, dict) and value:
        lines = []
        for key, item in value.items():
            if isinstance(item, (dict, list)) and item:
                lines.append(f"{pad}{_scalar(key)}:\n{to_yaml(item, indent + 1)}")
            else:
                lines.append(f"{pad}{_scalar(key)}: {_scalar(item)}\n")
        return "".join(lines)
    if isinstance(value, list) and value:
        lines = []
        for item in value:
            if isinstance(item, (dict, list)) and item:
                lines.append(f"{pad}- {to_yaml(item, indent + 1).lstrip()}")
            else:
                lines.append(f"{pad}- {_scalar(item)}\n")
        return "".join(lines)
    return f"{pad}{_scalar(value)}\n"


def _scalar(value) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
        return value
    return json.dumps(value)


def write(path: Path, *objects: dict) -> None:
    """Writes the objects as one multi-document file; readers see the old or the new file, never a part."""
    text = "---\n".join(to_yaml(o) for o in objects)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


class Directory:
    """Keeps objects under keys of the lab's, a file each. lab.api_objects.ApiObjects does the same with an API server."""

    def __init__(self, path: Path):
        self.path = path

    def file(self, key: str) -> Path:
        return self.path / f"{key}.yaml"

    def publish(self, key: str, *objects: dict) -> list[dict]:
        """Replaces what the key holds; returns the objects as they are stored."""
        write(self.file(key), *objects)
        return list(objects)

    def withdraw(self, key: str) -> None:
        self.file(key).unlink(missing_ok=True)


def namespace(name: str, labels: dict) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name, **labels}},
    }


def pod(name, namespace_name, uid, ips, node_name, labels, annotations, containers, host_network=False) -> dict:
    metadata = {"name": name, "namespace": namespace_name, "uid": uid, "labels": labels}
    if annotations:
        metadata["annotations"] = annotations
    spec = {"nodeName": node_name, "serviceAccountName": "default"}
    if host_network:
        spec["hostNetwork"] = True
    spec["containers"] = [{"name": c, "image": f"localhost/{c}:1"} for c in containers]
    status = {"phase": "Running", "podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def service(name, namespace_name, cluster_ips, ports, annotations, external_ips=()) -> dict:
    metadata = {"name": name, "namespace": namespace_name}
    if annotations:
        metadata["annotations"] = annotations
    node_ports = any(port.node_port for port in ports)
    spec = {"type": "NodePort" if node_ports else "ClusterIP", "clusterIP": cluster_ips[0], "clusterIPs": cluster_ips}
    spec["ipFamilyPolicy"] = "PreferDualStack"
    spec["selector"] = {"app": name}
    if external_ips:
        spec["externalIPs"] = list(external_ips)
    spec["ports"] = [
        {k: v for k, v in vars(port).items() if v is not None and k in ("name", "port", "protocol")}
        | ({"appProtocol": port.app_protocol} if port.app_protocol is not None else {})
        | ({"nodePort": port.node_port} if port.node_port else {})
        | {"targetPort": port.target_port}
        for port in ports
    ]
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def endpoint_slice(service_name, namespace_name, family, ports, endpoints, node_name) -> dict:
    """`endpoints`: (address, Endpoint) pairs of one address family ("IPv4" or "IPv6")."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service_name}-{family.lower()}",
            "namespace": namespace_name,
            "labels": {"kubernetes.io/service-name": service_name},
        },
        "addressType": family,
        "ports": [{"name": port.name, "port": port.target_port, "protocol": port.protocol} for port in ports],
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {
                    "ready": endpoint.ready,
                    "serving": endpoint.serving,
                    "terminating": endpoint.terminating,
                },
                "nodeName": node_name,
                "targetRef": {
                    "kind": "Pod",
                    "name": endpoint.pod.name,
                    "namespace": endpoint.pod.namespace,
                    "uid": endpoint.pod.uid,
                },
            }
            for address, endpoint in endpoints
        ],
    }
