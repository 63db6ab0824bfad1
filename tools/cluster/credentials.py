"""Keys, certificates and kubeconfigs of a node's control plane, made anew with each node."""

import json
from pathlib import Path

import oci

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
# name -> subject: the user is its CN, the groups are its O.
CLIENTS = {
    "admin": "/O=system:masters/CN=admin",
    "kube-controller-manager": "/CN=system:kube-controller-manager",
    "kube-scheduler": "/CN=system:kube-scheduler",
    "kube-proxy": "/CN=system:kube-proxy",
    "kubelet": "/O=system:nodes/CN=system:node:{node}",
    # The API server's own, towards the kubelet (logs, exec).
    "kubelet-client": "/O=system:masters/CN=kube-apiserver-kubelet-client",
}


def make(folder: Path, server: str, node: str, addresses: list[str]) -> None:
    """NAME.crt, NAME.key and NAME.kubeconfig of all clients; apiserver.*, kubelet-server.*, ca.* and service-accounts.*."""
    folder.mkdir(mode=0o700)
    ca = ["-keyout", folder / "ca.key", "-out", folder / "ca.crt"]
    oci.output("openssl", "req", "-x509", *KEY, "-subj", "/CN=weir-cluster", *ca)
    oci.output("openssl", "genrsa", "-out", folder / "service-accounts.key", "2048")
    oci.output("openssl", "rsa", "-in", folder / "service-accounts.key", "-pubout", "-out", folder / "service-accounts.pub")
    names = [*(f"IP:{address}" for address in addresses), f"DNS:{node}", "DNS:localhost", "DNS:kubernetes.default.svc"]
    for name in ("apiserver", "kubelet-server"):
        _certificate(folder, name, f"/CN={node}", "-addext", f"subjectAltName={','.join(names)}")
    for name, subject in CLIENTS.items():
        _certificate(folder, name, subject.format(node=node))
        (folder / f"{name}.kubeconfig").write_text(json.dumps(_kubeconfig(folder, name, server)))


def _certificate(folder: Path, name: str, subject: str, *more: str) -> None:
    signed = ["-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"]
    files = ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt"]
    oci.output("openssl", "req", "-x509", *KEY, *signed, "-subj", subject, *more, *files)


def _kubeconfig(folder: Path, name: str, server: str) -> dict:
    user = {"client-certificate": str(folder / f"{name}.crt"), "client-key": str(folder / f"{name}.key")}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "node", "cluster": {"server": server, "certificate-authority": str(folder / "ca.crt")}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "node", "context": {"cluster": "node", "user": name}}],
        "current-context": "node",
    }
