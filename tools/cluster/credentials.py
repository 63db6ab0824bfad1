"""Keys, certificates and kubeconfigs of a node's control plane, made anew with each node."""

import json
from pathlib import Path

from lab.certificates import Authority

# name -> subject
CLIENTS = {
    "admin": "/O=system:masters/CN=admin",
    "kube-controller-manager": "/CN=system:kube-controller-manager",
    "kube-scheduler": "/CN=system:kube-scheduler",
    "kube-proxy": "/CN=system:kube-proxy",
    "coredns": "/O=system:masters/CN=coredns",
    "kubelet": "/O=system:nodes/CN=system:node:{node}",
    # The API server's own, towards the kubelet (logs, exec).
    "kubelet-client": "/O=system:masters/CN=kube-apiserver-kubelet-client",
}


def make(folder: Path, server: str, node: str, addresses: list[str]) -> None:
    """NAME.crt, NAME.key and NAME.kubeconfig of all clients; apiserver.*, kubelet-server.*, ca.* and service-accounts.*."""
    folder.mkdir(mode=0o700)
    authority = Authority(folder)
    authority.openssl("genrsa", "-out", "service-accounts.key", "2048")
    authority.openssl("rsa", "-in", "service-accounts.key", "-pubout", "-out", "service-accounts.pub")
    names = [*(f"IP:{address}" for address in addresses), f"DNS:{node}", "DNS:localhost", "DNS:kubernetes.default.svc"]
    for name in ("apiserver", "kubelet-server"):
        authority.sign(name, f"/CN={node}", ",".join(names))
    for name, subject in CLIENTS.items():
        certificate, key = authority.sign(name, subject.format(node=node))
        config = _kubeconfig(server, authority.certificate, name, certificate, key)
        (folder / f"{name}.kubeconfig").write_text(json.dumps(config))


def _kubeconfig(server: str, authority: Path, name: str, certificate: Path, key: Path) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "node", "cluster": {"server": server, "certificate-authority": str(authority)}}],
        "users": [{"name": name, "user": {"client-certificate": str(certificate), "client-key": str(key)}}],
        "contexts": [{"name": "node", "context": {"cluster": "node", "user": name}}],
        "current-context": "node",
    }
