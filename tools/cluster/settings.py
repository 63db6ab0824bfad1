"""Flags and configuration files of a node's programs."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .programs import CNI, PAUSE

DOMAIN = "cluster.local"
HERE = Path(__file__).resolve().parent
ETCD = "http://127.0.0.1:2379"
ETCD_PEER = "http://127.0.0.1:2380"
CONTAINERD = "/run/containerd/containerd.sock"
# To start Python costs more than runc does itself, and few containers ask for what a machine withholds.
RUNC = """#!/bin/sh
for argument; do
  for file in "$argument" "$argument/config.json"; do
    [ ! -f "$file" ] || ! grep -qE '"({withheld})"' "$file" || exec {here}/runc-caps "$@"
  done
done
exec runc "$@"
"""


@dataclass(frozen=True)
class Settings:
    folder: Path
    node: str = "node-1"
    address: str = "10.199.0.1"
    pods: str = "10.199.4.0/22"
    services: str = "10.199.8.0/22"
    first_service: str = "10.199.8.1"

    @property
    def server(self) -> str:
        return f"https://{self.address}:6443"

    @property
    def credentials(self) -> Path:
        return self.folder / "credentials"

    def kubeconfig(self, name: str) -> Path:
        return self.credentials / f"{name}.kubeconfig"

    def write(self) -> None:
        (self.folder / "cni").mkdir()
        for name, content in {
            "cni/10-pods.conflist": json.dumps(self._cni()),
            "containerd.toml": self._containerd(),
            "kubelet.yaml": json.dumps(self._kubelet()),
            "kube-proxy.yaml": json.dumps(self._kube_proxy()),
            "Corefile": self._coredns(),
            "runc": self._runc(),
        }.items():
            (self.folder / name).write_text(content)
        (self.folder / "runc").chmod(0o755)

    def etcd(self) -> list[str]:
        return [
            *("etcd", "--data-dir", str(self.folder / "etcd"), "--unsafe-no-fsync", "--log-level", "warn"),
            *("--listen-client-urls", ETCD, "--advertise-client-urls", ETCD, "--listen-peer-urls", ETCD_PEER),
            *("--initial-advertise-peer-urls", ETCD_PEER, "--initial-cluster", f"default={ETCD_PEER}"),
        ]

    def containerd(self) -> list[str]:
        return ["containerd", "--config", str(self.folder / "containerd.toml")]

    def api_server(self) -> list[str]:
        own = self.credentials
        return [
            *("kube-apiserver", f"--etcd-servers={ETCD}", f"--advertise-address={self.address}", "--secure-port=6443"),
            *(f"--service-cluster-ip-range={self.services}", "--allow-privileged=true"),
            *("--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"),
            *(f"--client-ca-file={own}/ca.crt", f"--tls-cert-file={own}/apiserver.crt", f"--tls-private-key-file={own}/apiserver.key"),
            f"--kubelet-client-certificate={own}/kubelet-client.crt",
            f"--kubelet-client-key={own}/kubelet-client.key",
            *(f"--kubelet-certificate-authority={own}/ca.crt", "--kubelet-preferred-address-types=InternalIP"),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={own}/service-accounts.pub",
            f"--service-account-signing-key-file={own}/service-accounts.key",
        ]

    def controller_manager(self) -> list[str]:
        return [
            *("kube-controller-manager", f"--kubeconfig={self.kubeconfig('kube-controller-manager')}", "--leader-elect=false"),
            *("--use-service-account-credentials=true", f"--root-ca-file={self.credentials}/ca.crt"),
            f"--service-account-private-key-file={self.credentials}/service-accounts.key",
            # Its default is a folder below /usr, which it would make.
            "--flex-volume-plugin-dir=/var/lib/kubelet/plugins",
        ]

    def scheduler(self) -> list[str]:
        return ["kube-scheduler", f"--kubeconfig={self.kubeconfig('kube-scheduler')}", "--leader-elect=false"]

    def kubelet(self) -> list[str]:
        return [
            *("kubelet", f"--config={self.folder}/kubelet.yaml", f"--kubeconfig={self.kubeconfig('kubelet')}"),
            *(f"--hostname-override={self.node}", f"--node-ip={self.address}"),
        ]

    def kube_proxy(self) -> list[str]:
        return ["kube-proxy", f"--config={self.folder}/kube-proxy.yaml"]

    def coredns(self) -> list[str]:
        return ["coredns", "-conf", f"{self.folder}/Corefile"]

    def _coredns(self) -> str:
        return f""".:53 {{
  bind {self.address}
  errors
  cache 5
  kubernetes {DOMAIN} {{
    kubeconfig {self.kubeconfig("coredns")}
  }}
}}
"""

    def _runc(self) -> str:
        withheld = subprocess.run([HERE / "runc-caps", "--withheld"], stdout=subprocess.PIPE, text=True, check=True)
        return RUNC.format(withheld=withheld.stdout.strip(), here=HERE)

    def _cni(self) -> dict:
        addresses = {"type": "host-local", "ranges": [[{"subnet": self.pods}]], "routes": [{"dst": "0.0.0.0/0"}]}
        # Routed, not bridged: bridged pods would answer each other past the service addresses' translation.
        return {"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": False, "ipam": addresses}]}

    def _containerd(self) -> str:
        # Nobody's score can be lowered without CAP_SYS_RESOURCE, and a container that asks for it would not start.
        return f"""version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI}"
    conf_dir = "{self.folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{self.folder}/runc"
"""

    def _kubelet(self) -> dict:
        own = self.credentials
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
            "cgroupDriver": "cgroupfs",
            # It refuses machines with cgroup v1 or hybrid ones otherwise.
            "failCgroupV1": False,
            "failSwapOn": False,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{own}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": f"{own}/kubelet-server.crt",
            "tlsPrivateKeyFile": f"{own}/kubelet-server.key",
            "clusterDomain": DOMAIN,
            "clusterDNS": [self.address],
            "resolvConf": "",
            "volumePluginDir": "/var/lib/kubelet/plugins",
            "maxPods": 250,
            # Images are never removed: they could not be fetched again.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        }

    def _kube_proxy(self) -> dict:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": str(self.kubeconfig("kube-proxy"))},
            "clusterCIDR": self.pods,
            "hostnameOverride": self.node,
            # Only the first network namespace may change these.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }
